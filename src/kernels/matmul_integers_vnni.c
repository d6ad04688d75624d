/*
 * Many rows by AVX512-VNNI, as integers of 16 bits: see integers_simd.h. An instruction adds
 * 32 products to 16 sums, two to each, as fast as one of f32 adds 16.
 */
#if defined(__x86_64__)
#include "kernels/matmul_kernel.h"

#include <immintrin.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")))
#define INLINE static inline __attribute__((always_inline)) TARGET
#define LANES 16
#define VECTORS 3
#define WEIGHT_ROWS 24
#define DEPTH 256 /* a span of x and a group of weights stay in the first cache */

typedef __m512i Integers;
typedef __m512 Sums;

#include "kernels/matmul_avx512.h"

INLINE Integers add_words(Integers sums, Integers x, Integers w) {
    __asm__ volatile("vpdpwssd %2, %1, %0" : "+v"(sums) : "v"(x), "v"(w));
    return sums;
}

INLINE Integers spread_pair(int pair) {
    return _mm512_set1_epi32(pair);
}

INLINE Sums to_floats(Integers sums) {
    return _mm512_cvtepi32_ps(sums);
}

INLINE Integers to_words(Sums a, Sums b) {
    const Integers order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
    Integers quarters = _mm512_packs_epi32(_mm512_cvtps_epi32(a), _mm512_cvtps_epi32(b));
    return _mm512_permutexvar_epi64(order, quarters);
}

INLINE Integers higher(Integers top, Sums x) {
    return _mm512_max_epi32(top, _mm512_and_si512((Integers)x, _mm512_set1_epi32(0x7FFFFFFF)));
}

INLINE float highest(Integers top) {
    int bits = _mm512_reduce_max_epi32(top);
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

INLINE Sums widen_bf16(const uint16_t *w) {
    Integers wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)w));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

INLINE void widen_bytes(const uint8_t *q, Integers *to) {
    const __m256i *from = (const __m256i *)q;
    to[0] = _mm512_cvtepi8_epi16(_mm256_loadu_si256(from));
    to[1] = _mm512_cvtepi8_epi16(_mm256_loadu_si256(from + 1));
}

INLINE void widen_nibbles(const uint8_t *q, Integers *to) {
    const Integers nibble = _mm512_set1_epi16(15), eight = _mm512_set1_epi16(8);
    Integers pairs = _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)q));
    Integers low = _mm512_sub_epi16(_mm512_and_si512(pairs, nibble), eight);
    Integers high = _mm512_sub_epi16(_mm512_srli_epi16(pairs, 4), eight);
    to[0] = _mm512_shuffle_i64x2(low, high, 0x44); /* a block is half a vector of each */
    to[1] = _mm512_shuffle_i64x2(low, high, 0xEE);
}

#include "kernels/integers_simd.h"

#define NAME(prefix) prefix##_vnni
#define X_DEPTH 1024

#include "kernels/integers_many_simd.h"
#endif
