/*
 * Quantized weights by AVX512-VNNI: products of 16-bit integers are added to 16 sums,
 * two to each, in one instruction. No sum can overflow: 4 * 127 * 32767 is below 2^31.
 */
#if defined(__x86_64__)
#include "kernels/quant_rows.h"

#include "kernels/convert.h"

#include <immintrin.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")))
#define INLINE static inline __attribute__((always_inline)) TARGET
#define NAME(suffix) suffix##_vnni
#define COLUMNS 4 /* weight rows side by side */

/* 64 weights as 16-bit integers, in two registers; 0 beyond the `count` that the row has. */
typedef struct Block {
    __m512i low, high;
} Block;

INLINE Block load_block(const uint8_t *q, int count, WeightType type) {
    __m256i low, high;
    if (type == WEIGHT_Q8) {
        __mmask64 mask = count < Q8_BLOCK ? ((__mmask64)1 << count) - 1 : ~(__mmask64)0;
        low = _mm256_maskz_loadu_epi8((__mmask32)mask, q);
        high = _mm256_maskz_loadu_epi8((__mmask32)(mask >> 32), q + Q8_BLOCK / 2);
    } else {
        /* Two blocks: the low nibbles are each one's first half, the high ones its second. */
        const __m256i nibble = _mm256_set1_epi8(15), offset = _mm256_set1_epi8(8);
        __m256i pairs = _mm256_maskz_loadu_epi8(count > Q4_BLOCK ? ~(__mmask32)0 : 0xFFFF, q);
        __m256i first = _mm256_sub_epi8(_mm256_and_si256(pairs, nibble), offset);
        __m256i second =
            _mm256_sub_epi8(_mm256_and_si256(_mm256_srli_epi16(pairs, 4), nibble), offset);
        low = _mm256_permute2x128_si256(first, second, 0x20);
        high = _mm256_permute2x128_si256(first, second, 0x31);
    }
    return (Block){_mm512_cvtepi8_epi16(low), _mm512_cvtepi8_epi16(high)};
}

INLINE __m512i dot(__m512i w, __m512i x) {
    return _mm512_dpwssd_epi32(_mm512_setzero_si512(), w, x);
}

INLINE __m512 add_scaled(__m512 sum, __m512i dots, float scale) {
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots), _mm512_set1_ps(scale), sum);
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
            const uint8_t *from = w[n].q + (size_t)b * (type == WEIGHT_Q8 ? Q8_BLOCK : Q4_BLOCK);
            Block weights = load_block(from, rest, type);
            __builtin_prefetch(from + w[n].ahead);
            UNROLL for (int r = 0; r < rows; r++) {
                const int16_t *xs = x->x[row + r][b];
                float scale = x->scales[row + r][b];
                __m512i low = _mm512_load_si512(xs), high = _mm512_load_si512(xs + 32);
                if (type == WEIGHT_Q8) {
                    __m512i dots = _mm512_dpwssd_epi32(dot(weights.low, low), weights.high, high);
                    sums[r][n] = add_scaled(sums[r][n], dots, scale * bf16_to_f32(w[n].scales[b]));
                } else {
                    const uint16_t *scales = w[n].scales + 2 * b;
                    sums[r][n] = add_scaled(sums[r][n], dot(weights.low, low),
                                            scale * bf16_to_f32(scales[0]));
                    if (rest > Q4_BLOCK)
                        sums[r][n] = add_scaled(sums[r][n], dot(weights.high, high),
                                                scale * bf16_to_f32(scales[1]));
                }
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
