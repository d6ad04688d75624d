/* Norms and softmax against double precision, at every CPU level, with the same bits at each. */
#include "support.h"

#include "kernels/cpu.h"
#include "kernels/quant.h"
#include "kernels/rows.h"

#include <math.h>
#include <string.h>

#define MOST 5000

static float x[MOST], weight[MOST], bias[MOST], y[MOST], first[MOST];

static void fill(uint64_t *random, int width, float scale) {
    for (int i = 0; i < width; i++) {
        x[i] = (float)random_between(random, -1000, 1000) / 1000 * scale;
        weight[i] = (float)random_between(random, -1000, 1000) / 500;
        bias[i] = (float)random_between(random, -1000, 1000) / 500;
    }
}

static const int widths[] = {1, 2, 15, 16, 17, 31, 64, 90, 196, 768, 1280, 4097};
#define WIDTHS (int)(sizeof widths / sizeof *widths)

typedef void (*Check)(int width, bool first_level);

/* Run a check for every width and level. */
static void at_every_level(Check check, float scale) {
    uint64_t random = 5;
    for (int w = 0; w < WIDTHS; w++) {
        fill(&random, widths[w], scale);
        for (int level = CPU_PORTABLE; level <= (int)cpu_best_level(); level++) {
            cpu_force_level((CpuLevel)level);
            check(widths[w], level == CPU_PORTABLE);
        }
    }
    cpu_force_level(cpu_best_level());
}

static void same_bits(int width, bool first_level) {
    if (first_level)
        memcpy(first, y, (size_t)width * sizeof *y);
    assert_memory_equal(first, y, (size_t)width * sizeof *y);
}

static void check_layer_norm(int width, bool first_level) {
    double mean = 0, variance = 0;
    for (int i = 0; i < width; i++)
        mean += x[i] / (double)width;
    for (int i = 0; i < width; i++)
        variance += (x[i] - mean) * (x[i] - mean) / width;
    layer_norm(x, weight, bias, width, 1e-6f, y);
    for (int i = 0; i < width; i++) {
        double expected = (x[i] - mean) / sqrt(variance + 1e-6) * weight[i] + bias[i];
        assert_true(fabs(y[i] - expected) <= 2e-6 * (1 + fabs(expected)));
    }
    same_bits(width, first_level);
}

/* Each number within half a step of what it was, a step being a 127th of its block's largest. */
static void check_round_to_q8(int width, bool first_level) {
    int8_t q[MOST];
    uint16_t scales[MOST / Q8_BLOCK + 1];
    round_to_q8(x, width, q, scales);
    dequantize_q8(q, scales, 0, width, y);
    for (int begin = 0; begin < width; begin += Q8_BLOCK) {
        int end = begin + Q8_BLOCK < width ? begin + Q8_BLOCK : width;
        float largest = 0;
        for (int i = begin; i < end; i++)
            largest = fmaxf(largest, fabsf(x[i]));
        for (int i = begin; i < end; i++)
            assert_true(fabsf(y[i] - x[i]) <= 0.502f * largest / 127);
    }
    same_bits(width, first_level);
}

static void rounding_to_q8(void **state) {
    (void)state;
    at_every_level(check_round_to_q8, 3);
    at_every_level(check_round_to_q8, 1e30f);
}

/* A block of nothing, or of next to nothing, is 0, and one that holds no number shows it. */
static void odd_blocks_of_q8(void **state) {
    (void)state;
    static const float odd[] = {0, 1e-42f, NAN, INFINITY, -INFINITY};
    enum { WIDTH = 150 };
    for (int level = CPU_PORTABLE; level <= (int)cpu_best_level(); level++)
        for (size_t o = 0; o < sizeof odd / sizeof *odd; o++) {
            int8_t q[WIDTH];
            uint16_t scales[3];
            cpu_force_level((CpuLevel)level);
            for (int i = 0; i < WIDTH; i++)
                x[i] = i < Q8_BLOCK ? 1 : odd[o] == 1e-42f ? odd[o] : 0;
            x[140] = odd[o];
            round_to_q8(x, WIDTH, q, scales);
            dequantize_q8(q, scales, 0, WIDTH, y);
            for (int i = 0; i < WIDTH; i++)
                if (i < Q8_BLOCK)
                    assert_true(fabsf(y[i] - 1) < 0.004f);
                else if (i < 2 * Q8_BLOCK || isfinite(odd[o]))
                    assert_true(fabsf(y[i]) < 1e-38f);
                else
                    assert_true(isnan(y[i]));
        }
    cpu_force_level(cpu_best_level());
}

