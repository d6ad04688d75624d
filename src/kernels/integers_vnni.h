/*
 * integers_vnni.h - the vectors of integers_simd.h by AVX512-VNNI, but for those of one file
 * alone. An instruction adds the products of 16 words to 16 sums, as fast as one of f32 adds 16
 * products. Included after BYTES is defined; private to matmul_integers_vnni.c,
 * matmul_bytes_vnni.c and matmul_bytes_amx.c.
 */
#ifndef OCR_INTEGERS_VNNI_H
#define OCR_INTEGERS_VNNI_H

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

#if BYTES
typedef int8_t Number;

INLINE void put_numbers(const Sums *x, Number *to) {
    const Integers order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    Integers words[2];
    UNROLL for (int i = 0; i < 2; i++) {
        words[i] =
            _mm512_packs_epi32(_mm512_cvtps_epi32(x[2 * i]), _mm512_cvtps_epi32(x[2 * i + 1]));
    }
    Integers quarters = _mm512_packs_epi16(words[0], words[1]);
    _mm512_storeu_si512(to, _mm512_permutexvar_epi32(order, quarters));
}
#else
typedef int16_t Number;

INLINE void put_numbers(const Sums *x, Number *to) {
    const Integers order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
    UNROLL for (int i = 0; i < 2; i++) {
        Integers a = _mm512_cvtps_epi32(x[2 * i]), b = _mm512_cvtps_epi32(x[2 * i + 1]);
        Integers quarters = _mm512_packs_epi32(a, b);
        _mm512_storeu_si512((Integers *)to + i, _mm512_permutexvar_epi64(order, quarters));
    }
}
#endif

INLINE Integers spread(int word) {
    return _mm512_set1_epi32(word);
}

INLINE Sums to_floats(Integers sums) {
    return _mm512_cvtepi32_ps(sums);
}

INLINE Integers to_integers(Sums x) {
    return _mm512_cvtps_epi32(x);
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

#endif
