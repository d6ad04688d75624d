/*
 * image.h - from the bytes of a file to 8-bit RGB, upright (spec 2.2).
 *
 * image_probe reads headers only and never allocates; image_decode fills a
 * caller's buffer. Formats are recognised by their first bytes. One reader per
 * file; those of libraries that jump on errors keep the jumps to themselves.
 */
#ifndef OCR_IMAGE_H
#define OCR_IMAGE_H

#include "base/status.h"
#include "base/types.h"

/* Rows top to bottom without padding. */
typedef struct RgbImage {
    uint8_t *pixels; /* [height][width][3] */
    int width, height;
} RgbImage;

/*
 * How many pictures the file holds: at least 1. More than one is for TIFF, and
 * says nothing about whether each of them can be read.
 */
OcrCode image_count(OcrBytes file, int *pages, OcrError *err);

/*
 * Size, format and orientation of a picture from the headers; page counts from 0.
 * max_pixels bounds width * height (OCR_IMAGE_TOO_LARGE beyond it).
 */
OcrCode image_probe(OcrBytes file, int page, int64_t max_pixels, OcrImageInfo *info, OcrError *err);

/* Bytes of image_decode's buffer: the upright picture, and the stored one if it must be turned. */
size_t image_decode_bytes(const OcrImageInfo *info);

/*
 * Decode into buffer (image_decode_bytes(info) bytes, aligned to 1); out->pixels
 * points into it. info is what image_probe said of the same file. interrupted
 * may be NULL; it is polled every few rows (OCR_INTERRUPTED).
 */
OcrCode image_decode(OcrBytes file, const OcrImageInfo *info, bool (*interrupted)(void),
                     void *buffer, RgbImage *out, OcrError *err);

#endif
