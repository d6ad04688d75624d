/*
 * attend.h - attention over keys and values that lie in memory as rows: of f32, bf16, or Q8.
 *
 * A decoder's token reads all that its page has cached, once, so rows go from
 * memory through a register; sums are f32 in one order.
 */
#ifndef OCR_ATTEND_H
#define OCR_ATTEND_H

#include "base/numbers.h"
#include "kernels/matmul.h"

#define ATTEND_Q8_COLUMNS 1024 /* of rows of Q8, at most */

/* The products of q, which with keys of Q8 becomes integers of 16 bits, and each row. q: [columns];
 * scores: [rows] */
void attend_keys(const float *q, Matrix keys, float *scores);

/* The sum of all rows, each times its weight. weights: [rows]; out: [columns] */
void attend_values(const float *weights, Matrix values, float *out);

/*
 * For many queries: rows of bf16 or Q8 as f32, attend_stride(columns) apart; what is
 * between them may be overwritten.
 * out: aligned to 64
 */
void attend_widen(Matrix rows, float *out);

static inline int attend_stride(int columns) {
    return ceil_div(columns, 16) * 16;
}

#endif
