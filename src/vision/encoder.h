/*
 * encoder.h - from the views of a page to its rows in the decoder's sequence (spec 3).
 *
 * Each view goes through the first tower; a batch of tiles, or the global view,
 * then goes through the second tower and the projector, and its tokens are written
 * to their places among the newlines and the separator. One page at a time, in
 * steps of one layer over one view or batch.
 */
#ifndef OCR_ENCODER_H
#define OCR_ENCODER_H

#include "vision/clip.h"
#include "vision/sam.h"
#include "vision/views.h"

typedef struct Encoder {
    const Weights *weights;
    Sam sam;
    Clip clip;
    float *compressed; /* [batch][g * g][clip width] of the first tower */
    float *features;   /* [batch][g * g][2 * clip width] CLIP, then SAM */
    float *projected;  /* [batch][g * g][hidden] */
    /* The page in work. */
    ViewPlan plan;
    const uint8_t *views; /* views_bytes(&plan) */
    float *rows;          /* [views_slot_count(&plan)][hidden] the result */
    int first, batch;     /* views of the present batch */
    int view, step; /* view of the batch that is in the first tower; batch: they are past it */
} Encoder;

/* Buffers for views of up to view_size pixels. */
void encoder_layout(Encoder *encoder, const ModelConfig *config, const Weights *weights,
                    int view_size, Arena *arena);
size_t encoder_thread_floats(const ModelConfig *config, int view_size);

void encoder_start(Encoder *encoder, const ViewPlan *plan, const uint8_t *views, float *rows);

/* One step; true while there is more to do. */
bool encoder_step(Encoder *encoder, const Compute *compute);

#endif
