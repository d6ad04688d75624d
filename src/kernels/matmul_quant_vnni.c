/*
 * Quantized weights by AVX512-VNNI: four products of an unsigned by a signed byte are
 * added to each of 16 sums at once. Weights are made unsigned by an offset, 128 for Q8
 * and the 8 that Q4 has anyway; its share is taken out before the sum begins.
 */
#if defined(__x86_64__)
#include "kernels/quant_rows.h"

#include "kernels/convert.h"

#include <immintrin.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")))
#define INLINE static inline __attribute__((always_inline)) TARGET
#define NAME(suffix) suffix##_vnni
#define Q8_OFFSET 128
#define COLUMNS 4 /* weight rows side by side */

/* 64 weights, or the `count` that the row still has, as unsigned bytes. */
INLINE __m512i load_block(const uint8_t *q, int count, WeightType type) {
    if (type == WEIGHT_Q8) {
        __mmask64 mask = count < Q8_BLOCK ? ((__mmask64)1 << count) - 1 : ~(__mmask64)0;
        return _mm512_xor_si512(_mm512_maskz_loadu_epi8(mask, q), _mm512_set1_epi8(-128));
    }
    /* Two blocks of Q4: low nibbles hold 0..15 and 32..47, high ones 16..31 and 48..63. */
    __mmask32 mask = count > Q4_BLOCK ? ~(__mmask32)0 : 0xFFFF;
    __m256i pairs = _mm256_maskz_loadu_epi8(mask, q);
    __m256i low = _mm256_and_si256(pairs, _mm256_set1_epi8(15));
    __m256i high = _mm256_and_si256(_mm256_srli_epi16(pairs, 4), _mm256_set1_epi8(15));
    __m512i both = _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
    return _mm512_shuffle_i64x2(both, both, 0xD8); /* quarters 0, 2, 1, 3 */
}

/* What the sums of 64 weights are multiplied with: 16 times the scale, or 8 times either. */
INLINE __m512 load_scale(const uint16_t *scales, int count, WeightType type) {
    if (type == WEIGHT_Q8)
        return _mm512_set1_ps(bf16_to_f32(scales[0]));
    __m512 first = _mm512_set1_ps(bf16_to_f32(scales[0]));
    if (count <= Q4_BLOCK)
        return first;
    return _mm512_mask_mov_ps(first, 0xFF00, _mm512_set1_ps(bf16_to_f32(scales[1])));
}

INLINE void multiply_blocks(const QuantRows *x, int row, int rows, const WeightRow *w,
                            const Stretch *stretch, float *c) {
    WeightType type = stretch->type;
    int count = stretch->columns;
    __m512 sums[ROWS][COLUMNS];
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int n = 0; n < COLUMNS; n++) sums[r][n] =
        _mm512_setzero_ps();
    for (int b = 0; b * Q8_BLOCK < count; b++) {
        int rest = count - b * Q8_BLOCK;
        UNROLL for (int n = 0; n < COLUMNS; n++) {
            size_t bytes = type == WEIGHT_Q8 ? Q8_BLOCK : Q4_BLOCK;
            int scales = type == WEIGHT_Q8 ? 1 : 2;
            const uint8_t *from = w[n].q + (size_t)b * bytes;
            __m512i weights = load_block(from, rest, type);
            __builtin_prefetch(from + w[n].ahead);
            __m512 scale = load_scale(w[n].scales + b * scales, rest, type);
            UNROLL for (int r = 0; r < rows; r++) {
                const QuantBlock *block = &x->blocks[row + r][b];
                __m512i dots = _mm512_dpbusd_epi32(_mm512_load_si512(block->correction), weights,
                                                   _mm512_load_si512(block->x));
                __m512 both = _mm512_mul_ps(scale, _mm512_set1_ps(x->scales[row + r][b]));
                sums[r][n] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots), both, sums[r][n]);
            }
        }
    }
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int n = 0; n < COLUMNS; n++) {
        float *to = c + r * TILE_COLUMNS + n;
        *to = _mm512_reduce_add_ps(sums[r][n]) + (stretch->first ? 0 : *to);
    }
}

#include "kernels/quant_simd.h"
#endif
