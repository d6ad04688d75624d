/*
 * One query over rows of keys and of values, at every CPU level, against double
 * precision. The rows end where the system says no.
 */
#include "guarded.h"
#include "support.h"

#include "base/bf16.h"
#include "base/numbers.h"
#include "kernels/attend.h"
#include "kernels/cpu.h"
#include "kernels/quant.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const int widths[] = {1, 3, 4, 8, 15, 16, 31, 32, 64, 65, 100, 128, 160, 300};
static const int counts[] = {1, 2, 3, 7, 8, 9, 64, 257};
#define LENGTH(array) (int)(sizeof(array) / sizeof *(array))

static uint64_t seed = 3;

static float random_unit(void) {
    return (float)random_between(&seed, -1000, 1000) / 1000;
}

/* Rows, and their scales if they have some. */
typedef struct Rows {
    Guarded data, scales;
} Rows;

static Rows random_rows(Matrix *rows) {
    static const size_t bytes[] = {[WEIGHT_F32] = 4, [WEIGHT_BF16] = 2, [WEIGHT_Q8] = 1};
    size_t count = (size_t)rows->rows * (size_t)rows->columns;
    size_t blocks = (size_t)rows->rows * (size_t)q8_blocks(rows->columns);
    Rows out = {guarded(count * bytes[rows->type]), guarded(blocks * sizeof(uint16_t))};
    for (size_t i = 0; i < count; i++)
        if (rows->type == WEIGHT_F32)
            ((float *)out.data.data)[i] = random_unit();
        else if (rows->type == WEIGHT_BF16)
            ((uint16_t *)out.data.data)[i] = bf16_nearest(random_unit());
        else
            ((int8_t *)out.data.data)[i] = (int8_t)random_between(&seed, -127, 127);
    for (size_t i = 0; i < blocks; i++)
        ((uint16_t *)out.scales.data)[i] = bf16_nearest(random_unit());
    rows->data = out.data.data;
    rows->scales = out.scales.data;
    return out;
}

static double value(const Matrix *rows, int r, int c) {
    size_t i = (size_t)r * (size_t)rows->columns + (size_t)c;
    if (rows->type == WEIGHT_F32)
        return ((const float *)rows->data)[i];
    if (rows->type == WEIGHT_BF16)
        return bf16_to_f32(((const uint16_t *)rows->data)[i]);
    float scale = bf16_to_f32(rows->scales[r * q8_blocks(rows->columns) + c / Q8_BLOCK]);
    return scale * (float)((const int8_t *)rows->data)[i];
}

static Guarded random_vector(int count) {
    Guarded g = guarded((size_t)count * sizeof(float));
    for (int i = 0; i < count; i++)
        ((float *)g.data)[i] = random_unit();
    return g;
}

/* a b^T of random rows b, and a b, with nothing of theirs beyond their ends read or written. */
static void check(WeightType type, int count, int width) {
    Matrix rows = {.type = type, .rows = count, .columns = width};
    Rows data = random_rows(&rows);
    Guarded q = random_vector(width), weights = random_vector(count);
    Guarded scores = guarded((size_t)count * sizeof(float));
    Guarded out = guarded((size_t)width * sizeof(float));
    float rounded[300]; /* what the query becomes */
    memcpy(rounded, q.data, (size_t)width * sizeof *rounded);
    if (type == WEIGHT_Q8)
        round_to_integers(q.data, width, 32639, rounded);
    for (int level = CPU_PORTABLE; level <= (int)cpu_best_level(); level++) {
        cpu_force_level((CpuLevel)level);
        attend_keys(q.data, rows, scores.data);
        attend_values(weights.data, rows, out.data);
        for (int r = 0; r < count; r++) {
            double sum = 0, size = 0;
            for (int c = 0; c < width; c++) {
                sum += rounded[c] * value(&rows, r, c);
                size += fabs(rounded[c] * value(&rows, r, c));
            }
            assert_true(fabs(((float *)scores.data)[r] - sum) <= 1e-6 * size);
        }
        for (int c = 0; c < width; c++) {
            double sum = 0, size = 0;
            for (int r = 0; r < count; r++) {
                sum += ((float *)weights.data)[r] * value(&rows, r, c);
                size += fabs(((float *)weights.data)[r] * value(&rows, r, c));
            }
            assert_true(fabs(((float *)out.data)[c] - sum) <= 1e-5 * size);
        }
    }
    cpu_force_level(cpu_best_level());
    release(data.data), release(data.scales), release(q), release(weights), release(scores),
        release(out);
}

