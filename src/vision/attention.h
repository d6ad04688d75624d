/*
 * attention.h - attention over a grid of patches, for both towers (spec 3.2, 3.4).
 *
 * The grid is one field in which everything attends to everything, or windows of
 * it, each a field of its own. A task is some queries of one head of a field;
 * kernels/field.h says how they are answered.
 */
#ifndef OCR_ATTENTION_H
#define OCR_ATTENTION_H

#include "kernels/compute.h"

/*
 * qkv: [height * width][3 * heads * dim], as the fused projection leaves it.
 * out: [height * width][heads * dim].
 */
typedef struct Attention {
    const float *qkv;
    float *out;
    int height, width; /* of the grid; sequences are its rows */
    int heads, dim;
    int window_h, window_w; /* of the fields that the grid is cut into; 0: all of it is one */
    const float *pad;       /* [3 * heads * dim] q, k, v of the padding around windows: the bias */
    const float *rel_h;     /* [2 * h - 1][dim] by row distance, largest first; NULL: none */
    const float *rel_w;     /* [2 * w - 1][dim] by column distance; h, w: of window or grid */
} Attention;

/* Floats of per-thread scratch. */
size_t attention_scratch_floats(int field_h, int field_w, int dim);

void attention_run(const Attention *attention, const Compute *compute);

#endif
