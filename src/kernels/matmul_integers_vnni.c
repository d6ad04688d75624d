/* Many rows by AVX512-VNNI, as integers of 16 bits: see integers_simd.h. */
#if defined(__x86_64__)
#define BYTES 0
#define RAISED 0
#include "kernels/integers_vnni.h"

INLINE Integers add_words(Integers sums, Integers x, Integers w) {
    __asm__ volatile("vpdpwssd %2, %1, %0" : "+v"(sums) : "v"(x), "v"(w));
    return sums;
}

INLINE Sums widen_bf16(const uint16_t *w) {
    Integers wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)w));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

INLINE void take_bytes(const uint8_t *q, Integers *to) {
    const __m256i *from = (const __m256i *)q;
    to[0] = _mm512_cvtepi8_epi16(_mm256_loadu_si256(from));
    to[1] = _mm512_cvtepi8_epi16(_mm256_loadu_si256(from + 1));
}

INLINE void take_nibbles(const uint8_t *q, Integers *to) {
    const Integers nibble = _mm512_set1_epi16(15), eight = _mm512_set1_epi16(8);
    Integers pairs = _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)q));
    Integers low = _mm512_sub_epi16(_mm512_and_si512(pairs, nibble), eight);
    Integers high = _mm512_sub_epi16(_mm512_srli_epi16(pairs, 4), eight);
    to[0] = _mm512_shuffle_i64x2(low, high, 0x44); /* a block is half a vector of each */
    to[1] = _mm512_shuffle_i64x2(low, high, 0xEE);
}

#include "kernels/integers_simd.h"

#define NAME(prefix) prefix##_integers_vnni
#define X_DEPTH 1024

#include "kernels/integers_many_simd.h"
#endif
