/*
 * integers_avx2.h - the vectors of integers_simd.h by AVX2, where products must still be
 * added to the sums: one and a half times as fast as f32 (AMD Zen 3). Private to
 * matmul_integers_avx2.c and matmul_quant_avx2.c.
 */
#ifndef OCR_INTEGERS_AVX2_H
#define OCR_INTEGERS_AVX2_H

#include "kernels/matmul_kernel.h"

#include <immintrin.h>

#define TARGET __attribute__((target("avx2,fma")))
#define INLINE static inline __attribute__((always_inline)) TARGET
#define LANES 8
#define VECTORS 2
#define WEIGHT_ROWS 12
#define DEPTH 512 /* a span of x and the weights that meet it stay in the first cache */
#define BYTES 0
#define RAISED 0

typedef int16_t Number;
typedef __m256i Integers;
typedef __m256 Sums;

#include "kernels/matmul_avx2.h"

INLINE Integers add_words(Integers sums, Integers x, Integers w) {
    Integers words = _mm256_madd_epi16(x, w);
    __asm__ volatile("vpaddd %1, %0, %0" : "+x"(sums) : "x"(words));
    return sums;
}

INLINE Integers spread(int word) {
    return _mm256_set1_epi32(word);
}

INLINE Sums to_floats(Integers sums) {
    return _mm256_cvtepi32_ps(sums);
}

INLINE void put_numbers(const Sums *x, Number *to) {
    UNROLL for (int i = 0; i < Q8_BLOCK / 16; i++) {
        Integers a = _mm256_cvtps_epi32(x[2 * i]), b = _mm256_cvtps_epi32(x[2 * i + 1]);
        Integers words = _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xD8);
        _mm256_storeu_si256((__m256i *)to + i, words);
    }
}

INLINE Integers to_integers(Sums x) {
    return _mm256_cvtps_epi32(x);
}

INLINE Integers higher(Integers top, Sums x) {
    return _mm256_max_epi32(top, _mm256_and_si256((Integers)x, _mm256_set1_epi32(0x7FFFFFFF)));
}

INLINE float highest(Integers top) {
    __m128i half = _mm_max_epi32(_mm256_castsi256_si128(top), _mm256_extracti128_si256(top, 1));
    half = _mm_max_epi32(half, _mm_shuffle_epi32(half, 0x4E));
    half = _mm_max_epi32(half, _mm_shuffle_epi32(half, 0xB1));
    return _mm_cvtss_f32(_mm_castsi128_ps(half));
}

INLINE Sums widen_bf16(const uint16_t *w) {
    Integers wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)w));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}

INLINE void take_bytes(const uint8_t *q, Integers *to) {
    UNROLL for (int i = 0; i < Q8_BLOCK / 16; i++) {
        to[i] = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)q + i));
    }
}

INLINE void take_nibbles(const uint8_t *q, Integers *to) {
    const Integers nibble = _mm256_set1_epi16(15), eight = _mm256_set1_epi16(8);
    UNROLL for (int i = 0; i < 2; i++) {
        Integers pairs = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)q + i));
        to[2 * i] = _mm256_sub_epi16(_mm256_and_si256(pairs, nibble), eight);
        to[2 * i + 1] = _mm256_sub_epi16(_mm256_srli_epi16(pairs, 4), eight);
    }
}

#include "kernels/integers_simd.h"

#endif
