/*
 * convert.h - numbers of other types to f32, and back to bf16.
 */
#ifndef OCR_CONVERT_H
#define OCR_CONVERT_H

#include "base/bf16.h"
#include "kernels/matmul.h"

#include <string.h>

static inline float f16_to_f32(uint16_t bits) {
    uint32_t sign = (uint32_t)(bits & 0x8000) << 16;
    uint32_t rest = bits & 0x7FFF;
    float value;
    if (rest < 0x0400) { /* zero or subnormal: rest * 2^-24, exact */
        value = (float)rest * 0x1p-24f;
        return sign ? -value : value;
    }
    uint32_t wide = rest >= 0x7C00 ? 0x7F800000 | (rest & 0x3FF) << 13 /* infinity, NaN */
                                   : (rest << 13) + ((127 - 15) << 23);
    wide |= sign;
    memcpy(&value, &wide, sizeof value);
    return value;
}

/* values: count elements of a type that is not quantized, aligned to their size. */
void convert_to_f32(const void *values, WeightType type, size_t count, float *out);

/* To nearest, ties to even; NaN stays NaN. */
void convert_to_bf16(const float *values, size_t count, uint16_t *out);

#endif
