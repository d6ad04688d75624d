/*
 * exif.h - the orientation that a camera or scanner noted.
 */
#ifndef OCR_EXIF_H
#define OCR_EXIF_H

#include "base/types.h"

/* Orientation 1..8 of a TIFF block (in JPEG's APP1, PNG's eXIf); 1 if it is absent or broken. */
int exif_orientation(OcrBytes tiff);

#endif
