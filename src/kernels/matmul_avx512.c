#if defined(__x86_64__)
#include "kernels/matmul_kernel.h"

#include <immintrin.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl")))
#define INLINE static inline __attribute__((always_inline)) TARGET
#define NAME(suffix) suffix##_avx512
#define KEEP(vector) __asm__("" : "+v"(vector))
#define COLUMNS 8
#define STEP 16
#define GEMM_VECTORS 4

typedef float Element;
typedef __m512 Operand;
typedef __m512 Sum;

INLINE Operand widen(__m256i bits, WeightType type) {
    if (type == WEIGHT_F16)
        return _mm512_cvtph_ps(bits);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}

INLINE Operand load_x(const float *x) {
    return _mm512_loadu_ps(x);
}

INLINE Operand load_x_part(const float *x, int count) {
    return _mm512_maskz_loadu_ps((__mmask16)((1u << count) - 1), x);
}

INLINE Operand load_w(const void *w, WeightType type) {
    return type == WEIGHT_F32 ? _mm512_loadu_ps(w) : widen(_mm256_loadu_si256(w), type);
}

INLINE Operand load_w_part(const void *w, WeightType type, int count) {
    __mmask16 mask = (__mmask16)((1u << count) - 1);
    return type == WEIGHT_F32 ? _mm512_maskz_loadu_ps(mask, w)
                              : widen(_mm256_maskz_loadu_epi16(mask, w), type);
}

INLINE Operand load_packed(const Element *from) {
    return _mm512_load_ps(from);
}

INLINE void store_packed(Element *to, Operand values) {
    _mm512_store_ps(to, values);
}

INLINE void store_x(float *to, Operand values) {
    _mm512_storeu_ps(to, values);
}

INLINE Operand broadcast(const float *value) {
    return _mm512_set1_ps(*value);
}

INLINE Sum multiply_add(Sum sum, Operand x, Operand w) {
    return _mm512_fmadd_ps(x, w, sum);
}

/* Squares of 1, then 2 by 2 numbers within the quarters of a vector, then of quarters. */
INLINE void transpose(Sum *rows) {
    __m512 ones[STEP], twos[STEP], fours[STEP];
    for (int i = 0; i < STEP; i += 2) {
        ones[i] = _mm512_unpacklo_ps(rows[i], rows[i + 1]);
        ones[i + 1] = _mm512_unpackhi_ps(rows[i], rows[i + 1]);
    }
    for (int i = 0; i < STEP; i += 4)
        for (int j = 0; j < 2; j++) {
            __m512d a = _mm512_castps_pd(ones[i + j]), b = _mm512_castps_pd(ones[i + j + 2]);
            twos[i + 2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
            twos[i + 2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
        }
    for (int i = 0; i < STEP; i += 8)
        for (int j = 0; j < 4; j++) {
            fours[i + j] = _mm512_shuffle_f32x4(twos[i + j], twos[i + j + 4], 0x88);
            fours[i + j + 4] = _mm512_shuffle_f32x4(twos[i + j], twos[i + j + 4], 0xDD);
        }
    for (int j = 0; j < 8; j++) {
        rows[j] = _mm512_shuffle_f32x4(fours[j], fours[j + 8], 0x88);
        rows[j + 8] = _mm512_shuffle_f32x4(fours[j], fours[j + 8], 0xDD);
    }
}

#include "kernels/matmul_sums.h"
#include "kernels/matmul_simd.h"
#include "kernels/gemm_simd.h"
#endif
