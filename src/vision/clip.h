/*
 * clip.h - the second tower: a plain ViT over the compressor's output (spec 3.4).
 */
#ifndef OCR_CLIP_H
#define OCR_CLIP_H

#include "base/arena.h"
#include "kernels/compute.h"
#include "model/weights.h"

typedef struct Clip {
    const ClipConfig *config;
    const ClipWeights *weights;
    int side;    /* g: tokens along a side of the present view */
    float *x;    /* [1 + g * g][width] residual stream, class token first */
    float *y;    /* [1 + g * g][width] */
    float *wide; /* [1 + g * g][max(3 * width, mlp)]; table scratch */
} Clip;

void clip_layout(Clip *clip, const ClipConfig *config, int max_side, Arena *arena);
size_t clip_thread_floats(const ClipConfig *config, int max_side);

/* Steps of one view, to be run in order: 0..clip_steps-1. */
int clip_steps(const ClipConfig *config);

/* features: [g * g][width] of the first tower, read in step 0 only. The result is in clip->x. */
void clip_step(Clip *clip, int step, const float *features, const Compute *compute);

#endif
