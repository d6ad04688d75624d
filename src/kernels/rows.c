#include "kernels/rows.h"

#include "kernels/activation.h"
#include "kernels/cpu.h"
#include "kernels/quant.h"

#include <math.h>
#include <string.h>

#define LANES 16

/*
 * One body for each function, inlined into a copy for each instruction set. The
 * compiler vectorises the lane loops; the source stays one.
 */
#define BODY static inline __attribute__((always_inline))

BODY float lanes_sum(const float *lane) {
    float sum[LANES];
    memcpy(sum, lane, sizeof sum);
    for (int step = LANES / 2; step > 0; step /= 2)
        for (int i = 0; i < step; i++)
            sum[i] += sum[i + step];
    return sum[0];
}

BODY float row_sum(const float *x, int width) {
    float lane[LANES] = {0};
    int i = 0;
    for (; i + LANES <= width; i += LANES)
        for (int j = 0; j < LANES; j++)
            lane[j] += x[i + j];
    for (; i < width; i++)
        lane[i % LANES] += x[i];
    return lanes_sum(lane);
}

/* Sum of (x - shift)^2. */
BODY float row_squares(const float *x, int width, float shift) {
    float lane[LANES] = {0};
    int i = 0;
    for (; i + LANES <= width; i += LANES)
        for (int j = 0; j < LANES; j++)
            lane[j] += (x[i + j] - shift) * (x[i + j] - shift);
    for (; i < width; i++)
        lane[i % LANES] += (x[i] - shift) * (x[i] - shift);
    return lanes_sum(lane);
}

BODY void layer_norm_body(const float *x, const float *weight, const float *bias, int width,
                          float epsilon, float *y) {
    float mean = row_sum(x, width) / (float)width;
    float scale = 1.0f / sqrtf(row_squares(x, width, mean) / (float)width + epsilon);
    for (int i = 0; i < width; i++)
        y[i] = (x[i] - mean) * scale * weight[i] + bias[i];
}

BODY void rms_norm_body(const float *x, const float *weight, int width, float epsilon, float *y) {
    float scale = 1.0f / sqrtf(row_squares(x, width, 0.0f) / (float)width + epsilon);
    for (int i = 0; i < width; i++)
        y[i] = x[i] * scale * weight[i];
}

BODY float row_max(const float *x, int width) {
    float lane[LANES], max = x[0];
    int i = 0;
    for (int j = 0; j < LANES; j++)
        lane[j] = x[0];
    for (; i + LANES <= width; i += LANES)
        for (int j = 0; j < LANES; j++)
            lane[j] = x[i + j] > lane[j] ? x[i + j] : lane[j];
    for (; i < width; i++)
        lane[0] = x[i] > lane[0] ? x[i] : lane[0];
    for (int j = 0; j < LANES; j++)
        max = lane[j] > max ? lane[j] : max;
    return max;
}

/* 0, or NaN if x holds NaN or an infinity: comparisons pass over NaN, products do not. */
BODY float row_poison(const float *x, int width) {
    float lane[LANES] = {0};
    int i = 0;
    for (; i + LANES <= width; i += LANES)
        for (int j = 0; j < LANES; j++)
            lane[j] += 0.0f * x[i + j];
    for (; i < width; i++)
        lane[0] += 0.0f * x[i];
    return lanes_sum(lane);
}

BODY float softmax_part_body(float *x, int width, float *sum) {
    float max = row_max(x, width), poison = row_poison(x, width);
    for (int i = 0; i < width; i++)
        x[i] = activation_exp(x[i] - max, false);
    *sum = row_sum(x, width) + poison;
    return max;
}

BODY void softmax_body(float *x, int width) {
    float sum;
    softmax_part_body(x, width, &sum);
    float scale = 1.0f / sum;
    for (int i = 0; i < width; i++)
        x[i] *= scale;
}

