/*
 * Quantized weights by AVX2: products of 16-bit integers are added in pairs.
 */
#if defined(__x86_64__)
#include "kernels/quant_rows.h"

#include "kernels/convert.h"

#include <immintrin.h>

#define TARGET __attribute__((target("avx2,fma")))
#define INLINE static inline __attribute__((always_inline)) TARGET
#define NAME(suffix) suffix##_avx2
#define COLUMNS 2

typedef __m256 Sums;

/* As 16-bit integers: of Q4 two registers are a block. */
typedef struct Weights {
    __m256i quarters[4];
    bool two_scales;
} Weights;

typedef struct Scale {
    float first, second;
} Scale;

INLINE Weights load_weights(const uint8_t *q, WeightType type) {
    Weights w = {.two_scales = type == WEIGHT_Q4};
    const __m256i nibble = _mm256_set1_epi16(15), eight = _mm256_set1_epi16(8);
    if (type == WEIGHT_Q8) {
        UNROLL for (int i = 0; i < 4; i++) {
            w.quarters[i] = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)q + i));
        }
    } else {
        UNROLL for (int i = 0; i < 2; i++) {
            __m256i pairs = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)q + i));
            w.quarters[2 * i] = _mm256_sub_epi16(_mm256_and_si256(pairs, nibble), eight);
            w.quarters[2 * i + 1] = _mm256_sub_epi16(_mm256_srli_epi16(pairs, 4), eight);
        }
    }
    return w;
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

INLINE __m256 add_scaled(__m256 sum, __m256i dots, float scale) {
    return _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots), _mm256_set1_ps(scale), sum);
}

INLINE Sums multiply_block(Sums sum, Weights w, const int16_t *x, Scale scale) {
    __m256i dots[4];
    UNROLL for (int i = 0; i < 4; i++) {
        dots[i] = _mm256_madd_epi16(w.quarters[i], _mm256_load_si256((const __m256i *)x + i));
    }
    dots[0] = _mm256_add_epi32(dots[0], dots[1]);
    dots[2] = _mm256_add_epi32(dots[2], dots[3]);
    if (w.two_scales)
        return add_scaled(add_scaled(sum, dots[0], scale.first), dots[2], scale.second);
    return add_scaled(sum, _mm256_add_epi32(dots[0], dots[2]), scale.first);
}

INLINE void put_columns(float *c, const Sums *sums) {
    __m256 pairs = _mm256_hadd_ps(sums[0], sums[1]);
    __m128 all = _mm_add_ps(_mm256_castps256_ps128(pairs), _mm256_extractf128_ps(pairs, 1));
    all = _mm_hadd_ps(all, all);
    _mm_storel_pi((__m64 *)c, all);
}

#include "kernels/quant_simd.h"
#endif
