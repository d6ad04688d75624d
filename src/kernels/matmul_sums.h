/*
 * matmul_sums.h - eight 512-bit vectors to eight sums, for the AVX512 kernels.
 */
#include <stdbool.h>

/* Halves of the vectors are added while pairs of them are brought together. */
INLINE void put_sums(float *c, const Sum *sums, bool first) {
    __m512 pairs[4], fours[2];
    for (int i = 0; i < 4; i++) /* 128-bit quarters: a a b b */
        pairs[i] = _mm512_add_ps(_mm512_shuffle_f32x4(sums[2 * i], sums[2 * i + 1], 0x44),
                                 _mm512_shuffle_f32x4(sums[2 * i], sums[2 * i + 1], 0xEE));
    for (int i = 0; i < 2; i++) /* a b c d */
        fours[i] = _mm512_add_ps(_mm512_shuffle_f32x4(pairs[2 * i], pairs[2 * i + 1], 0x88),
                                 _mm512_shuffle_f32x4(pairs[2 * i], pairs[2 * i + 1], 0xDD));
    __m512 all = _mm512_add_ps(_mm512_unpacklo_ps(fours[0], fours[1]), /* a e a e, b f b f, .. */
                               _mm512_unpackhi_ps(fours[0], fours[1]));
    all = _mm512_add_ps(all, _mm512_permute_ps(all, 0x4E));
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 0, 0, 0, 0, 0, 0, 0, 0);
    __m256 total = _mm512_castps512_ps256(_mm512_permutexvar_ps(order, all));
    _mm256_storeu_ps(c, first ? total : _mm256_add_ps(_mm256_loadu_ps(c), total));
}
