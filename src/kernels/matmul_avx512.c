#if defined(__x86_64__)
#include "kernels/matmul_kernel.h"

#include <immintrin.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl")))
#define INLINE static inline __attribute__((always_inline)) TARGET
#define NAME(suffix) suffix##_avx512
#define KEEP(vector) __asm__ volatile("" : "+v"(vector))
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

INLINE Operand widen_q8(const int8_t *q, float scale) {
    __m512i wide = _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)q));
    return _mm512_mul_ps(_mm512_cvtepi32_ps(wide), _mm512_set1_ps(scale));
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

INLINE Operand broadcast_word(const Element *word) {
    return _mm512_set1_ps(*word);
}

INLINE Operand join(const Sum *parts) {
    return parts[0];
}

INLINE Sum multiply_add(Sum sum, Operand x, Operand w) {
    return _mm512_fmadd_ps(x, w, sum);
}

#include "kernels/matmul_avx512.h"
#include "kernels/matmul_simd.h"
#include "kernels/matmul_packed.h"
#include "kernels/gemm_simd.h"
#include "kernels/attend_simd.h"
#include "kernels/words_simd.h"
#include "kernels/field_simd.h"
#endif
