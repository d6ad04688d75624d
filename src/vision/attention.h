/*
 * attention.h - attention over a grid of patches, for both towers (spec 3.2, 3.4).
 *
 * Queries are taken in tiles of ATTENTION_TILE: the scores of one tile against
 * all keys fit a core's cache, and no matrix of positions by positions is ever
 * stored. Relative positions enter as two small products per tile: a query times
 * the whole table of row distances, and of column distances; the bias of a key
 * is then the sum of two looked-up numbers.
 */
#ifndef OCR_ATTENTION_H
#define OCR_ATTENTION_H

#include "kernels/compute.h"

#define ATTENTION_TILE 64

/*
 * qkv: [height * width][3 * heads * dim], as the fused projection leaves it.
 * out: [height * width][heads * dim].
 */
typedef struct Attention {
    const float *qkv;
    float *out;
    int height, width; /* of the grid; a sequence is a grid of height 1 */
    int heads, dim;
    int window;         /* side of the windows; 0: everything attends to everything */
    const float *pad;   /* [3 * heads * dim] q, k, v of the padding around windows: the bias */
    const float *rel_h; /* [2 * h - 1][dim] by row distance, largest first; NULL: none */
    const float *rel_w; /* [2 * w - 1][dim] by column distance; h, w: of window or grid */
} Attention;

/* Floats of per-thread scratch. */
size_t attention_scratch_floats(int height, int width, int dim, int window);

void attention_run(const Attention *attention, const Compute *compute);

#endif
