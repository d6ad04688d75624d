/*
 * matmul_avx512.h - sixteen lanes of f32, and how they change places, for the AVX512
 * kernels. The includer defines INLINE.
 */
#include <immintrin.h>
#include <stdbool.h>

/*
 * rows[16], a square of numbers: squares of 1, then 2 by 2 numbers within the quarters
 * of a vector, then of quarters.
 */
INLINE void transpose(__m512 *rows) {
    __m512 ones[16], twos[16], fours[16];
    UNROLL for (int i = 0; i < 16; i += 2) {
        ones[i] = _mm512_unpacklo_ps(rows[i], rows[i + 1]);
        ones[i + 1] = _mm512_unpackhi_ps(rows[i], rows[i + 1]);
    }
    UNROLL for (int i = 0; i < 16; i += 4) {
        UNROLL for (int j = 0; j < 2; j++) {
            __m512d a = _mm512_castps_pd(ones[i + j]), b = _mm512_castps_pd(ones[i + j + 2]);
            twos[i + 2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
            twos[i + 2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
        }
    }
    UNROLL for (int i = 0; i < 16; i += 8) {
        UNROLL for (int j = 0; j < 4; j++) {
            fours[i + j] = _mm512_shuffle_f32x4(twos[i + j], twos[i + j + 4], 0x88);
            fours[i + j + 4] = _mm512_shuffle_f32x4(twos[i + j], twos[i + j + 4], 0xDD);
        }
    }
    UNROLL for (int j = 0; j < 8; j++) {
        rows[j] = _mm512_shuffle_f32x4(fours[j], fours[j + 8], 0x88);
        rows[j + 8] = _mm512_shuffle_f32x4(fours[j], fours[j + 8], 0xDD);
    }
}

/* A square of a product's sums, [column][row] and `stride` apart, to c, which has so many rows. */
INLINE void put_square(const float *sums, int stride, int rows, float *c) {
    __m512 square[16];
    UNROLL for (int i = 0; i < 16; i++) {
        square[i] = _mm512_loadu_ps(sums + i * stride);
    }
    transpose(square);
    UNROLL for (int r = 0; r < 16; r++) {
        if (r < rows)
            _mm512_storeu_ps(c + r * TILE_COLUMNS, square[r]);
    }
}

/* sums[8], each added up, to or into c[8]: halves are added while pairs are brought together. */
INLINE void put_sums(float *c, const __m512 *sums, bool first) {
    __m512 pairs[4], fours[2];
    UNROLL for (int i = 0; i < 4; i++) { /* 128-bit quarters: a a b b */
        pairs[i] = _mm512_add_ps(_mm512_shuffle_f32x4(sums[2 * i], sums[2 * i + 1], 0x44),
                                 _mm512_shuffle_f32x4(sums[2 * i], sums[2 * i + 1], 0xEE));
    }
    UNROLL for (int i = 0; i < 2; i++) { /* a b c d */
        fours[i] = _mm512_add_ps(_mm512_shuffle_f32x4(pairs[2 * i], pairs[2 * i + 1], 0x88),
                                 _mm512_shuffle_f32x4(pairs[2 * i], pairs[2 * i + 1], 0xDD));
    }
    __m512 all = _mm512_add_ps(_mm512_unpacklo_ps(fours[0], fours[1]), /* a e a e, b f b f, .. */
                               _mm512_unpackhi_ps(fours[0], fours[1]));
    all = _mm512_add_ps(all, _mm512_permute_ps(all, 0x4E));
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 0, 0, 0, 0, 0, 0, 0, 0);
    __m256 total = _mm512_castps512_ps256(_mm512_permutexvar_ps(order, all));
    _mm256_storeu_ps(c, first ? total : _mm256_add_ps(_mm256_loadu_ps(c), total));
}

/* ---- of integers_simd.h and field_simd.h ---- */

INLINE __m512 load_lanes(const float *x) {
    return _mm512_loadu_ps(x);
}

INLINE void store_lanes(float *to, __m512 values) {
    _mm512_storeu_ps(to, values);
}

INLINE __m512 add_product(__m512 sum, __m512 a, __m512 b) {
    return _mm512_fmadd_ps(a, b, sum);
}

INLINE __m512 larger(__m512 a, __m512 b) {
    return _mm512_max_ps(a, b);
}

INLINE bool any_above(__m512 a, __m512 b) {
    return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ) != 0;
}

INLINE __m512 fraction(__m512 x) {
    return _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
}

INLINE __m512 times_power(__m512 y, __m512 x) {
    return _mm512_scalef_ps(y, x);
}
