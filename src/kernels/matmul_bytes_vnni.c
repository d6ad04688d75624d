/* Many rows and quantized weights by AVX512-VNNI, as integers of 8 bits: see integers_simd.h. */
#if defined(__x86_64__)
#define BYTES 1
#define RAISED 1
#include "kernels/integers_vnni.h"

/* The instruction's first factor is the unsigned one. */
INLINE Integers add_words(Integers sums, Integers x, Integers w) {
    __asm__ volatile("vpdpbusd %1, %2, %0" : "+v"(sums) : "v"(x), "v"(w));
    return sums;
}

INLINE Integers negate(Integers sums) {
    return _mm512_sub_epi32(_mm512_setzero_si512(), sums);
}

INLINE void take_bytes(const uint8_t *q, Integers *to) {
    *to = _mm512_xor_si512(_mm512_loadu_si512(q), _mm512_set1_epi8((char)0x80));
}

/* Nibbles are raised as they lie. */
INLINE void take_nibbles(const uint8_t *q, Integers *to) {
    const __m256i nibble = _mm256_set1_epi8(15);
    __m256i pairs = _mm256_loadu_si256((const __m256i *)q);
    __m256i low = _mm256_and_si256(pairs, nibble);
    __m256i high = _mm256_and_si256(_mm256_srli_epi16(pairs, 4), nibble);
    __m256i first = _mm256_permute2x128_si256(low, high, 0x20);
    __m256i second = _mm256_permute2x128_si256(low, high, 0x31);
    *to = _mm512_inserti64x4(_mm512_castsi256_si512(first), second, 1);
}

#include "kernels/integers_simd.h"

#define NAME(prefix) prefix##_bytes_vnni
#define X_DEPTH 1024

#include "kernels/integers_many_simd.h"
#endif
