/*
 * The kernels for any processor, in the compiler's vectors of four: SSE2 on
 * x86-64, NEON on arm64.
 */
#include "kernels/matmul_kernel.h"

#include <string.h>
#if defined(__aarch64__)
#include <arm_neon.h>
#endif

#define TARGET
#define INLINE static inline __attribute__((always_inline))
#define NAME(suffix) suffix##_portable
#define STEP 4
#if defined(__aarch64__)
#define KEEP(vector) __asm__ volatile("" : "+w"(vector))
#define COLUMNS 8 /* 32 registers */
#define GEMM_VECTORS 4
#else
#if defined(__x86_64__)
#define KEEP(vector) __asm__ volatile("" : "+x"(vector))
#else
#define KEEP(vector) (void)(vector) /* the letter of vector registers differs */
#endif
#define COLUMNS 4 /* 16 */
#define GEMM_VECTORS 2
#endif

typedef float Element;
typedef float Operand __attribute__((vector_size(4 * STEP)));
typedef Operand Sum;
typedef int32_t Integers __attribute__((vector_size(4 * STEP)));
typedef uint32_t Bits __attribute__((vector_size(4 * STEP)));
typedef uint16_t Halves __attribute__((vector_size(2 * STEP)));

INLINE Operand load_x(const float *x) {
    Operand values;
    memcpy(&values, x, sizeof values);
    return values;
}

INLINE Operand load_x_part(const float *x, int count) {
    Operand values = {0};
    for (int i = 0; i < count; i++)
        values[i] = x[i];
    return values;
}

/* The bits of f16, moved into place, are the number times 2^-112, subnormals included. */
INLINE Operand widen_f16(Halves bits) {
    Bits wide = __builtin_convertvector(bits, Bits);
    Operand values = (Operand)((wide & 0x7FFF) << 13) * 0x1p112f;
    Bits special = (Bits)((wide & 0x7C00) == 0x7C00) & 0x7F800000; /* infinity and NaN */
    return (Operand)((Bits)values | special | (wide & 0x8000) << 16);
}

INLINE Operand widen(Halves bits, WeightType type) {
    if (type == WEIGHT_F16)
        return widen_f16(bits);
    return (Operand)(__builtin_convertvector(bits, Bits) << 16);
}

INLINE Operand load_w(const void *w, WeightType type) {
    Halves bits;
    if (type == WEIGHT_F32)
        return load_x(w);
    memcpy(&bits, w, sizeof bits);
    return widen(bits, type);
}

INLINE Operand load_w_part(const void *w, WeightType type, int count) {
    Halves bits = {0};
    if (type == WEIGHT_F32)
        return load_x_part(w, count);
    for (int i = 0; i < count; i++)
        bits[i] = ((const uint16_t *)w)[i];
    return widen(bits, type);
}

INLINE Operand widen_q8(const int8_t *q, float scale) {
    Operand values;
    for (int i = 0; i < STEP; i++)
        values[i] = (float)q[i];
    return values * scale;
}

INLINE Operand load_packed(const Element *from) {
    return *(const Operand *)from;
}

INLINE void store_packed(Element *to, Operand values) {
    *(Operand *)to = values;
}

INLINE void store_x(float *to, Operand values) {
    memcpy(to, &values, sizeof values);
}

INLINE Operand broadcast(const float *value) {
    return (Operand){*value, *value, *value, *value};
}

INLINE Operand broadcast_word(const Element *word) {
    return broadcast(word);
}

INLINE Operand join(const Sum *parts) {
    return parts[0];
}

INLINE Sum load_lanes(const float *x) {
    return load_x(x);
}

INLINE void store_lanes(float *to, Sum values) {
    store_x(to, values);
}

INLINE Sum larger(Sum a, Sum b) {
    Bits above = (Bits)(a > b);
    return (Sum)(((Bits)a & above) | ((Bits)b & ~above));
}

INLINE bool any_above(Sum a, Sum b) {
    bool any = false;
    for (int i = 0; i < STEP; i++)
        any |= a[i] > b[i];
    return any;
}

INLINE Sum not_below_126(Sum x) {
    return larger((Sum){-126, -126, -126, -126}, x); /* x if it is NaN */
}

/* Up to 2^22. */
INLINE Sum floor_of(Sum x) {
    const float bias = 0x1.8p23f; /* adding it rounds to an integer in the low bits */
    Sum nearest = (x + bias) - bias;
    return nearest - (Sum)((Bits)(nearest > x) & (Bits)(Sum){1, 1, 1, 1});
}

INLINE Sum fraction(Sum x) {
    x = not_below_126(x);
    return x - floor_of(x);
}

INLINE Sum times_power(Sum y, Sum x) {
    Sum power = floor_of(not_below_126(x));
    return (Sum)((Bits)y + ((Bits) __builtin_convertvector(power, Integers) << 23));
}

INLINE Sum multiply_add(Sum sum, Operand x, Operand w) {
#if defined(__aarch64__)
    return (Sum)vfmaq_f32((float32x4_t)sum, (float32x4_t)x, (float32x4_t)w);
#else
    return sum + x * w;
#endif
}

INLINE Sum add_product(Sum sum, Sum a, Sum b) {
    return multiply_add(sum, a, b);
}

/* Four of the eight elements of a and b, by their indices. GCC has clang's name since 12. */
#if defined(__clang__)
#define PICK(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define PICK(a, b, ...) __builtin_shuffle(a, b, (Integers){__VA_ARGS__})
#endif

INLINE void transpose(Sum *rows) {
    Sum low01 = PICK(rows[0], rows[1], 0, 4, 1, 5);
    Sum high01 = PICK(rows[0], rows[1], 2, 6, 3, 7);
    Sum low23 = PICK(rows[2], rows[3], 0, 4, 1, 5);
    Sum high23 = PICK(rows[2], rows[3], 2, 6, 3, 7);
    rows[0] = PICK(low01, low23, 0, 1, 4, 5);
    rows[1] = PICK(low01, low23, 2, 3, 6, 7);
    rows[2] = PICK(high01, high23, 0, 1, 4, 5);
    rows[3] = PICK(high01, high23, 2, 3, 6, 7);
}

INLINE void put_sums(float *c, const Sum *sums, bool first) {
    for (int n = 0; n < COLUMNS; n += 4) {
        Sum square[4] = {sums[n], sums[n + 1], sums[n + 2], sums[n + 3]};
        transpose(square);
        Sum total = (square[0] + square[1]) + (square[2] + square[3]);
        store_x(c + n, first ? total : load_x(c + n) + total);
    }
}

#include "kernels/matmul_simd.h"
#include "kernels/matmul_packed.h"
#include "kernels/gemm_simd.h"
#include "kernels/attend_simd.h"
#include "kernels/words_simd.h"
#include "kernels/field_simd.h"
