/*
 * Quantized weights by AVX512-VNNI: products of 16-bit integers are added to 16 sums,
 * two to each, in one instruction. No sum can overflow: 4 * 127 * 32767 is below 2^31.
 *
 * A register holds the first or the second halves of both blocks of Q4 that are a block
 * of x, as their nibbles lie; so lanes 0..7 belong to the first one, 8..15 to the second.
 */
#if defined(__x86_64__)
#include "kernels/quant_rows.h"

#include "kernels/convert.h"

#include <immintrin.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")))
#define INLINE static inline __attribute__((always_inline)) TARGET
#define NAME(suffix) suffix##_vnni
#define COLUMNS 4

typedef __m512 Sums;
typedef __m512 Scale;

/* As 16-bit integers, in two registers. */
typedef struct Weights {
    __m512i low, high;
} Weights;

INLINE Weights load_weights(const uint8_t *q, WeightType type) {
    const __m256i *from = (const __m256i *)q;
    if (type == WEIGHT_Q8)
        return (Weights){_mm512_cvtepi8_epi16(_mm256_loadu_si256(from)),
                         _mm512_cvtepi8_epi16(_mm256_loadu_si256(from + 1))};
    __m512i pairs = _mm512_cvtepu8_epi16(_mm256_loadu_si256(from)), eight = _mm512_set1_epi16(8);
    return (Weights){
        _mm512_sub_epi16(_mm512_and_si512(pairs, _mm512_set1_epi16(15)), eight),
        _mm512_sub_epi16(_mm512_srli_epi16(pairs, 4), eight),
    };
}

INLINE void arrange(int16_t *x, WeightType type) {
    if (type == WEIGHT_Q8)
        return;
    __m256i *quarters = (__m256i *)x;
    __m256i second = quarters[1];
    quarters[1] = quarters[2];
    quarters[2] = second;
}

INLINE Scale weight_scale(const uint16_t *scales, WeightType type) {
    if (type == WEIGHT_Q8)
        return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_set1_epi16((short)scales[0]), 16));
    __m256 first = _mm256_set1_ps(bf16_to_f32(scales[0]));
    __m256 second = _mm256_set1_ps(bf16_to_f32(scales[1]));
    return _mm512_insertf32x8(_mm512_castps256_ps512(first), second, 1);
}

INLINE Scale times(Scale scale, float x_scale) {
    return _mm512_mul_ps(scale, _mm512_set1_ps(x_scale));
}

INLINE Sums multiply_block(Sums sum, Weights w, const int16_t *x, Scale scale) {
    __m512i dots = _mm512_madd_epi16(w.low, _mm512_load_si512(x));
    dots = _mm512_dpwssd_epi32(dots, w.high, _mm512_load_si512(x + Q8_BLOCK / 2));
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots), scale, sum);
}

/* Halves are added while pairs are brought together. */
INLINE void put_columns(float *c, const Sums *sums) {
    __m512 pairs[2];
    UNROLL for (int i = 0; i < 2; i++) { /* quarters: a a b b */
        pairs[i] = _mm512_add_ps(_mm512_shuffle_f32x4(sums[2 * i], sums[2 * i + 1], 0x44),
                                 _mm512_shuffle_f32x4(sums[2 * i], sums[2 * i + 1], 0xEE));
    }
    __m512 all = _mm512_add_ps(_mm512_shuffle_f32x4(pairs[0], pairs[1], 0x88), /* a b c d */
                               _mm512_shuffle_f32x4(pairs[0], pairs[1], 0xDD));
    all = _mm512_add_ps(all, _mm512_permute_ps(all, 0x4E));
    all = _mm512_add_ps(all, _mm512_permute_ps(all, 0xB1));
    _mm_storeu_ps(c, _mm512_castps512_ps128(_mm512_maskz_compress_ps(0x1111, all)));
}

#include "kernels/quant_simd.h"

/* ---- keys ---- */

#define KEYS 16         /* side by side, whole blocks long */
#define KEYS_AHEAD 2048 /* bytes, to be fetched early */

/* The vectors dots[KEYS], each added up. */
INLINE __m512i add_up(const __m512i *dots) {
    __m512i pairs[8], fours[4], halves[2];
    UNROLL for (int i = 0; i < 8; i++) { /* in each quarter a b a b */
        pairs[i] = _mm512_add_epi32(_mm512_unpacklo_epi32(dots[2 * i], dots[2 * i + 1]),
                                    _mm512_unpackhi_epi32(dots[2 * i], dots[2 * i + 1]));
    }
    UNROLL for (int i = 0; i < 4; i++) { /* a b c d */
        fours[i] = _mm512_add_epi32(_mm512_unpacklo_epi64(pairs[2 * i], pairs[2 * i + 1]),
                                    _mm512_unpackhi_epi64(pairs[2 * i], pairs[2 * i + 1]));
    }
    UNROLL for (int i = 0; i < 2; i++) { /* quarters of four keys, twice, then of the next four */
        halves[i] = _mm512_add_epi32(_mm512_shuffle_i32x4(fours[2 * i], fours[2 * i + 1], 0x44),
                                     _mm512_shuffle_i32x4(fours[2 * i], fours[2 * i + 1], 0xEE));
    }
    return _mm512_add_epi32(_mm512_shuffle_i32x4(halves[0], halves[1], 0x88),
                            _mm512_shuffle_i32x4(halves[0], halves[1], 0xDD));
}

/* Of block b of keys n.., the last one again beyond it. */
INLINE __m512 key_scales(const Matrix *keys, int n, int b) {
    float scales[KEYS];
    int blocks = keys->columns / Q8_BLOCK;
    if (blocks == 1 && n + KEYS <= keys->rows) {
        __m256i bits = _mm256_loadu_si256((const __m256i *)(keys->scales + n));
        return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
    }
    for (int i = 0; i < KEYS; i++)
        scales[i] = bf16_to_f32(keys->scales[min_int(n + i, keys->rows - 1) * blocks + b]);
    return _mm512_loadu_ps(scales);
}

TARGET void attend_keys_vnni(const QuantRows *query, const Matrix *keys, float *scores) {
    for (int n = 0; n < keys->rows; n += KEYS) {
        __m512 sums = _mm512_setzero_ps();
        for (int b = 0; b < query->blocks; b++) {
            __m512i low = _mm512_load_si512(query->x + b * Q8_BLOCK);
            __m512i high = _mm512_load_si512(query->x + b * Q8_BLOCK + Q8_BLOCK / 2);
            __m512i dots[KEYS];
            UNROLL for (int i = 0; i < KEYS; i++) {
                size_t row = (size_t)min_int(n + i, keys->rows - 1);
                const uint8_t *key =
                    (const uint8_t *)keys->data + row * (size_t)keys->columns + b * Q8_BLOCK;
                Weights w = load_weights(key, WEIGHT_Q8);
                __builtin_prefetch(key + KEYS_AHEAD);
                dots[i] = _mm512_dpwssd_epi32(_mm512_madd_epi16(w.low, low), w.high, high);
            }
            Scale scale = times(key_scales(keys, n, b), query->scales[b]);
            sums = _mm512_fmadd_ps(_mm512_cvtepi32_ps(add_up(dots)), scale, sums);
        }
        int count = min_int(KEYS, keys->rows - n);
        _mm512_mask_storeu_ps(scores + n, (__mmask16)((1u << count) - 1), sums);
    }
}
#endif
