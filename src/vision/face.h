/*
 * face.h - a small face of letters for labels in a picture.
 */
#ifndef OCR_FACE_H
#define OCR_FACE_H

#include <stdbool.h>

#define FACE_WIDTH 5
#define FACE_HEIGHT 8 /* the last row is below the base line */

/* For what is not printable ASCII: an empty box. */
#define FACE_UNKNOWN 0x7F

/* Is there ink in column x, row y of a character from 0x20 to FACE_UNKNOWN? */
bool face_ink(char character, int x, int y);

#endif
