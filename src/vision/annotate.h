/*
 * annotate.h - draw a page's layout into its picture, for people who look.
 */
#ifndef OCR_ANNOTATE_H
#define OCR_ANNOTATE_H

#include "base/status.h"
#include "base/types.h"

/* Bytes of annotate_picture's block. OCR_IMAGE_UNSUPPORTED if the picture is too long for a JPEG.
 */
OcrCode annotate_bytes(const OcrImageInfo *image, size_t *bytes, OcrError *err);

/*
 * The upright picture as a JPEG in the block, with a frame for each box, in a
 * colour that its label decides, and on it the number of its block and the label.
 * Regions without a box are left out. Lines and letters grow with the picture.
 * interrupted may be NULL (OCR_INTERRUPTED).
 */
OcrCode annotate_picture(const OcrAnnotation *annotation, bool (*interrupted)(void), void *block,
                         OcrBytes *jpeg, OcrError *err);

#endif
