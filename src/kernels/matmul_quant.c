/* Quantized weights by plain C. */
#include "kernels/quant_rows.h"

#include "kernels/convert.h"

#define TARGET
#define INLINE static inline __attribute__((always_inline))
#define NAME(suffix) suffix##_portable
#define COLUMNS 1

/* Sum of count products of activations and the weights of one block of w's type. */
INLINE int dot(const int16_t *x, const uint8_t *q, int count, WeightType type) {
    int sum = 0;
    if (type == WEIGHT_Q8)
        for (int i = 0; i < count; i++)
            sum += x[i] * (int8_t)q[i];
    else
        for (int i = 0; i < Q4_BLOCK / 2; i++)
            sum += x[i] * ((q[i] & 15) - 8) + x[i + Q4_BLOCK / 2] * ((q[i] >> 4) - 8);
    return sum;
}

INLINE void multiply_blocks(const QuantRows *x, int row, int rows, const WeightRow *w,
                            const Stretch *stretch, float *c) {
    int length = stretch->type == WEIGHT_Q8 ? Q8_BLOCK : Q4_BLOCK;
    int bytes = stretch->type == WEIGHT_Q8 ? Q8_BLOCK : Q4_BLOCK / 2;
    for (int r = 0; r < rows; r++) {
        float sum = stretch->first ? 0 : c[r * TILE_COLUMNS];
        for (int b = 0; b * length < stretch->columns; b++) {
            int k = b * length, rest = min_int(length, stretch->columns - k);
            const int16_t *block = x->x[row + r][k / Q8_BLOCK] + k % Q8_BLOCK;
            float scale = bf16_to_f32(w->scales[b]) * x->scales[row + r][k / Q8_BLOCK];
            sum += scale * (float)dot(block, w->q + (size_t)b * (size_t)bytes, rest, stretch->type);
        }
        c[r * TILE_COLUMNS] = sum;
    }
}

#include "kernels/quant_simd.h"
