/*
 * quant.h - weights in 8 and 4 bits: what the numbers mean and how they lie.
 *
 * A row is cut into blocks along the dimension that is summed, and each block has
 * a scale, the upper half of an f32 (bf16). A block of Q8 is as long as a cache
 * line, a vector register and a row of a matrix unit's tile are wide, so that every
 * kernel can use the weights as they lie. The quantizer begins its file's data at a cache
 * line, so that no block is parted between two where the shapes of a model are multiples
 * of a block. The last block of a row may be shorter.
 *
 *   Q8   int8 q[columns];            value = scale[k / 64] * q[k], q in -127..127
 *   Q4   uint8 q[blocks][16];        value = scale[k / 32] * (nibble - 8);
 *        the low nibbles are a block's first 16 values, the high ones its last;
 *        what a short last block lacks is 8, which means 0
 *
 * Rows lie without gaps, and so do the scales: [rows][blocks].
 */
#ifndef OCR_QUANT_H
#define OCR_QUANT_H

#include "base/bf16.h"

#include <stddef.h>
#include <string.h>

#define Q8_BLOCK 64
#define Q4_BLOCK 32

static inline int q8_blocks(int columns) {
    return (columns + Q8_BLOCK - 1) / Q8_BLOCK;
}
static inline int q4_blocks(int columns) {
    return (columns + Q4_BLOCK - 1) / Q4_BLOCK;
}
static inline size_t q4_row_bytes(int columns) {
    return (size_t)q4_blocks(columns) * (Q4_BLOCK / 2);
}

/*
 * The nearest row of that form. x: [columns], finite. q8: [columns]; q4:
 * [q4_row_bytes(columns)]; scales: [blocks] bf16.
 */
void quantize_q8(const float *x, int columns, int8_t *q, uint16_t *scales);
void quantize_q4(const float *x, int columns, uint8_t *q, uint16_t *scales);

/*
 * Back again: columns first..first+count-1, first a multiple of the block. out: [count].
 * Part of their callers, and so compiled for each instruction set.
 */
static inline __attribute__((always_inline)) void
dequantize_q8(const int8_t *q, const uint16_t *scales, int first, int count, float *out) {
    int k = 0;
    for (; k + Q8_BLOCK <= count; k += Q8_BLOCK) { /* whole ones are vectorised */
        float scale = bf16_to_f32(scales[(first + k) / Q8_BLOCK]);
        for (int i = 0; i < Q8_BLOCK; i++)
            out[k + i] = scale * (float)q[first + k + i];
    }
    for (; k < count; k++)
        out[k] = bf16_to_f32(scales[(first + k) / Q8_BLOCK]) * (float)q[first + k];
}

static inline __attribute__((always_inline)) void
dequantize_q4(const uint8_t *q, const uint16_t *scales, int first, int count, float *out) {
    for (int k = 0; k < count; k += Q4_BLOCK) {
        float scale = bf16_to_f32(scales[(first + k) / Q4_BLOCK]), values[Q4_BLOCK];
        const uint8_t *block = q + (size_t)(first + k) / 2;
        for (int i = 0; i < Q4_BLOCK / 2; i++)
            values[i] = scale * (float)((block[i] & 15) - 8);
        for (int i = 0; i < Q4_BLOCK / 2; i++)
            values[i + Q4_BLOCK / 2] = scale * (float)((block[i] >> 4) - 8);
        if (count - k >= Q4_BLOCK)
            memcpy(out + k, values, sizeof values);
        else
            memcpy(out + k, values, sizeof *out * (size_t)(count - k));
    }
}

#endif
