/*
 * matmul_avx2.h - eight lanes of f32, and how they change places, for the AVX2 kernels. The
 * includer defines INLINE.
 */
#include <immintrin.h>

/* rows[8], a square of words: squares of 1, then 2 by 2 words within the halves of a vector, then
 * the halves. */
INLINE void transpose(__m256 *rows) {
    __m256 ones[8], twos[8];
    UNROLL for (int i = 0; i < 8; i += 2) {
        ones[i] = _mm256_unpacklo_ps(rows[i], rows[i + 1]);
        ones[i + 1] = _mm256_unpackhi_ps(rows[i], rows[i + 1]);
    }
    UNROLL for (int i = 0; i < 8; i += 4) {
        UNROLL for (int j = 0; j < 2; j++) {
            __m256d a = _mm256_castps_pd(ones[i + j]), b = _mm256_castps_pd(ones[i + j + 2]);
            twos[i + 2 * j] = _mm256_castpd_ps(_mm256_unpacklo_pd(a, b));
            twos[i + 2 * j + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(a, b));
        }
    }
    UNROLL for (int j = 0; j < 4; j++) {
        rows[j] = _mm256_permute2f128_ps(twos[j], twos[j + 4], 0x20);
        rows[j + 4] = _mm256_permute2f128_ps(twos[j], twos[j + 4], 0x31);
    }
}

INLINE __m256 load_lanes(const float *x) {
    return _mm256_loadu_ps(x);
}

INLINE void store_lanes(float *to, __m256 values) {
    _mm256_storeu_ps(to, values);
}

INLINE __m256 add_product(__m256 sum, __m256 a, __m256 b) {
    return _mm256_fmadd_ps(a, b, sum);
}