static void every_shape(void **state) {
    (void)state;
    for (int w = 0; w < LENGTH(widths); w++)
        for (int c = 0; c < LENGTH(counts); c++) {
            check(WEIGHT_F32, counts[c], widths[w]);
            check(WEIGHT_BF16, counts[c], widths[w]);
            check(WEIGHT_Q8, counts[c], widths[w]);
        }
}

/* What a row's product is depends neither on how many rows there are nor on which it is. */
static void rows_do_not_meet(void **state) {
    (void)state;
    static const WeightType types[] = {WEIGHT_BF16, WEIGHT_Q8};
    for (int t = 0; t < LENGTH(types); t++) {
        Matrix rows = {.type = types[t], .rows = 29, .columns = 96};
        Rows data = random_rows(&rows);
        Guarded q = random_vector(96);
        size_t bytes = types[t] == WEIGHT_Q8 ? 96 : 192;
        for (int level = CPU_PORTABLE; level <= (int)cpu_best_level(); level++) {
            float all[29], one;
            cpu_force_level((CpuLevel)level);
            attend_keys(q.data, rows, all);
            for (int r = 0; r < 29; r++) {
                Matrix row = {(char *)data.data.data + (size_t)r * bytes, types[t], 1, 96,
                              rows.scales + r * q8_blocks(96)};
                attend_keys(q.data, row, &one);
                assert_memory_equal(&one, &all[r], sizeof one);
            }
        }
        release(data.data), release(data.scales), release(q);
    }
    cpu_force_level(cpu_best_level());
}

/* All rows as f32, exactly. */
static void rows_are_widened(void **state) {
    (void)state;
    static const WeightType types[] = {WEIGHT_BF16, WEIGHT_Q8};
    for (int t = 0; t < LENGTH(types); t++)
        for (int w = 0; w < LENGTH(widths); w++) {
            Matrix rows = {.type = types[t], .rows = 9, .columns = widths[w]};
            int stride = attend_stride(widths[w]);
            Rows data = random_rows(&rows);
            size_t floats = (size_t)(9 * stride);
            float *out = aligned_alloc(64, floats * sizeof *out);
            for (int level = CPU_PORTABLE; level <= (int)cpu_best_level(); level++) {
                cpu_force_level((CpuLevel)level);
                memset(out, 0xFF, floats * sizeof *out);
                attend_widen(rows, out);
                for (int r = 0; r < 9; r++)
                    for (int c = 0; c < widths[w]; c++)
                        assert_true((double)out[r * stride + c] == value(&rows, r, c));
            }
            free(out);
            release(data.data), release(data.scales);
        }
    cpu_force_level(cpu_best_level());
}

static void bad_values_show(void **state) {
    (void)state;
    static const uint16_t bad[] = {0x7FC0, 0x7F80, 0xFF80}; /* NaN, infinities */
    float weights[20], q[40], scores[20], out[40];
    for (int i = 0; i < 20; i++)
        weights[i] = 0.5f;
    for (int i = 0; i < 40; i++)
        q[i] = 1;
    for (int level = CPU_PORTABLE; level <= (int)cpu_best_level(); level++) {
        cpu_force_level((CpuLevel)level);
        for (int b = 0; b < LENGTH(bad); b++) {
            Matrix rows = {.type = WEIGHT_BF16, .rows = 20, .columns = 40};
            Rows data = random_rows(&rows);
            int r = random_between(&seed, 0, 19), c = random_between(&seed, 0, 39);
            ((uint16_t *)data.data.data)[r * 40 + c] = bad[b];
            attend_keys(q, rows, scores);
            attend_values(weights, rows, out);
            for (int i = 0; i < 20; i++)
                assert_int_equal(!isfinite(scores[i]), i == r);
            for (int i = 0; i < 40; i++)
                assert_int_equal(!isfinite(out[i]), i == c);
            release(data.data), release(data.scales);
        }
    }
    cpu_force_level(cpu_best_level());
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_shape),
        cmocka_unit_test(rows_do_not_meet),
        cmocka_unit_test(rows_are_widened),
        cmocka_unit_test(bad_values_show),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
