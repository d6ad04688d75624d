/*
 * sam.h - the first tower: a ViT with window attention, then a neck and two
 * stride-2 convolutions that leave a sixteenth of the positions (spec 3.1-3.3).
 *
 * Activations are [row][column][channel] throughout. One view at a time; every
 * buffer belongs to the workspace and is reused from block to block.
 *
 * Blocks whose attention does not leave its window need no more of the view than a row
 * of windows. So a run of them takes one such band after the other through all of the
 * run: what a block leaves is in the cache when the next one takes it.
 */
#ifndef OCR_SAM_H
#define OCR_SAM_H

#include "base/arena.h"
#include "kernels/compute.h"
#include "model/weights.h"

typedef struct Sam {
    const SamConfig *config;
    const SamWeights *weights;
    int side;      /* n: patches along a side of the present view */
    float *x;      /* [n * n][width] residual stream */
    float *y;      /* [positions][width] of a band, or of the view: normed, then attended */
    float *wide;   /* [positions][3 * width] q, k, v; MLP rows; columns of patches and
                      convolutions, feature maps; table scratch */
    float *rel[2]; /* [2 * max(n, window) - 1][head_dim] tables of the present block */
    float *out;    /* [n/4 * n/4][channels[1]] the compressor's output: the caller's */
} Sam;

/* Buffers for views of up to max_side patches; the config and weights stay the caller's. */
void sam_layout(Sam *sam, const SamConfig *config, int max_side, Arena *arena);
size_t sam_thread_floats(const SamConfig *config, int max_side);

/* Steps of the present view, to be run in order: 0..sam_steps-1. */
int sam_steps(const Sam *sam);

/* pixels: [16 n][16 n][3] of the view, read in step 0 only. */
void sam_step(Sam *sam, int step, const uint8_t *pixels, const Compute *compute);

#endif
