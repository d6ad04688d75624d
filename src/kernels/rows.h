/*
 * rows.h - what happens to one row of activations: norms, softmax and rounding.
 *
 * Plain C, compiled for several instruction sets. Sums run over 16 lanes in a
 * fixed order and nothing is contracted, so every level gives the same bits.
 */
#ifndef OCR_ROWS_H
#define OCR_ROWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* y = (x - mean) / sqrt(variance + epsilon) * weight + bias; biased variance. All [width]; y may be
 * x. */
void layer_norm(const float *x, const float *weight, const float *bias, int width, float epsilon,
                float *y);

/* y = x / sqrt(mean(x^2) + epsilon) * weight. All [width]; y may be x. */
void rms_norm(const float *x, const float *weight, int width, float epsilon, float *y);

/* In place; a row that holds NaN or an infinity becomes NaN. x: [width], width >= 1 */
void softmax(float *x, int width);

/*
 * The same but for the division, for a softmax that is put together from parts: x becomes
 * exp(x - most), *sum their sum (NaN if x holds NaN or an infinity), and most is returned.
 */
float softmax_part(float *x, int width, float *sum);

/* log(sum(exp(x))); not finite if x holds NaN or an infinity. x: [width], width >= 1 */
float log_sum_exp(const float *x, int width);

/* The index of the largest, the first of equal ones; any where x holds NaN. x: [width], width >= 1
 */
int argmax(const float *x, int width);

/*
 * To blocks of Q8 (quant.h); a block that holds NaN or an infinity has the scale NaN.
 * x: [width]; q: [width]; scales: [q8_blocks(width)] bf16
 */
void round_to_q8(const float *x, int width, int8_t *q, uint16_t *scales);

/* x: [count] */
bool all_finite(const float *x, size_t count);

#endif
