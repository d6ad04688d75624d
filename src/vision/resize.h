/*
 * resize.h - the reference's bicubic resampling, in its exact integers (spec 2.3).
 */
#ifndef OCR_RESIZE_H
#define OCR_RESIZE_H

#include "base/status.h"
#include "kernels/pool.h"
#include "vision/image.h"

#include <stddef.h>

/*
 * Where the resized picture goes: a grid of equal panels, each a picture of its
 * own. The whole is columns * panel_width by rows * panel_height pixels.
 */
typedef struct ResizeTarget {
    uint8_t *pixels; /* of the first panel; unused by resize_scratch_bytes */
    int columns, rows;
    int panel_width, panel_height;
    size_t row_bytes;   /* from one row of a panel to the next */
    size_t panel_bytes; /* from one panel to the next, row by row of the grid */
} ResizeTarget;

/* Bytes of scratch that resize needs for a width x height picture. */
size_t resize_scratch_bytes(int width, int height, const ResizeTarget *target);

/*
 * Resize the picture to the size of the target, whose sides are at least 1.
 * scratch: resize_scratch_bytes of any alignment. OCR_INTERRUPTED if the pool's
 * watch fired.
 */
OcrCode resize(const RgbImage *image, const ResizeTarget *target, OcrPool *pool, void *scratch,
               OcrError *err);

#endif
