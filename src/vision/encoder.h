/*
 * encoder.h - from the views of a page to its rows in the decoder's sequence (spec 3).
 *
 * Each view goes through both towers and the projector; its tokens are then
 * written to their places among the newlines and the separator. One page at a
 * time, in steps of one layer over one view.
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
    float *features;  /* [g * g][2 * clip width] CLIP, then SAM */
    float *projected; /* [g * g][hidden] */
    /* The page in work. */
    ViewPlan plan;
    const uint8_t *views; /* views_bytes(&plan) */
    float *rows;          /* [views_slot_count(&plan)][hidden] the result */
    int view, step;
} Encoder;

/* Buffers for views of up to view_size pixels. */
void encoder_layout(Encoder *encoder, const ModelConfig *config, const Weights *weights,
                    int view_size, Arena *arena);
size_t encoder_thread_floats(const ModelConfig *config, int view_size);

void encoder_start(Encoder *encoder, const ViewPlan *plan, const uint8_t *views, float *rows);

/* One step; true while there is more to do. */
bool encoder_step(Encoder *encoder, const Compute *compute);

#endif
