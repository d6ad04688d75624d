/*
 * clip.h - the second tower: a plain ViT over the compressor's output (spec 3.4).
 *
 * Views of one size go through it side by side: a tile has so few positions that
 * reading the weights, and what each product costs beside its arithmetic, would count.
 */
#ifndef OCR_CLIP_H
#define OCR_CLIP_H

#include "base/arena.h"
#include "base/numbers.h"
#include "kernels/compute.h"
#include "model/weights.h"

typedef struct Clip {
    const ClipConfig *config;
    const ClipWeights *weights;
    int side;    /* g: tokens along a side of the present views */
    int views;   /* how many there are */
    float *x;    /* [views][1 + g * g][width] residual stream, class token first */
    float *y;    /* [views][1 + g * g][width] */
    float *wide; /* [views][1 + g * g][max(3 * width, mlp)]; table scratch */
} Clip;

#define CLIP_ROWS 520 /* of all views together, but for a single one */

/* Views of that side at once, at most. */
static inline int clip_most_views(int side) {
    return max_int(1, CLIP_ROWS / (1 + side * side));
}

/* Positions of the views that go together, if a side is at most max_side. */
static inline int clip_most_rows(int max_side) {
    return max_int(CLIP_ROWS, 1 + max_side * max_side);
}

void clip_layout(Clip *clip, const ClipConfig *config, int max_side, Arena *arena);
size_t clip_thread_floats(const ClipConfig *config, int max_side);

/* Steps of the present views, to be run in order: 0..clip_steps-1. */
int clip_steps(const ClipConfig *config);

/* features: [views][g * g][width] of the first tower, read in step 0 only. The result is in
 * clip->x.
 */
void clip_step(Clip *clip, int step, const float *features, const Compute *compute);

#endif
