/* Quantized weights by plain C. */
#include "kernels/quant_rows.h"

#include "kernels/convert.h"

#define TARGET
#define INLINE static inline __attribute__((always_inline))
#define NAME(suffix) suffix##_portable
#define COLUMNS 1

typedef float Sums;

typedef struct Weights {
    int16_t w[Q8_BLOCK];
    bool two_scales;
} Weights;

typedef struct Scale {
    float first, second;
} Scale;

INLINE Weights load_weights(const uint8_t *q, WeightType type) {
    Weights out = {.two_scales = type == WEIGHT_Q4};
    if (type == WEIGHT_Q8)
        for (int i = 0; i < Q8_BLOCK; i++)
            out.w[i] = (int8_t)q[i];
    else
        for (int i = 0; i < Q4_BLOCK; i++) {
            int at = i / (Q4_BLOCK / 2) * Q4_BLOCK + i % (Q4_BLOCK / 2);
            out.w[at] = (int16_t)((q[i] & 15) - 8);
            out.w[at + Q4_BLOCK / 2] = (int16_t)((q[i] >> 4) - 8);
        }
    return out;
}

INLINE void arrange(int16_t *x, WeightType type) {
    (void)x, (void)type; /* as they are */
}

INLINE Scale weight_scale(const uint16_t *scales, WeightType type) {
    return (Scale){bf16_to_f32(scales[0]), type == WEIGHT_Q4 ? bf16_to_f32(scales[1]) : 0};
}

INLINE Scale times(Scale scale, float x_scale) {
    return (Scale){scale.first * x_scale, scale.second * x_scale};
}

INLINE Sums multiply_block(Sums sum, Weights w, const int16_t *x, Scale scale) {
    int first = 0, second = 0;
    for (int i = 0; i < Q4_BLOCK; i++)
        first += w.w[i] * x[i];
    for (int i = Q4_BLOCK; i < Q8_BLOCK; i++)
        second += w.w[i] * x[i];
    return w.two_scales ? sum + scale.first * (float)first + scale.second * (float)second
                        : sum + scale.first * (float)(first + second);
}

INLINE void put_columns(float *c, const Sums *sums) {
    *c = *sums;
}

#include "kernels/quant_simd.h"
