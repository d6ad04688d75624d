/*
 * jpeg_write.h - a picture as a JPEG file.
 */
#ifndef OCR_JPEG_WRITE_H
#define OCR_JPEG_WRITE_H

#include "base/status.h"
#include "vision/image.h"

/* Longest side that a JPEG can have. */
#define JPEG_MAX_SIDE 65500

/* Room enough for any picture of that size. */
size_t jpeg_write_bytes(int width, int height);

/*
 * Write the picture, whose sides are at most JPEG_MAX_SIDE, to buffer
 * [jpeg_write_bytes]; *size is what it takes of it. interrupted may be NULL; it is
 * polled every few rows (OCR_INTERRUPTED).
 */
OcrCode jpeg_write(const RgbImage *picture, bool (*interrupted)(void), uint8_t *buffer,
                   size_t *size, OcrError *err);

#endif
