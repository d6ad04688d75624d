/*
 * Quantized weights by AVX2. Its instruction adds products of an unsigned by a signed
 * byte in pairs of 16 bits: weights lose their sign to the activations (Q8), or are
 * unsigned with an offset that is taken out afterwards (Q4). No pair can overflow:
 * 2 * 127 * 127 and 2 * 15 * 127 are below 2^15.
 */
#if defined(__x86_64__)
#include "kernels/quant_rows.h"

#include "kernels/convert.h"

#include <immintrin.h>

#define TARGET __attribute__((target("avx2,fma")))
#define INLINE static inline __attribute__((always_inline)) TARGET
#define NAME(suffix) suffix##_avx2
#define Q8_OFFSET 0
#define COLUMNS 2
#define HALF (Q8_BLOCK / 2) /* what a register holds, and a block of Q4 */

/* 32 weights as they multiply: signed bytes of Q8, nibbles of Q4. */
INLINE __m256i load_half(const uint8_t *q, int count, WeightType type) {
    if (type == WEIGHT_Q4) {
        __m128i pairs = _mm_loadu_si128((const __m128i *)q);
        __m256i both = _mm256_set_m128i(_mm_srli_epi16(pairs, 4), pairs);
        return _mm256_and_si256(both, _mm256_set1_epi8(15));
    }
    if (count >= HALF)
        return _mm256_loadu_si256((const __m256i *)q);
    uint8_t part[HALF] = {0};
    memcpy(part, q, (size_t)count);
    return _mm256_loadu_si256((const __m256i *)part);
}

/* Eight sums of four products each. */
INLINE __m256i multiply_half(__m256i w, __m256i x, WeightType type) {
    __m256i pairs = type == WEIGHT_Q8
                        ? _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w))
                        : _mm256_maddubs_epi16(w, x);
    return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
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
            __m256i weights = load_half(w[n].q + at, count - k, type);
            __builtin_prefetch(w[n].q + at + w[n].ahead);
            float weight_scale = bf16_to_f32(w[n].scales[scale]);
            UNROLL for (int r = 0; r < rows; r++) {
                const QuantBlock *block = &x->blocks[row + r][k / Q8_BLOCK];
                int half = k / HALF % 2;
                __m256i dots = multiply_half(
                    weights, _mm256_load_si256((const __m256i *)block->x + half), type);
                if (type == WEIGHT_Q4)
                    dots = _mm256_add_epi32(
                        dots, _mm256_load_si256((const __m256i *)block->correction + half));
                float both = weight_scale * x->scales[row + r][k / Q8_BLOCK];
                sums[r][n] =
                    _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots), _mm256_set1_ps(both), sums[r][n]);
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
