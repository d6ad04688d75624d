#if defined(__x86_64__)
#include "kernels/matmul_kernel.h"

#include <immintrin.h>
#include <string.h>

#define TARGET __attribute__((target("avx2,fma,f16c")))
#define INLINE static inline __attribute__((always_inline)) TARGET
#define NAME(suffix) suffix##_avx2
#define KEEP(vector) __asm__ volatile("" : "+x"(vector))
#define COLUMNS 4
#define STEP 8
#define GEMM_VECTORS 2

typedef float Element;
typedef __m256 Operand;
typedef __m256 Sum;

#include "kernels/matmul_avx2.h"

INLINE Operand widen(__m128i bits, WeightType type) {
    if (type == WEIGHT_F16)
        return _mm256_cvtph_ps(bits);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}

INLINE Operand load_x(const float *x) {
    return _mm256_loadu_ps(x);
}

INLINE Operand load_x_part(const float *x, int count) {
    __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_maskload_ps(x, _mm256_cmpgt_epi32(_mm256_set1_epi32(count), lane));
}

INLINE Operand load_w(const void *w, WeightType type) {
    return type == WEIGHT_F32 ? _mm256_loadu_ps(w) : widen(_mm_loadu_si128(w), type);
}

INLINE Operand load_w_part(const void *w, WeightType type, int count) {
    if (type == WEIGHT_F32)
        return load_x_part(w, count);
    uint16_t bits[STEP] = {0}; /* there is no masked load of 16-bit elements */
    memcpy(bits, w, (size_t)count * sizeof *bits);
    return widen(_mm_loadu_si128((const __m128i *)bits), type);
}

INLINE Operand widen_q8(const int8_t *q, float scale) {
    __m256i wide = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)q));
    return _mm256_mul_ps(_mm256_cvtepi32_ps(wide), _mm256_set1_ps(scale));
}

INLINE Operand load_packed(const Element *from) {
    return _mm256_load_ps(from);
}

INLINE void store_packed(Element *to, Operand values) {
    _mm256_store_ps(to, values);
}

INLINE void store_x(float *to, Operand values) {
    _mm256_storeu_ps(to, values);
}

INLINE Operand broadcast(const float *value) {
    return _mm256_set1_ps(*value);
}

INLINE Operand broadcast_word(const Element *word) {
    return _mm256_set1_ps(*word);
}

INLINE Operand join(const Sum *parts) {
    return parts[0];
}

INLINE Sum larger(Sum a, Sum b) {
    return _mm256_max_ps(a, b);
}

INLINE bool any_above(Sum a, Sum b) {
    return _mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GT_OQ)) != 0;
}

INLINE Sum not_below_126(Sum x) {
    return _mm256_max_ps(_mm256_set1_ps(-126), x); /* x if it is NaN */
}

INLINE Sum fraction(Sum x) {
    x = not_below_126(x);
    return x - _mm256_floor_ps(x);
}

INLINE Sum times_power(Sum y, Sum x) {
    __m256i power = _mm256_cvtps_epi32(_mm256_floor_ps(not_below_126(x)));
    return (Sum)_mm256_add_epi32((__m256i)y, _mm256_slli_epi32(power, 23));
}

INLINE Sum multiply_add(Sum sum, Operand x, Operand w) {
    return _mm256_fmadd_ps(x, w, sum);
}

INLINE void put_sums(float *c, const Sum *sums, bool first) {
    __m256 pairs =
        _mm256_hadd_ps(_mm256_hadd_ps(sums[0], sums[1]), _mm256_hadd_ps(sums[2], sums[3]));
    __m128 total = _mm_add_ps(_mm256_castps256_ps128(pairs), _mm256_extractf128_ps(pairs, 1));
    _mm_storeu_ps(c, first ? total : _mm_add_ps(_mm_loadu_ps(c), total));
}

#include "kernels/matmul_simd.h"
#include "kernels/matmul_packed.h"
#include "kernels/gemm_simd.h"
#include "kernels/attend_simd.h"
#include "kernels/words_simd.h"
#include "kernels/field_simd.h"
#endif
