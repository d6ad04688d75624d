/*
 * Attention over fields, at every CPU level, against double precision; over whole
 * grids and windows of them, with any number of threads. Inputs and outputs end
 * where the system says no.
 */
#include "guarded.h"
#include "support.h"

#include "base/bf16.h"
#include "base/numbers.h"
#include "kernels/cpu.h"
#include "kernels/field.h"
#include "vision/attention.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define LENGTH(array) (int)(sizeof(array) / sizeof *(array))
#define EACH_LEVEL(level)                                                                          \
    for (CpuLevel level = CPU_PORTABLE;                                                            \
         level <= cpu_best_level() && (cpu_force_level(level), true); level++)

static uint64_t seed;

static float random_unit(void) {
    return (float)random_between(&seed, -1000, 1000) / 1000;
}

static Guarded random_floats(size_t count, float scale) {
    Guarded g = guarded(count * sizeof(float));
    for (size_t i = 0; i < count; i++)
        ((float *)g.data)[i] = random_unit() * scale;
    return g;
}

#define ROWS_APART (-1)

/* ---- one attention, and what it should give ---- */

typedef struct Case {
    int height, width, heads, dim;
    int window; /* side; ROWS_APART: each row of the grid by itself */
    bool distances;
    float scale; /* of q and k */
} Case;

typedef struct Work {
    Attention attention;
    Guarded qkv, out, pad, rel[2];
} Work;

static Work make_work(Case c) {
    int window_h = c.window == ROWS_APART ? 1 : c.window, window_w = max_int(c.window, 0);
    int h = window_h ? window_h : c.height, w = window_w ? window_w : c.width;
    size_t positions = (size_t)(c.height * c.width), width = (size_t)(c.heads * c.dim);
    Work work = {.qkv = random_floats(positions * 3 * width, c.scale),
                 .out = random_floats(positions * width, 1),
                 .pad = random_floats(3 * width, c.scale),
                 .rel = {random_floats((size_t)((2 * h - 1) * c.dim), 0.5f),
                         random_floats((size_t)((2 * w - 1) * c.dim), 0.5f)}};
    float *qkv = work.qkv.data;
    for (size_t i = 0; i < positions; i++) /* values are about 1 */
        for (size_t j = 2 * width; j < 3 * width; j++)
            qkv[i * 3 * width + j] = random_unit();
    work.attention = (Attention){.qkv = qkv,
                                 .out = work.out.data,
                                 .height = c.height,
                                 .width = c.width,
                                 .heads = c.heads,
                                 .dim = c.dim,
                                 .window_h = window_h,
                                 .window_w = window_w,
                                 .pad = work.pad.data,
                                 .rel_h = c.distances ? work.rel[0].data : NULL,
                                 .rel_w = c.distances ? work.rel[1].data : NULL};
    return work;
}

static void free_work(Work *work) {
    Guarded all[] = {work->qkv, work->out, work->pad, work->rel[0], work->rel[1]};
    for (int i = 0; i < LENGTH(all); i++)
        release(all[i]);
}

static double rounded(float x, bool to_bf16) {
    return to_bf16 ? bf16_to_f32(bf16_nearest(x)) : x;
}

static double product(const float *a, const float *b, int dim, bool to_bf16) {
    double sum = 0;
    for (int d = 0; d < dim; d++)
        sum += rounded(a[d], to_bf16) * rounded(b[d], to_bf16);
    return sum;
}

/* q (part 0), k (1) or v (2) of a head at a position, which may be padding. */
static const float *vector(const Attention *a, int part, int head, int y, int x) {
    int column = (part * a->heads + head) * a->dim;
    if (y >= a->height || x >= a->width)
        return a->pad + column;
    return a->qkv + (size_t)((y * a->width + x) * 3 * a->heads * a->dim + column);
}

