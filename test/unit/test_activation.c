/*
 * The activations against libm in double, in both forms: with fused multiply-add
 * and without.
 */
#include "support.h"

#include "kernels/activation.h"

#define ULP 0x1p-23 /* of 1 */

/* x = low, low + step, ... high */
#define EACH(x, low, high, step) for (double x = (low); x <= (high); x += (step))

static void test_exp(void **state) {
    (void)state;
    for (int fused = 0; fused < 2; fused++) {
        EACH(at, -86.9, 87.9, 0.0007) {
            float x = (float)at;
            double expected = exp((double)x);
            assert_true(fabs((double)activation_exp(x, fused) - expected) <= 2.5 * ULP * expected);
        }
        assert_true(activation_exp(0.0f, fused) == 1.0f);
        assert_true(activation_exp(-88.0f, fused) == 0.0f);
        assert_true(activation_exp(-INFINITY, fused) == 0.0f);
        assert_true(isinf(activation_exp(89.0f, fused)));
        assert_true(isinf(activation_exp(INFINITY, fused)));
        assert_true(isnan(activation_exp(NAN, fused)));
    }
}

/* Relative to x, of which Phi is at most 1. */
static void test_gelu(void **state) {
    (void)state;
    for (int fused = 0; fused < 2; fused++) {
        EACH(at, -20.0, 20.0, 0.00013) {
            float x = (float)at;
            double expected = 0.5 * (double)x * erfc((double)-x * 0.70710678118654752440);
            assert_true(fabs((double)activation_gelu(x, fused) - expected) <=
                        1.5 * ULP * fabs((double)x));
        }
        assert_true(activation_gelu(0.0f, fused) == 0.0f);
        assert_true(activation_gelu(1e30f, fused) == 1e30f);
        assert_true(activation_gelu(-1e30f, fused) == 0.0f);
        assert_true(isnan(activation_gelu(NAN, fused)));
    }
}

static void test_sigmoid_unit(void **state) {
    static const float scales[] = {1.0f, 1.702f};
    (void)state;
    for (int fused = 0; fused < 2; fused++)
        for (int i = 0; i < 2; i++) {
            EACH(at, -60.0, 60.0, 0.0009) {
                float x = (float)at, z = scales[i] * x;
                double expected = (double)x / (1 + exp((double)-z));
                double tolerance = 4 * ULP * fabs(expected) + 1e-36;
                assert_true(fabs((double)activation_sigmoid_unit(x, scales[i], fused) - expected) <=
                            tolerance);
            }
            assert_true(activation_sigmoid_unit(0.0f, scales[i], fused) == 0.0f);
            assert_true(activation_sigmoid_unit(1e30f, scales[i], fused) == 1e30f);
            assert_true(activation_sigmoid_unit(-1e30f, scales[i], fused) == 0.0f);
            assert_true(isnan(activation_sigmoid_unit(NAN, scales[i], fused)));
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exp),
        cmocka_unit_test(test_gelu),
        cmocka_unit_test(test_sigmoid_unit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
