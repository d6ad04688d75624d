/*
 * views.h - what the encoder looks at: resize, pad and tile (spec 2.1, 2.3, 2.4).
 *
 * All arithmetic is in the exact integers of the reference preprocessing; the
 * bytes of every view equal it bit for bit.
 */
#ifndef OCR_VIEWS_H
#define OCR_VIEWS_H

#include "base/status.h"
#include "base/types.h"
#include "kernels/pool.h"
#include "vision/image.h"

typedef struct ViewPlan {
    OcrMode mode;      /* never OCR_MODE_AUTO */
    int global_size;   /* side of the global view, pixels */
    int tile_size;     /* side of a tile, pixels; 0 in modes that have none */
    int columns, rows; /* grid of tiles; 1 x 1 means no tiles */
} ViewPlan;

/* Tiles beside the global view: 0, or columns * rows. */
static inline int view_tiles(const ViewPlan *plan) {
    return plan->columns * plan->rows > 1 ? plan->columns * plan->rows : 0;
}

/* Tokens per side of a view after patching by 16 and compressing by 4: q(S) of spec 2.1. */
static inline int view_side_tokens(int size) {
    return (size / 16 + 3) / 4;
}

/* The views of a width x height picture. mode is not AUTO. OCR_IMAGE_ASPECT if a side vanishes. */
OcrCode views_plan(OcrMode mode, int width, int height, ViewPlan *plan, OcrError *err);

/*
 * How many times as large as in the picture its marks are in the view that shows them largest,
 * in the direction in which they are stretched most.
 */
double views_zoom(const ViewPlan *plan, int width, int height);

/* Vision tokens as the paper counts them: 64, 100, 256, 400, n * 100 + 256, n * 256 + 400. */
int views_token_count(const ViewPlan *plan);

/* Slots the views take in the decoder's sequence, newlines and separator included. */
int views_slot_count(const ViewPlan *plan);

/* Bytes of all views: tiles row by row, then the global view, each [size][size][3]. */
size_t views_bytes(const ViewPlan *plan);
/* View i of 0..view_tiles(plan), the global one last; size receives its side. */
const uint8_t *views_at(const ViewPlan *plan, const uint8_t *views, int i, int *size);

/* Bytes of scratch that views_make needs for a picture of this size: some rows, never all. */
size_t views_scratch_bytes(const ViewPlan *plan, int width, int height);

/*
 * Fill views (views_bytes(plan) bytes) from the upright picture. scratch:
 * views_scratch_bytes. Rows are spread over the pool; OCR_INTERRUPTED if its
 * watch fired.
 */
OcrCode views_make(const ViewPlan *plan, const RgbImage *image, OcrPool *pool, void *scratch,
                   uint8_t *views, OcrError *err);

#endif