/* out[dim] of one query, rounded on the way where the kernels round. */
static void reference(const Attention *a, int head, int y, int x, bool to_bf16, double *out) {
    int h = a->window_h ? a->window_h : a->height, w = a->window_w ? a->window_w : a->width;
    int top = y / h * h, left = x / w * w, dim = a->dim;
    const float *q = vector(a, 0, head, y, x);
    double *scores = malloc((size_t)(h * w) * sizeof *scores), most = -INFINITY, total = 0;
    for (int i = 0; i < h * w; i++) {
        int key_y = top + i / w, key_x = left + i % w;
        scores[i] = product(q, vector(a, 1, head, key_y, key_x), dim, to_bf16) / sqrt(dim);
        if (a->rel_h)
            scores[i] += product(q, a->rel_h + (h - 1 - y + key_y) * dim, dim, to_bf16) +
                         product(q, a->rel_w + (w - 1 - x + key_x) * dim, dim, to_bf16);
        most = fmax(most, scores[i]);
    }
    memset(out, 0, (size_t)dim * sizeof *out);
    for (int i = 0; i < h * w; i++) {
        double weight = exp(scores[i] - most);
        const float *v = vector(a, 2, head, top + i / w, left + i % w);
        total += weight;
        for (int d = 0; d < dim; d++)
            out[d] += weight * rounded(v[d], to_bf16);
    }
    for (int d = 0; d < dim; d++)
        out[d] /= total;
    free(scores);
}

static void run(const Attention *attention, Precision precision, int threads) {
    OcrPool *pool;
    OcrError err;
    assert_ok(pool_create(threads, &pool, &err), &err);
    Compute compute = {.pool = pool, .precision = precision};
    compute.thread_floats = attention_scratch_floats(
        attention->window_h ? attention->window_h : attention->height,
        attention->window_w ? attention->window_w : attention->width, attention->dim);
    Guarded scratch = guarded((size_t)threads * compute.thread_floats * sizeof(float));
    memset(scratch.data, 0xFF, (size_t)threads * compute.thread_floats * sizeof(float)); /* NaN */
    compute.thread_scratch = scratch.data;
    attention_run(attention, &compute);
    release(scratch);
    pool_destroy(pool);
}

static bool rounds(CpuLevel level, Precision precision) {
    return precision == PRECISION_FAST && level >= CPU_AVX512_BF16;
}

/*
 * Some of the queries. Probabilities are rounded to bf16, by up to 2^-9 of
 * themselves, where queries are; values are up to 1.
 */
static void compare(const Attention *a, CpuLevel level, Precision precision) {
    bool to_bf16 = rounds(level, precision);
    double tolerance = to_bf16 ? 0x1p-9 + 2e-4 : 1e-5, *expected = malloc((size_t)a->dim * 8);
    int queries = a->height * a->width, step = 1 + queries / 50;
    for (int i = 0; i < queries; i += i + step < queries ? step : 1)
        for (int head = 0; head < a->heads; head++) {
            const float *out = a->out + (i * a->heads + head) * a->dim;
            reference(a, head, i / a->width, i % a->width, to_bf16, expected);
            for (int d = 0; d < a->dim; d++)
                if (!(fabs((double)out[d] - expected[d]) <= tolerance))
                    fail_msg("%s %s, %d x %d, dim %d, window %d: position %d, %d: %g, not %g",
                             cpu_level_name(level), to_bf16 ? "bf16" : "f32", a->height, a->width,
                             a->dim, a->window_w, i, d, (double)out[d], expected[d]);
        }
    free(expected);
}

static void check(Case c, int threads) {
    EACH_LEVEL(level) {
        for (int fast = 0; fast < 2; fast++) {
            if (fast && !rounds(level, PRECISION_FAST))
                continue;
            Work work = make_work(c);
            run(&work.attention, (Precision)fast, threads);
            compare(&work.attention, level, (Precision)fast);
            free_work(&work);
        }
    }
    cpu_force_level(cpu_best_level());
}

/* ---- tests ---- */

