#include "kernels/convert.h"

void convert_to_f32(const void *values, WeightType type, size_t count, float *out) {
    const uint16_t *halves = values;
    switch (type) {
    case WEIGHT_F32:
        memcpy(out, values, count * sizeof *out);
        break;
    case WEIGHT_BF16:
        for (size_t i = 0; i < count; i++)
            out[i] = bf16_to_f32(halves[i]);
        break;
    case WEIGHT_F16:
        for (size_t i = 0; i < count; i++)
            out[i] = f16_to_f32(halves[i]);
        break;
    case WEIGHT_Q8:
    case WEIGHT_Q4:
        break; /* not elements but blocks: quant.h */
    }
}

void convert_to_bf16(const float *values, size_t count, uint16_t *out) {
    for (size_t i = 0; i < count; i++)
        out[i] = values[i] == values[i] ? bf16_nearest(values[i]) : 0x7FC0;
}
