/*
 * x is rounded to bf16, to nearest even, and two products at a time are added in
 * f32. The instruction takes and gives denormals as 0.
 */
#if defined(__x86_64__)
#include "kernels/matmul_kernel.h"

#include <immintrin.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")))
#define INLINE static inline __attribute__((always_inline)) TARGET
#define NAME(suffix) suffix##_bf16
#define KEEP(vector) __asm__ volatile("" : "+v"(vector))
#define COLUMNS 8
#define STEP 32

typedef uint16_t Element;
typedef __m512i Operand;
typedef __m512 Sum;

INLINE Operand load_x(const float *x) {
    return (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(x + 16), _mm512_loadu_ps(x));
}

INLINE Operand load_x_part(const float *x, int count) {
    uint32_t mask = (1u << count) - 1;
    __m512 low = _mm512_maskz_loadu_ps((__mmask16)mask, x);
    __m512 high = _mm512_maskz_loadu_ps((__mmask16)(mask >> 16), x + 16);
    return (__m512i)_mm512_cvtne2ps_pbh(high, low);
}

INLINE Operand load_w(const void *w, WeightType type) {
    (void)type; /* the front sends bf16 alone */
    return _mm512_loadu_si512(w);
}

INLINE Operand load_w_part(const void *w, WeightType type, int count) {
    (void)type;
    return _mm512_maskz_loadu_epi16((1u << count) - 1, w);
}

INLINE Operand load_packed(const Element *from) {
    return _mm512_load_si512(from);
}

INLINE void store_packed(Element *to, Operand values) {
    _mm512_store_si512(to, values);
}

INLINE Operand broadcast_word(const Element *word) {
    int pair;
    memcpy(&pair, word, sizeof pair);
    return _mm512_set1_epi32(pair);
}

/* Rounded, they are first one after the other. */
INLINE Operand join(const Sum *parts) {
    static const uint16_t order[STEP] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                         21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                         11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    return _mm512_permutexvar_epi16(_mm512_loadu_si512(order),
                                    (__m512i)_mm512_cvtne2ps_pbh(parts[1], parts[0]));
}

INLINE Sum multiply_add(Sum sum, Operand x, Operand w) {
    return _mm512_dpbf16_ps(sum, (__m512bh)x, (__m512bh)w);
}

#include "kernels/matmul_avx512.h"
#include "kernels/matmul_simd.h"
#include "kernels/field_simd.h"

TARGET void field_amx(const Field *field, int first, int count, const FieldSpace *space) {
    amx_words_begin();
    answer(field, first, count, space, amx_multiply_words);
    amx_words_end();
}
#endif
