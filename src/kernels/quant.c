#include "kernels/quant.h"

#include "base/numbers.h"

#include <math.h>

/* x / scale to the nearest integer in low..high. */
static int nearest(float x, float scale, int low, int high) {
    if (scale == 0)
        return 0;
    float q = rintf(x / scale);
    return q < (float)low ? low : q > (float)high ? high : (int)q;
}

/* The value of largest magnitude, with its sign. */
static float extreme(const float *x, int count) {
    float most = 0;
    for (int i = 0; i < count; i++)
        if (fabsf(x[i]) > fabsf(most))
            most = x[i];
    return most;
}

void quantize_q8(const float *x, int columns, int8_t *q, uint16_t *scales) {
    for (int first = 0; first < columns; first += Q8_BLOCK) {
        int count = min_int(Q8_BLOCK, columns - first);
        uint16_t bits = bf16_nearest(fabsf(extreme(x + first, count)) / 127);
        float scale = bf16_to_f32(bits);
        scales[first / Q8_BLOCK] = bits;
        for (int i = 0; i < count; i++)
            q[first + i] = (int8_t)nearest(x[first + i], scale, -127, 127);
    }
}

void quantize_q4(const float *x, int columns, uint8_t *q, uint16_t *scales) {
    for (int first = 0; first < columns; first += Q4_BLOCK) {
        int count = min_int(Q4_BLOCK, columns - first);
        /* -8 is the only end of the range without a twin: it is for the extreme. */
        uint16_t bits = bf16_nearest(extreme(x + first, count) / -8);
        float scale = bf16_to_f32(bits);
        uint8_t *block = q + (size_t)(first / Q4_BLOCK) * (Q4_BLOCK / 2);
        scales[first / Q4_BLOCK] = bits;
        for (int i = 0; i < Q4_BLOCK / 2; i++) {
            int low = i < count ? nearest(x[first + i], scale, -8, 7) : 0;
            int high = i + 16 < count ? nearest(x[first + i + 16], scale, -8, 7) : 0;
            block[i] = (uint8_t)((low + 8) | (high + 8) << 4);
        }
    }
}