static void test_dims(void **state) {
    static const int dims[] = {1, 2, 7, 8, 15, 16, 17, 31, 32, 33, 48, 63, 64, 80, 100, 128};
    (void)state;
    for (int i = 0; i < LENGTH(dims); i++)
        for (int distances = 0; distances < 2; distances++)
            check((Case){5, 13, 2, dims[i], 0, distances, 1}, 1);
}

static void test_sequences(void **state) {
    static const int lengths[] = {1, 2, 3, 16, 17, 47, 48, 49, 101, 128, 129, 257, 400};
    (void)state;
    for (int i = 0; i < LENGTH(lengths); i++)
        check((Case){1, lengths[i], 3, 64, 0, false, 2}, 2);
}

static void test_grids(void **state) {
    static const int sides[][2] = {{2, 1}, {1, 31}, {31, 1},  {7, 9},
                                   {8, 8}, {3, 80}, {20, 20}, {33, 17}};
    (void)state;
    for (int i = 0; i < LENGTH(sides); i++)
        check((Case){sides[i][0], sides[i][1], 1, 32, 0, true, 1.5f}, 2);
}

static void test_windows(void **state) {
    static const int sides[] = {1, 2, 3, 7, 8, 14, 20};
    (void)state;
    for (int i = 0; i < LENGTH(sides); i++)
        check((Case){17, 15, 2, 24, sides[i], true, 1.5f}, 2);
    check((Case){28, 20, 2, 64, 14, true, 1}, 2);
}

static void test_rows_apart(void **state) {
    (void)state;
    check((Case){3, 101, 2, 64, ROWS_APART, false, 2}, 2);
    check((Case){5, 17, 3, 20, ROWS_APART, true, 1}, 3);
}

/* Scores so far apart that all weight is on the largest, wherever it is. */
static void test_one_key_takes_all(void **state) {
    (void)state;
    EACH_LEVEL(level) {
        for (int fast = 0; fast < 2; fast++) {
            enum { DIM = 64, KEYS = 300 };
            Work work = make_work((Case){1, KEYS, 1, DIM, 0, false, 1});
            float *qkv = work.qkv.data;
            int chosen[KEYS];
            for (int i = 0; i < KEYS * 3 * DIM; i++)
                if (i % (3 * DIM) < 2 * DIM)
                    qkv[i] = random_between(&seed, 0, 1) ? 8 : -8;
            for (int i = 0; i < KEYS; i++) {
                chosen[i] = random_between(&seed, 0, KEYS - 1);
                memcpy(qkv + i * 3 * DIM, qkv + (chosen[i] * 3 + 1) * DIM, DIM * sizeof *qkv);
            }
            run(&work.attention, (Precision)fast, 1);
            bool to_bf16 = rounds(level, (Precision)fast);
            for (int i = 0; i < KEYS; i++)
                for (int d = 0; d < DIM; d++) {
                    double v = rounded(qkv[(chosen[i] * 3 + 2) * DIM + d], to_bf16);
                    assert_true(fabs(work.attention.out[i * DIM + d] - v) <= 1e-4);
                }
            free_work(&work);
        }
    }
    cpu_force_level(cpu_best_level());
}

/* Scores that rise, or fall, from key to key up to the given size, all of them large. */
static void test_extremes(void **state) {
    static const float sizes[] = {1, 8, 1e4f, 1e9f, 1e18f};
    (void)state;
    EACH_LEVEL(level) {
        for (int variant = 0; variant < 4 * LENGTH(sizes); variant++) {
            enum { DIM = 3, KEYS = 500 };
            Precision precision = (Precision)(variant % 2);
            Work work = make_work((Case){1, KEYS, 1, DIM, 0, false, 1});
            float *qkv = work.qkv.data, size = sizes[variant / 4];
            for (int i = 0; i < KEYS; i++)
                for (int d = 0; d < DIM; d++) {
                    float place = (float)(variant / 2 % 2 ? i : KEYS - i) / KEYS;
                    qkv[i * 3 * DIM + d] = i % 2 ? size : -size;
                    qkv[(i * 3 + 1) * DIM + d] = d == 0 ? size * place : size;
                }
            run(&work.attention, precision, 1);
            if (size <= 8)
                compare(&work.attention, level, precision);
            for (int i = 0; i < KEYS * DIM; i++)
                assert_true(fabs((double)work.attention.out[i]) <= 1.01);
            free_work(&work);
        }
    }
    cpu_force_level(cpu_best_level());
}