static void check_rms_norm(int width, bool first_level) {
    double squares = 0;
    for (int i = 0; i < width; i++)
        squares += (double)x[i] * x[i] / width;
    memcpy(y, x, (size_t)width * sizeof *y);
    rms_norm(y, weight, width, 1e-6f, y);
    for (int i = 0; i < width; i++) {
        double expected = x[i] / sqrt(squares + 1e-6) * weight[i];
        assert_true(fabs(y[i] - expected) <= 2e-6 * (1 + fabs(expected)));
    }
    same_bits(width, first_level);
}

static void check_softmax(int width, bool first_level) {
    double max = x[0], sum = 0;
    for (int i = 0; i < width; i++)
        max = x[i] > max ? x[i] : max;
    for (int i = 0; i < width; i++)
        sum += exp(x[i] - max);
    memcpy(y, x, (size_t)width * sizeof *y);
    softmax(y, width);
    for (int i = 0; i < width; i++) {
        double expected = exp(x[i] - max) / sum;
        assert_true(fabs(y[i] - expected) <= 4e-6 * expected + 1e-37);
    }
    assert_true(fabs(log_sum_exp(x, width) - (max + log(sum))) <= 1e-6 * (1 + fabs(max)));
    same_bits(width, first_level);
}

static void check_softmax_part(int width, bool first_level) {
    double max = x[0], expected = 0;
    float sum;
    for (int i = 0; i < width; i++)
        max = x[i] > max ? x[i] : max;
    for (int i = 0; i < width; i++)
        expected += exp(x[i] - max);
    memcpy(y, x, (size_t)width * sizeof *y);
    assert_true(softmax_part(y, width, &sum) == max);
    assert_true(fabs(sum - expected) <= 4e-6 * expected);
    for (int i = 0; i < width; i++)
        assert_true(fabs(y[i] - exp(x[i] - max)) <= 4e-6 * exp(x[i] - max) + 1e-37);
    same_bits(width, first_level);
}

/* The largest stands at every place once, and at a later one, too. */
static void check_argmax(int width, bool first_level) {
    (void)first_level;
    for (int i = 0; i < width; i += 1 + width / 97) {
        memcpy(y, x, (size_t)width * sizeof *y);
        y[i] = y[width - 1 - (width - 1 - i) / 2] = 10;
        assert_int_equal(argmax(y, width), i);
        y[i] = INFINITY;
        assert_int_equal(argmax(y, width), i);
        for (int j = 0; j < width; j++)
            y[j] = -INFINITY;
        assert_int_equal(argmax(y, width), 0);
        y[i] = NAN;
        assert_in_range(argmax(y, width), 0, width - 1);
    }
}

static void norms(void **state) {
    (void)state;
    at_every_level(check_layer_norm, 3);
    at_every_level(check_rms_norm, 3);
}

static void softmaxes(void **state) {
    (void)state;
    at_every_level(check_softmax, 1);
    at_every_level(check_softmax, 40);
    at_every_level(check_softmax, 3000);
    at_every_level(check_softmax_part, 40);
}

static void argmaxes(void **state) {
    (void)state;
    at_every_level(check_argmax, 3);
}

/* One bad value anywhere spoils the whole row: nothing hides it. */
static void bad_values_show(void **state) {
    (void)state;
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    uint64_t random = 9;
    for (int level = CPU_PORTABLE; level <= (int)cpu_best_level(); level++) {
        cpu_force_level((CpuLevel)level);
        for (int w = 0; w < WIDTHS; w++)
            for (size_t b = 0; b < sizeof bad / sizeof *bad; b++) {
                fill(&random, widths[w], 1);
                x[random_between(&random, 0, widths[w] - 1)] = bad[b];
                assert_false(isfinite(log_sum_exp(x, widths[w])));
                assert_false(all_finite(x, (size_t)widths[w]));
                softmax(x, widths[w]);
                for (int i = 0; i < widths[w]; i++)
                    assert_true(isnan(x[i]));
            }
    }
    cpu_force_level(cpu_best_level());
    x[0] = -INFINITY;
    assert_false(isfinite(log_sum_exp(x, 1)));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(norms),
        cmocka_unit_test(softmaxes),
        cmocka_unit_test(argmaxes),
        cmocka_unit_test(rounding_to_q8),
        cmocka_unit_test(odd_blocks_of_q8),
        cmocka_unit_test(bad_values_show),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