BODY float log_sum_exp_body(const float *x, int width) {
    float max = row_max(x, width), block[512];
    double sum = row_poison(x, width);
    for (int first = 0; first < width; first += 512) {
        int count = width - first < 512 ? width - first : 512;
        for (int i = 0; i < count; i++)
            block[i] = activation_exp(x[first + i] - max, false);
        sum += row_sum(block, count);
    }
    return max + (float)log(sum);
}

BODY int argmax_body(const float *x, int width) {
    enum { BLOCK = 512 };
    int block = 0, count = width < BLOCK ? width : BLOCK;
    float max = row_max(x, count);
    for (int first = BLOCK; first < width; first += BLOCK) {
        int rest = width - first < BLOCK ? width - first : BLOCK;
        float here = row_max(x + first, rest);
        if (here > max) {
            max = here;
            block = first;
            count = rest;
        }
    }
    for (int i = block; i < block + count; i++)
        if (x[i] == max)
            return i;
    return block;
}

BODY void round_to_q8_body(const float *x, int width, int8_t *q, uint16_t *scales) {
    const float round_bias = 0x1.8p23f; /* adding it rounds to an integer in the low bits */
    for (int first = 0; first < width; first += Q8_BLOCK) {
        int count = width - first < Q8_BLOCK ? width - first : Q8_BLOCK;
        uint32_t bits[Q8_BLOCK] = {0}, most = 0;
        memcpy(bits, x + first, (size_t)count * sizeof *bits);
        for (int i = 0; i < Q8_BLOCK; i++) /* magnitudes compare as integers; NaN is above all */
            most = (bits[i] & 0x7FFFFFFF) > most ? bits[i] & 0x7FFFFFFF : most;
        float largest;
        memcpy(&largest, &most, sizeof largest);
        uint16_t scale = isfinite(largest) ? bf16_nearest(largest / 127) : 0x7FC0;
        float inverse = largest > 0x1p-100f ? 1 / bf16_to_f32(scale) : 0;
        for (int i = 0; i < count; i++) {
            float shifted = x[first + i] * inverse + round_bias;
            memcpy(&bits[i], &shifted, sizeof shifted);
        }
        for (int i = 0; i < count; i++)
            q[first + i] = (int8_t)bits[i];
        scales[first / Q8_BLOCK] = scale;
    }
}

#if defined(__x86_64__)
#define AVX2_COPY __attribute__((target("avx2")))
#define AVX512_COPY __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl")))
#define COPIES(type, name, parameters, arguments)                                                  \
    AVX512_COPY static type name##_avx512 parameters {                                             \
        return name##_body arguments;                                                              \
    }                                                                                              \
    AVX2_COPY static type name##_avx2 parameters {                                                 \
        return name##_body arguments;                                                              \
    }                                                                                              \
    type name parameters {                                                                         \
        if (cpu_level() >= CPU_AVX512)                                                             \
            return name##_avx512 arguments;                                                        \
        if (cpu_level() >= CPU_AVX2)                                                               \
            return name##_avx2 arguments;                                                          \
        return name##_body arguments;                                                              \
    }
#else
#define COPIES(type, name, parameters, arguments)                                                  \
    type name parameters {                                                                         \
        return name##_body arguments;                                                              \
    }
#endif

COPIES(void, layer_norm,
       (const float *x, const float *weight, const float *bias, int width, float epsilon, float *y),
       (x, weight, bias, width, epsilon, y))
COPIES(void, rms_norm, (const float *x, const float *weight, int width, float epsilon, float *y),
       (x, weight, width, epsilon, y))
COPIES(void, softmax, (float *x, int width), (x, width))
COPIES(float, softmax_part, (float *x, int width, float *sum), (x, width, sum))
COPIES(int, argmax, (const float *x, int width), (x, width))
COPIES(void, round_to_q8, (const float *x, int width, int8_t *q, uint16_t *scales),
       (x, width, q, scales))
COPIES(float, log_sum_exp, (const float *x, int width), (x, width))

bool all_finite(const float *x, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (!isfinite(x[i]))
            return false;
    return true;
}
