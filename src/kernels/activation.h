/*
 * activation.h - the model's activations, without branches and calls, so that a
 * loop over them is vectorised.
 *
 * `fused` is a constant: whether the instruction set of the loop multiplies and
 * adds in one operation. NaN stays NaN.
 */
#ifndef OCR_ACTIVATION_H
#define OCR_ACTIVATION_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define ACTIVATION static inline __attribute__((always_inline))

ACTIVATION float activation_fma(float a, float b, float c, bool fused) {
    return fused ? __builtin_fmaf(a, b, c) : a * b + c;
}

/*
 * e^x within 2 ulp; 0 below -87, infinity above 88. x = n ln 2 + r with
 * |r| <= ln 2 / 2, a Taylor polynomial for e^r, times 2^n.
 */
ACTIVATION float activation_exp(float x, bool fused) {
    const float round_bias = 0x1.8p23f; /* adding it leaves an integer in the low bits */
    float shifted = activation_fma(x, 0x1.715476p+0f, round_bias, fused);
    float n = shifted - round_bias;
    float r = activation_fma(n, -0x1.62e4p-1f, x, fused); /* ln 2 in two parts */
    r = activation_fma(n, -0x1.7f7d1cp-20f, r, fused);
    float p = 1.0f / 720;
    p = activation_fma(p, r, 1.0f / 120, fused);
    p = activation_fma(p, r, 1.0f / 24, fused);
    p = activation_fma(p, r, 1.0f / 6, fused);
    p = activation_fma(p, r, 0.5f, fused);
    p = activation_fma(p, r, 1.0f, fused);
    p = activation_fma(p, r, 1.0f, fused);
    uint32_t bits;
    float power;
    memcpy(&bits, &shifted, sizeof bits);
    bits = (bits << 23) + 0x3F800000;
    memcpy(&power, &bits, sizeof power);
    float result = p * power;
    result = x < -87.0f ? 0.0f : result;
    return x > 88.0f ? INFINITY : result;
}

/* x * sigmoid(scale * x) */
ACTIVATION float activation_sigmoid_unit(float x, float scale, bool fused) {
    return x / (1.0f + activation_exp(-scale * x, fused));
}

/*
 * x * Phi(x), where the normal distribution Phi is erfc(-x / sqrt 2) / 2. For
 * a = |x| / sqrt 2 up to 4, -ln erfc(a) is a polynomial, fitted so that the error
 * of erfc(a) is below 1e-8 sqrt(erfc(a)); beyond, the polynomial goes on growing
 * and erfc is lost beside 1.
 */
ACTIVATION float activation_gelu(float x, bool fused) {
    float a = fabsf(x) * 0.70710678118654752f;
    float p = 8.140923157427712e-07f;
    p = activation_fma(p, a, -1.600285927399962e-05f, fused);
    p = activation_fma(p, a, 0.00013642660117367222f, fused);
    p = activation_fma(p, a, -0.0006440113216382655f, fused);
    p = activation_fma(p, a, 0.0016230556949632404f, fused);
    p = activation_fma(p, a, -6.036603451789847e-05f, fused);
    p = activation_fma(p, a, -0.01924149539971443f, fused);
    p = activation_fma(p, a, 0.10281507379936518f, fused);
    p = activation_fma(p, a, 0.6366124391390975f, fused);
    p = activation_fma(p, a, 1.128379585565745f, fused);
    float half = 0.5f * activation_exp(-(p * a), fused);
    return x * (x < 0.0f ? half : 1.0f - half);
}

#endif
