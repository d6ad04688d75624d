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
#define HALF (Q8_BLOCK / 2) /* what a register holds, and a block of Q4 */

/* 32 weights as signed bytes; 0 beyond the `count` that the row has. */
INLINE __m256i load_half(const uint8_t *q, int count, WeightType type) {
    if (type == WEIGHT_Q4) {
        __m128i pairs = _mm_loadu_si128((const __m128i *)q);
        __m256i both = _mm256_set_m128i(_mm_srli_epi16(pairs, 4), pairs);
        return _mm256_sub_epi8(_mm256_and_si256(both, _mm256_set1_epi8(15)), _mm256_set1_epi8(8));
    }
    if (count >= HALF)
        return _mm256_loadu_si256((const __m256i *)q);
    uint8_t part[HALF] = {0};
    memcpy(part, q, (size_t)count);
    return _mm256_loadu_si256((const __m256i *)part);
}

/* Eight sums of four products each. w: two registers of 16-bit integers, x: [HALF] */
INLINE __m256i dot(const __m256i *w, const int16_t *x) {
    const __m256i *xs = (const __m256i *)x;
    return _mm256_add_epi32(_mm256_madd_epi16(w[0], _mm256_load_si256(xs)),
                            _mm256_madd_epi16(w[1], _mm256_load_si256(xs + 1)));
}

INLINE float add_up(__m256 v) {
    __m128 sum = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
    return _mm_cvtss_f32(_mm_add_ss(sum, _mm_movehdup_ps(sum)));
}

INLINE void multiply_blocks(const QuantRows *x, int row, int rows, const WeightRow *w,
                            const Stretch *stretch, float *c) {
    WeightType type = stretch->type;
    int count = stretch->columns;
    __m256 sums[ROWS][COLUMNS];
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int n = 0; n < COLUMNS; n++) sums[r][n] =
        _mm256_setzero_ps();
    for (int k = 0; k < count; k += HALF) {
        UNROLL for (int n = 0; n < COLUMNS; n++) {
            size_t at = type == WEIGHT_Q8 ? (size_t)k : (size_t)k / 2;
            int scale = type == WEIGHT_Q8 ? k / Q8_BLOCK : k / Q4_BLOCK;
            __m256i bytes = load_half(w[n].q + at, count - k, type);
            __m256i weights[] = {_mm256_cvtepi8_epi16(_mm256_castsi256_si128(bytes)),
                                 _mm256_cvtepi8_epi16(_mm256_extracti128_si256(bytes, 1))};
            float weight_scale = bf16_to_f32(w[n].scales[scale]);
            __builtin_prefetch(w[n].q + at + w[n].ahead);
            UNROLL for (int r = 0; r < rows; r++) {
                int b = k / Q8_BLOCK;
                __m256i dots = dot(weights, x->x[row + r][b] + k % Q8_BLOCK);
                __m256 both = _mm256_set1_ps(weight_scale * x->scales[row + r][b]);
                sums[r][n] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots), both, sums[r][n]);
            }
        }
    }
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int n = 0; n < COLUMNS; n++) {
        float *to = c + r * TILE_COLUMNS + n;
        *to = add_up(sums[r][n]) + (stretch->first ? 0 : *to);
    }
}

#include "kernels/quant_simd.h"
#endif