/* A bad query spoils its own output, a bad key or value all of its field. */
static void test_not_finite(void **state) {
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    (void)state;
    EACH_LEVEL(level) {
        for (int variant = 0; variant < 18; variant++) {
            enum { DIM = 20, SIDE = 12, WINDOW = 6 };
            int part = variant % 3, y = random_between(&seed, 0, SIDE - 1),
                x = random_between(&seed, 0, SIDE - 1);
            Work work = make_work((Case){SIDE, SIDE, 1, DIM, WINDOW, true, 1});
            float *at = (float *)vector(&work.attention, part, 0, y, x);
            at[random_between(&seed, 0, DIM - 1)] = bad[variant / 6];
            run(&work.attention, (Precision)(variant / 3 % 2), 1);
            for (int i = 0; i < SIDE * SIDE; i++) {
                bool own = i == y * SIDE + x;
                bool same = i / SIDE / WINDOW == y / WINDOW && i % SIDE / WINDOW == x / WINDOW;
                int lost = 0;
                for (int d = 0; d < DIM; d++)
                    lost += !isfinite(work.attention.out[i * DIM + d]);
                if (part == 0 ? own : same && isnan(bad[variant / 6]))
                    assert_true(lost > 0);
                if (!same)
                    assert_int_equal(lost, 0);
            }
            free_work(&work);
        }
    }
    cpu_force_level(cpu_best_level());
}

/* The same bits for any number of threads, and for any share of the queries. */
static void test_queries_are_independent(void **state) {
    enum { DIM = 40, SIDE = 22, BYTES = SIDE * SIDE * DIM * sizeof(float) };
    (void)state;
    EACH_LEVEL(level) {
        for (int fast = 0; fast < 2; fast++) {
            Work work = make_work((Case){SIDE, SIDE, 1, DIM, 0, true, 3});
            const Attention *a = &work.attention;
            float *all = malloc(BYTES);
            run(a, (Precision)fast, 1);
            memcpy(all, a->out, BYTES);
            for (int threads = 2; threads <= 5; threads++) {
                memset(a->out, 0xFF, BYTES);
                run(a, (Precision)fast, threads);
                assert_memory_equal(a->out, all, BYTES);
            }
            Field field = {a->qkv,  a->qkv + DIM, a->qkv + 2 * DIM,
                           a->out,  3 * DIM,      DIM,
                           SIDE,    SIDE,         SIDE,
                           SIDE,    SIDE,         a->pad,
                           a->pad,  DIM,          a->rel_h,
                           a->rel_w};
            Guarded scratch = guarded(field_scratch_bytes(SIDE, SIDE, DIM));
            memset(a->out, 0xFF, BYTES);
            for (int first = 0, count; first < SIDE * SIDE; first += count) {
                count = random_between(&seed, 1, min_int(SIDE * SIDE - first, FIELD_QUERIES));
                field_attend(&field, first, count, (Precision)fast, scratch.data);
            }
            assert_memory_equal(a->out, all, BYTES);
            release(scratch);
            free(all);
            free_work(&work);
        }
    }
    cpu_force_level(cpu_best_level());
}

static int setup(void **state) {
    (void)state;
    seed = 11;
    return 0;
}

#define TEST(name) cmocka_unit_test_setup(name, setup)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_dims),     TEST(test_sequences),  TEST(test_grids),
        TEST(test_windows),  TEST(test_rows_apart), TEST(test_one_key_takes_all),
        TEST(test_extremes), TEST(test_not_finite), TEST(test_queries_are_independent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
