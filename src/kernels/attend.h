/*
 * attend.h - one query of attention over keys and values that lie in memory as rows.
 *
 * A decoder's token reads all that its page has cached, once, so rows go from
 * memory through a register, in f32 or bf16; sums are f32 in one order.
 */
#ifndef OCR_ATTEND_H
#define OCR_ATTEND_H

#include "kernels/matmul.h"

/* The products of q with each row. keys: WEIGHT_F32 or WEIGHT_BF16; q: [columns]; scores: [rows] */
void attend_keys(const float *q, Matrix keys, float *scores);

/* The sum of all rows, each times its weight. values: as keys; weights: [rows]; out: [columns] */
void attend_values(const float *weights, Matrix values, float *out);

#endif
