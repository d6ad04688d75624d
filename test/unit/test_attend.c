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

static Guarded random_rows(Matrix *rows) {
    size_t count = (size_t)rows->rows * (size_t)rows->columns;
    Guarded g = guarded(count * (rows->type == WEIGHT_F32 ? sizeof(float) : sizeof(uint16_t)));
    for (size_t i = 0; i < count; i++)
        if (rows->type == WEIGHT_F32)
            ((float *)g.data)[i] = random_unit();
        else
            ((uint16_t *)g.data)[i] = bf16_nearest(random_unit());
    rows->data = g.data;
    return g;
}

static double value(const Matrix *rows, int r, int c) {
    size_t i = (size_t)r * (size_t)rows->columns + (size_t)c;
    return rows->type == WEIGHT_F32 ? ((const float *)rows->data)[i]
                                    : bf16_to_f32(((const uint16_t *)rows->data)[i]);
}

static Guarded random_vector(int count) {
    Matrix row = {.type = WEIGHT_F32, .rows = 1, .columns = count};
    return random_rows(&row);
}

/* a b^T of random rows b, and a b, with nothing of theirs beyond their ends read or written. */
static void check(WeightType type, int count, int width) {
    Matrix rows = {.type = type, .rows = count, .columns = width};
    Guarded data = random_rows(&rows), q = random_vector(width), weights = random_vector(count);
    Guarded scores = guarded((size_t)count * sizeof(float));
    Guarded out = guarded((size_t)width * sizeof(float));
    for (int level = CPU_PORTABLE; level <= (int)cpu_best_level(); level++) {
        cpu_force_level((CpuLevel)level);
        attend_keys(q.data, rows, scores.data);
        attend_values(weights.data, rows, out.data);
        for (int r = 0; r < count; r++) {
            double sum = 0, size = 0;
            for (int c = 0; c < width; c++) {
                sum += ((float *)q.data)[c] * value(&rows, r, c);
                size += fabs(((float *)q.data)[c] * value(&rows, r, c));
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
    release(data), release(q), release(weights), release(scores), release(out);
}

static void every_shape(void **state) {
    (void)state;
    for (int w = 0; w < LENGTH(widths); w++)
        for (int c = 0; c < LENGTH(counts); c++) {
            check(WEIGHT_F32, counts[c], widths[w]);
            check(WEIGHT_BF16, counts[c], widths[w]);
        }
}

/* What a row's product is depends neither on how many rows there are nor on which it is. */
static void rows_do_not_meet(void **state) {
    (void)state;
    Matrix rows = {.type = WEIGHT_BF16, .rows = 29, .columns = 96};
    Guarded data = random_rows(&rows), q = random_vector(96);
    for (int level = CPU_PORTABLE; level <= (int)cpu_best_level(); level++) {
        float all[29], one;
        cpu_force_level((CpuLevel)level);
        attend_keys(q.data, rows, all);
        for (int r = 0; r < 29; r++) {
            Matrix row = {(uint16_t *)data.data + r * 96, WEIGHT_BF16, 1, 96, NULL};
            attend_keys(q.data, row, &one);
            assert_memory_equal(&one, &all[r], sizeof one);
        }
    }
    cpu_force_level(cpu_best_level());
    release(data), release(q);
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
            Guarded data = random_rows(&rows);
            int r = random_between(&seed, 0, 19), c = random_between(&seed, 0, 39);
            ((uint16_t *)data.data)[r * 40 + c] = bad[b];
            attend_keys(q, rows, scores);
            attend_values(weights, rows, out);
            for (int i = 0; i < 20; i++)
                assert_int_equal(!isfinite(scores[i]), i == r);
            for (int i = 0; i < 40; i++)
                assert_int_equal(!isfinite(out[i]), i == c);
            release(data);
        }
    }
    cpu_force_level(cpu_best_level());
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_shape),
        cmocka_unit_test(rows_do_not_meet),
        cmocka_unit_test(bad_values_show),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
