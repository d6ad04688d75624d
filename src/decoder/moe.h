/*
 * moe.h - the mixture of experts of one decoder layer (spec 5).
 *
 * Rows are grouped by the expert that they chose, so that each expert's weights
 * are read once however many rows chose it; the shared experts take every row.
 * Two batches of products do all the work: gate and up of all experts, then
 * down of all experts.
 */
#ifndef OCR_MOE_H
#define OCR_MOE_H

#include "base/arena.h"
#include "kernels/compute.h"
#include "model/weights.h"

typedef struct Moe {
    const DecoderConfig *config;
    float *scores;  /* [rows][experts] router logits, then probabilities */
    float *weights; /* [rows][k] of the chosen experts, best first */
    int *chosen;    /* [rows][k] */
    int *place;     /* [rows][k] the choice's row in `inner` and `parts` */
    int *members;   /* [rows * k] row of x of each place; places of one expert are adjacent */
    int *start;     /* [experts + 1] first place of each expert */
    float *inner;   /* [rows * k][expert_width] */
    float *shared;  /* [rows][shared_width] */
    float *parts;   /* [rows * k][hidden] */
    Matmul *jobs;   /* [experts + 1] */
} Moe;

void moe_layout(Moe *moe, const DecoderConfig *config, int max_rows, Arena *arena);

/* x += experts(normed). Both [rows][hidden]. */
void moe_run(Moe *moe, const DecoderLayer *layer, const float *normed, float *x, int rows,
             const Compute *compute);

/*
 * The k largest of p[count], best first, lower index on a tie. Always yields k
 * distinct indices below count, whatever p holds.
 */
void top_k(const float *p, int count, int k, int *out);

#endif
