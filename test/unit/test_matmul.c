/*
 * Every kernel level against the loops summed in double. Inputs lie directly
 * before a page that may not be touched.
 */
#include "guarded.h"
#include "support.h"

#include "kernels/convert.h"
#include "kernels/cpu.h"
#include "kernels/matmul_kernel.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- numbers ---- */

static uint64_t seed;

static float random_unit(void) {
    return (float)random_between(&seed, -1000, 1000) / 1000.0f;
}

static uint16_t to_f16(float value) { /* towards zero; 2^-14 <= |value| < 1 or 0 */
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if ((bits & 0x7FFFFFFF) < 0x38800000)
        return 0;
    return (uint16_t)((bits >> 16 & 0x8000) | ((bits & 0x7FFFFFFF) - (112u << 23)) >> 13);
}

typedef struct Weights {
    Guarded data, scales;
} Weights;

static Weights random_weights(Matrix *w, float scale) {
    size_t columns = (size_t)w->columns;
    size_t blocks = (size_t)(w->type == WEIGHT_Q4 ? q4_blocks(w->columns) : q8_blocks(w->columns));
    Weights out = {guarded((size_t)w->rows * row_bytes(w)),
                   guarded((size_t)w->rows * blocks * sizeof(uint16_t))};
    float *values = malloc((columns + 1) * sizeof *values);
    for (size_t r = 0; r < (size_t)w->rows; r++) {
        void *row = (char *)out.data.data + r * row_bytes(w);
        uint16_t *halves = row, *scales = (uint16_t *)out.scales.data + r * blocks;
        for (size_t k = 0; k < columns; k++) {
            values[k] = random_unit() * scale;
            if (w->type == WEIGHT_BF16 || w->type == WEIGHT_F16)
                halves[k] = w->type == WEIGHT_BF16 ? bf16_nearest(values[k]) : to_f16(values[k]);
        }
        if (w->type == WEIGHT_F32)
            memcpy(row, values, columns * sizeof *values);
        else if (w->type == WEIGHT_Q8)
            quantize_q8(values, w->columns, row, scales);
        else if (w->type == WEIGHT_Q4)
            quantize_q4(values, w->columns, row, scales);
    }
    free(values);
    w->data = out.data.data;
    w->scales = out.scales.data;
    return out;
}

/* ---- one random job ---- */

typedef struct Case {
    int rows, columns, depth; /* y [rows][columns] = x [.][depth] w^T */
    WeightType type;
    Activation activation;
    bool bias, residual, in_place; /* residual is y itself */
    bool gather;
} Case;

typedef struct Job {
    Matmul matmul;
    int x_count; /* rows in x */
    int *x_rows;
    float *expected; /* [rows][y_stride]; what lies between rows is y's */
    Guarded x, y, bias, residual;
    Weights w, up;
} Job;

static size_t y_floats(const Matmul *m) {
    return m->rows ? (size_t)(m->rows - 1) * (size_t)m->y_stride + (size_t)m->w.rows : 0;
}

/* Sums are about 1, whatever the depth. */
static Job make_job(Case c) {
    Job job = {.x_count = c.gather ? c.rows + 3 : c.rows};
    Matmul *m = &job.matmul;
    float scale = 2.0f / sqrtf((float)c.depth);
    *m = (Matmul){.rows = c.rows,
                  .x_stride = c.depth + random_between(&seed, 0, 5),
                  .y_stride = c.columns + random_between(&seed, 0, 5),
                  .activation = c.activation,
                  .w = {NULL, c.type, c.columns, c.depth},
                  .up = {NULL, c.type, c.columns, c.depth}};
    size_t x_floats =
        job.x_count ? (size_t)(job.x_count - 1) * (size_t)m->x_stride + (size_t)c.depth : 0;
    job.x = guarded(x_floats * sizeof(float));
    for (size_t i = 0; i < x_floats; i++)
        ((float *)job.x.data)[i] = random_unit();
    m->x = job.x.data;
    job.w = random_weights(&m->w, scale);
    job.up = random_weights(&m->up, scale);
    if (c.gather) {
        m->x_rows = job.x_rows = calloc((size_t)(unsigned)c.rows + 1, sizeof(int));
        for (int r = 0; r < c.rows; r++)
            job.x_rows[r] = random_between(&seed, 0, job.x_count - 1);
    }
    job.bias = guarded((size_t)c.columns * sizeof(float));
    for (int n = 0; n < c.columns; n++)
        ((float *)job.bias.data)[n] = random_unit();
    m->bias = c.bias ? job.bias.data : NULL;

    size_t floats = y_floats(m);
    job.y = guarded(floats * sizeof(float));
    job.residual = guarded(floats * sizeof(float));
    job.expected = calloc(floats + 1, sizeof(float));
    for (size_t i = 0; i < floats; i++) {
        ((float *)job.residual.data)[i] = random_unit();
        ((float *)job.y.data)[i] = random_unit();
    }
    m->y = job.y.data;
    m->residual = !c.residual ? NULL : c.in_place ? job.y.data : job.residual.data;
    return job;
}

static void free_job(Job *job) {
    Guarded all[] = {job->x,      job->y,       job->bias,     job->residual,
                     job->w.data, job->up.data, job->w.scales, job->up.scales};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        release(all[i]);
    free(job->x_rows);
    free(job->expected);
}

/* What kernels make of numbers before they multiply them. */
typedef struct Rounding {
    bool to_bf16;
    int x_most, w_most; /* or to integers of that size, with a scale for each block of 64; 0: not */
} Rounding;

#define MOST_X 4095
#define MOST_W 8191

static void round_row(float *row, int count, Rounding rounding) {
    for (int k = 0; rounding.to_bf16 && k < count; k++)
        row[k] = bf16_to_f32(bf16_nearest(row[k]));
    if (rounding.x_most)
        round_to_integers(row, count, rounding.x_most, row);
}

/* A copy as f32, each row rounded; its memory is the caller's. */
static float *rounded_weights(Matrix *w, Rounding rounding) {
    size_t columns = (size_t)w->columns;
    float *values = malloc(((size_t)w->rows * columns + 1) * sizeof *values);
    for (int n = 0; n < w->rows; n++) {
        const void *from = (const char *)w->data + (size_t)n * row_bytes(w);
        float *row = values + (size_t)n * columns;
        if (w->type == WEIGHT_Q8)
            dequantize_q8(from, w->scales + n * q8_blocks(w->columns), 0, w->columns, row);
        else if (w->type == WEIGHT_Q4)
            dequantize_q4(from, w->scales + n * q4_blocks(w->columns), 0, w->columns, row);
        else
            convert_to_f32(from, w->type, columns, row);
        rounding.x_most = rounding.w_most;
        round_row(row, w->columns, rounding);
    }
    w->data = values;
    w->type = WEIGHT_F32;
    return values;
}

/* Where the kernels round, so does the reference, which makes the comparison sharp. */
static void expect(Job *job, Rounding rounding) {
    Matmul reference = job->matmul;
    size_t stride = (size_t)job->matmul.x_stride, depth = (size_t)job->matmul.w.columns;
    float *x = calloc((size_t)job->x_count * stride + 1, sizeof(float));
    for (size_t r = 0; r < (size_t)job->x_count; r++) {
        memcpy(x + r * stride, job->matmul.x + r * stride, depth * sizeof *x);
        round_row(x + r * stride, (int)depth, rounding);
    }
    reference.x = x;
    float *w = rounded_weights(&reference.w, rounding);
    float *up = rounded_weights(&reference.up, rounding);
    memcpy(job->expected, job->matmul.y, y_floats(&job->matmul) * sizeof(float));
    reference.y = job->expected;
    if (job->matmul.residual == job->matmul.y)
        reference.residual = reference.y;
    matmul_reference(&reference);
    free(x);
    free(w);
    free(up);
}

static void assert_as_expected(const Job *job, const char *what) {
    const Matmul *m = &job->matmul;
    for (size_t i = 0; i < y_floats(m); i++) {
        bool between = i % (size_t)m->y_stride >= (size_t)m->w.rows;
        double tolerance = between ? 0 : 2e-6 * (1 + fabs((double)job->expected[i]));
        if (!(fabs((double)m->y[i] - (double)job->expected[i]) <= tolerance))
            fail_msg("%s, %d x %d x %d, type %d, activation %d: row %zu column %zu: %.9g, not %.9g",
                     what, m->rows, m->w.rows, m->w.columns, m->w.type, m->activation,
                     i / (size_t)m->y_stride, i % (size_t)m->y_stride, (double)m->y[i],
                     (double)job->expected[i]);
    }
}

static OcrPool *pool_of(int threads) {
    OcrPool *pool;
    OcrError err;
    assert_ok(pool_create(threads, &pool, &err), &err);
    return pool;
}

static void run(const Matmul *jobs, int count, Precision precision, int threads) {
    OcrPool *pool = pool_of(threads);
    Guarded scratch = guarded(matmul_scratch_bytes(threads));
    memset(scratch.data, 0xFF, matmul_scratch_bytes(threads)); /* NaN, if it is read unwritten */
    matmul_run(jobs, count, precision, pool, scratch.data);
    release(scratch);
    pool_destroy(pool);
}

/* Rows of a call that count as few, see matmul.h. */
static int few_rows(WeightType type) {
    return is_quantized(type) ? MATMUL_FEW_ROWS : 18;
}

/* Of a job of such weights; rows: of the longest quantized one of its call, or its own. */
static Rounding rounding(CpuLevel level, Precision precision, WeightType type, int rows) {
    bool few = rows <= few_rows(type);
    if (precision == PRECISION_EXACT)
        return (Rounding){0};
    if (is_quantized(type)) {
        if (!few && type == WEIGHT_Q4 && level >= CPU_AMX)
            return (Rounding){.to_bf16 = true};
        int many = level >= CPU_AVX512_VNNI ? 127 : level == CPU_AVX2 ? 32639 : 0;
        return (Rounding){.x_most = few ? 32639 : many};
    }
    if (type != WEIGHT_BF16)
        return (Rounding){0};
    if (level == CPU_AVX2 || level == CPU_AVX512_VNNI)
        return few ? (Rounding){0} : (Rounding){.x_most = MOST_X, .w_most = MOST_W};
    return (Rounding){.to_bf16 = level >= CPU_AVX512_BF16};
}

/* Whether a row among many may differ in the last bits from one among few. */
static bool forms_differ(CpuLevel level, Precision precision, WeightType type) {
    Rounding many = rounding(level, precision, type, few_rows(type) + 1);
    return many.to_bf16 || many.x_most || (is_quantized(type) && precision == PRECISION_FAST);
}

/* The body once for every level that this processor has. */
#define EACH_LEVEL(level)                                                                          \
    for (CpuLevel level = CPU_PORTABLE;                                                            \
         level <= cpu_best_level() && (cpu_force_level(level), true); level++)

static void check(Case c, CpuLevel level, Precision precision, int threads) {
    Job job = make_job(c);
    expect(&job, rounding(level, precision, c.type, c.rows));
    run(&job.matmul, 1, precision, threads);
    assert_as_expected(&job, cpu_level_name(level));
    free_job(&job);
}

/* ---- tests ---- */

static void test_row_counts(void **state) {
    static const int rows[] = {0, 1, 2, 3, 4, 5, 15, 16, 17, 18, 31, 100, 193, 391};
    (void)state;
    EACH_LEVEL(level) {
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
            for (int fast = 0; fast < 2; fast++)
                for (WeightType type = WEIGHT_F32; type <= WEIGHT_Q4; type++)
                    check(
                        (Case){rows[i], 70, 130, type, ACTIVATION_NONE, true, false, false, false},
                        level, (Precision)fast, 2);
    }
}

static void test_depths_and_widths(void **state) {
    static const int depths[] = {1,  2,  7,   8,   15,  16,   17,   31,  32,
                                 33, 63, 511, 512, 513, 1024, 1037, 2050};
    static const int widths[] = {1, 2, 7, 8, 9, 31, 33, 255, 256, 259, 515};
    (void)state;
    EACH_LEVEL(level) {
        for (size_t i = 0; i < sizeof depths / sizeof *depths; i++)
            for (size_t j = 0; j < sizeof widths / sizeof *widths; j++)
                for (int rows = 2; rows <= 20; rows += 18)
                    check((Case){rows, widths[j], depths[i], (WeightType)((i + j) % 5),
                                 ACTIVATION_NONE, false, false, false, false},
                          level, (Precision)(j % 2), 1);
    }
}

static void test_options(void **state) {
    (void)state;
    EACH_LEVEL(level) {
        for (int bits = 0; bits < 64; bits++)
            for (Activation a = ACTIVATION_NONE; a <= ACTIVATION_SWIGLU; a++)
                check((Case){bits & 32 ? 37 : 5, 43, 77, (WeightType)(bits % 5), a, bits & 1,
                             bits & 2, bits & 4, bits & 8},
                      level, bits & 16 ? PRECISION_FAST : PRECISION_EXACT, 2);
    }
}

/* Several tiles each way, with all that depends on where a tile is. */
static void test_many_tiles(void **state) {
    (void)state;
    EACH_LEVEL(level) {
        for (int fast = 0; fast < 2; fast++)
            for (int gather = 0; gather < 2; gather++)
                for (WeightType type = WEIGHT_BF16; type <= WEIGHT_Q4; type += 2)
                    check((Case){391, 800, 60, type, ACTIVATION_SWIGLU, true, true, true, gather},
                          level, (Precision)fast, 2);
    }
}

/* As many experts have: jobs of all sizes in one call. */
static void test_many_jobs(void **state) {
    enum { JOBS = 40 };
    (void)state;
    EACH_LEVEL(level) {
        for (int fast = 0; fast < 2; fast++) {
            Job jobs[JOBS];
            Case cases[JOBS];
            Matmul matmuls[JOBS];
            int most_rows = 0;
            for (int i = 0; i < JOBS; i++) {
                Case c = {random_between(&seed, 0, 40),
                          random_between(&seed, 1, 300),
                          random_between(&seed, 1, 300),
                          (WeightType)random_between(&seed, 0, WEIGHT_Q4),
                          (Activation)random_between(&seed, 0, 3),
                          true,
                          true,
                          i % 2,
                          true};
                jobs[i] = make_job(c);
                cases[i] = c;
                matmuls[i] = jobs[i].matmul;
                most_rows = max_int(most_rows, c.rows);
            }
            for (int i = 0; i < JOBS; i++) {
                WeightType type = cases[i].type;
                int rows = is_quantized(type) ? most_rows : cases[i].rows;
                expect(&jobs[i], rounding(level, (Precision)fast, type, rows));
            }
            run(matmuls, JOBS, (Precision)fast, 2);
            for (int i = 0; i < JOBS; i++) {
                assert_as_expected(&jobs[i], cpu_level_name(level));
                free_job(&jobs[i]);
            }
        }
    }
}

static void test_no_jobs(void **state) {
    (void)state;
    run(NULL, 0, PRECISION_EXACT, 2);
}

/*
 * The same bits for any number of threads, rows, and split into tiles. Where numbers
 * are rounded, few rows may differ from many, but not from fewer.
 */
static void test_rows_are_independent(void **state) {
    enum { ROWS = 200, COLUMNS = 300 };
    static const int depths[] = {700, 1500};
    (void)state;
    EACH_LEVEL(level) {
        for (int variant = 0; variant < 16; variant++) {
            static const WeightType types[] = {WEIGHT_F32, WEIGHT_BF16, WEIGHT_Q8, WEIGHT_Q4};
            Precision precision = (Precision)(variant % 2);
            WeightType type = types[variant / 2 % 4];
            Case c = {ROWS,  COLUMNS, depths[variant / 8], type, ACTIVATION_SWIGLU, true, false,
                      false, false};
            Job job = make_job(c);
            Matmul m = job.matmul;
            run(&m, 1, precision, 1);
            for (size_t i = 0; i < y_floats(&m); i++)
                job.expected[i] = m.y[i];
            for (int threads = 2; threads <= 5; threads++) {
                memset(m.y, 0xFF, y_floats(&m) * sizeof(float));
                run(&m, 1, precision, threads);
                for (int r = 0; r < ROWS; r++)
                    assert_memory_equal(m.y + r * m.y_stride, job.expected + r * m.y_stride,
                                        COLUMNS * sizeof(float));
            }
            for (int rows = 20; rows >= 1; rows--) {
                Matmul some = m;
                int first = random_between(&seed, 0, ROWS - rows);
                if (rows == few_rows(type) && forms_differ(level, precision, type))
                    for (int r = 0; r < ROWS; r++) {
                        some.x = m.x + r * m.x_stride;
                        some.rows = 1;
                        some.y = job.expected + r * m.y_stride;
                        run(&some, 1, precision, 1);
                        some = m;
                    }
                some.x += first * m.x_stride;
                some.rows = rows;
                run(&some, 1, precision, 2);
                for (int r = 0; r < rows; r++)
                    assert_memory_equal(m.y + r * m.y_stride,
                                        job.expected + (first + r) * m.y_stride,
                                        COLUMNS * sizeof(float));
            }
            free_job(&job);
        }
    }
}

/* The bits of one product after the other, whether what is between them is written or passed on. */
static void check_two(Case first, int columns, Precision precision) {
    Job jobs[] = {make_job(first), make_job((Case){.rows = first.rows,
                                                   .columns = columns,
                                                   .depth = first.columns,
                                                   .type = first.type,
                                                   .bias = true,
                                                   .residual = true,
                                                   .in_place = true})};
    Matmul two[] = {jobs[0].matmul, jobs[1].matmul};
    two[1].x = two[0].y;
    two[1].x_stride = two[0].y_stride;
    if (first.rows)
        ((float *)jobs[0].x.data)[0] = INFINITY; /* spoils the rows that it belongs to */
    size_t floats = y_floats(&two[1]);
    memcpy(jobs[1].expected, two[1].y, floats * sizeof(float));
    Matmul last = two[1];
    last.residual = last.y = jobs[1].expected;
    run(&two[0], 1, precision, 1);
    run(&last, 1, precision, 1);

    for (int threads = 1; threads <= 2; threads++) {
        Guarded y = guarded(floats * sizeof(float)), scratch = guarded(matmul_scratch_bytes(2));
        memcpy(y.data, two[1].y, floats * sizeof(float));
        memset(scratch.data, 0xFF, matmul_scratch_bytes(2));
        Matmul again[] = {two[0], two[1]};
        again[1].residual = again[1].y = y.data;
        memset(two[0].y, 0xFF, y_floats(&two[0]) * sizeof(float));
        OcrPool *pool = pool_of(threads);
        matmul_run_two(again, precision, pool, scratch.data);
        pool_destroy(pool);
        for (size_t i = 0; i < floats; i++) { /* NaN has several bits */
            float got = again[1].y[i], wanted = jobs[1].expected[i];
            assert_true(isnan(wanted) ? isnan(got) : memcmp(&got, &wanted, sizeof got) == 0);
        }
        release(scratch);
        release(y);
    }
    free_job(&jobs[0]);
    free_job(&jobs[1]);
}

static void test_two(void **state) {
    static const int rows[] = {0, 1, 19, 100, 161, 320};
    static const int inner[] = {64, 448, 1088, 60}; /* the last one is not passed on */
    (void)state;
    EACH_LEVEL(level) {
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
            for (size_t j = 0; j < sizeof inner / sizeof *inner; j++)
                for (WeightType type = WEIGHT_F32; type <= WEIGHT_Q4; type++)
                    check_two((Case){.rows = rows[i],
                                     .columns = inner[j],
                                     .depth = 77,
                                     .type = type,
                                     .activation = (Activation)((i + j) % ACTIVATION_SWIGLU),
                                     .bias = i % 3 != 0,
                                     .gather = i % 2},
                              50, j == 0 && i == 2 ? PRECISION_EXACT : PRECISION_FAST);
    }
    /* More tiles than there is room for at a time. */
    check_two((Case){700, 2048, 64, WEIGHT_BF16, ACTIVATION_GELU, .bias = true}, 40,
              PRECISION_FAST);
}

/* Products of integers have the same bits by any vector. */
static void test_integers_are_the_same(void **state) {
    static const int rows[] = {19, 33, 48, 49, 130, 161, 180, 200};
    static const int depths[] = {5, 64, 100, 512, 700, 1030, 2100};
    (void)state;
    if (cpu_best_level() < CPU_AVX512_VNNI)
        skip();
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (size_t j = 0; j < sizeof depths / sizeof *depths; j++) {
            Job job = make_job((Case){.rows = rows[i],
                                      .columns = 17 + (int)(i * j),
                                      .depth = depths[j],
                                      .type = WEIGHT_BF16});
            Matmul m = job.matmul;
            m.y = job.expected;
            memcpy(m.y, job.matmul.y, y_floats(&m) * sizeof *m.y);
            cpu_force_level(CPU_AVX2);
            run(&m, 1, PRECISION_FAST, 1);
            cpu_force_level(CPU_AVX512_VNNI);
            run(&job.matmul, 1, PRECISION_FAST, 2);
            assert_memory_equal(m.y, job.matmul.y, y_floats(&m) * sizeof *m.y);
            free_job(&job);
        }
}

/* A NaN among the weights of a row, or for one of its scales. */
static void spoil_row(const Job *job, int row) {
    const Matrix *w = &job->matmul.w;
    int at = row * w->columns + random_between(&seed, 0, w->columns - 1);
    int blocks = w->type == WEIGHT_Q4 ? q4_blocks(w->columns) : q8_blocks(w->columns);
    if (is_quantized(w->type))
        ((uint16_t *)job->w.scales.data)[row * blocks + random_between(&seed, 0, blocks - 1)] =
            0x7FC0;
    else if (w->type == WEIGHT_F32)
        ((float *)job->w.data.data)[at] = NAN;
    else
        ((uint16_t *)job->w.data.data)[at] = w->type == WEIGHT_BF16 ? 0x7FC0 : 0x7E00;
}

/* A row of x that holds NaN or infinity spoils its own row of y, a row of w its own column. */
static void check_not_finite(Case c, float value, Precision precision) {
    Job job = make_job(c);
    int row = random_between(&seed, 0, c.rows - 1),
        column = random_between(&seed, 0, c.columns - 1);
    ((float *)job.x.data)[row * job.matmul.x_stride + random_between(&seed, 0, c.depth - 1)] =
        value;
    spoil_row(&job, column);
    run(&job.matmul, 1, precision, 2);
    for (int r = 0; r < c.rows; r++)
        for (int n = 0; n < c.columns; n++) {
            float y = job.matmul.y[r * job.matmul.y_stride + n];
            if (n == column || (r == row && isnan(value)))
                assert_true(isnan(y));
            else if (r != row)
                assert_true(isfinite(y));
        }
    free_job(&job);
}

static void test_not_finite(void **state) {
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    static const int rows[] = {1, 2, 3, 4, 5, 13, 16, 35};
    (void)state;
    EACH_LEVEL(level) {
        for (WeightType type = WEIGHT_F32; type <= WEIGHT_Q4; type++)
            for (int i = 0; i < 8; i++)
                for (int variant = 0; variant < 6; variant++)
                    check_not_finite((Case){rows[i], 37, 75, type, (Activation)((i + variant) % 4),
                                            true, true, false, false},
                                     bad[variant % 3], (Precision)(variant / 3));
    }
}

/* Sums of the largest, smallest and signed-zero values, that are exact in any order. */
static void test_extremes(void **state) {
    (void)state;
    EACH_LEVEL(level) {
        for (int rows = 1; rows <= 20; rows += 19) {
            float x[20][3], y[20][4];
            float w[4][3] = {{0x1p-126f, 0, 0}, {0x1p127f, 0, 0}, {-0.0f, 0, 0}, {0, 0, 0x1p-149f}};
            float expected[4] = {0x1p-126f * 0.5f, 0x1p126f, 0, 0x1p-140f};
            for (int r = 0; r < rows; r++)
                x[r][0] = 0.5f, x[r][1] = 1, x[r][2] = 512;
            Matmul m = {.x = &x[0][0],
                        .rows = rows,
                        .x_stride = 3,
                        .w = {w, WEIGHT_F32, 4, 3},
                        .y = &y[0][0],
                        .y_stride = 4};
            run(&m, 1, PRECISION_EXACT, 1);
            for (int r = 0; r < rows; r++)
                for (int n = 0; n < 4; n++)
                    assert_true(y[r][n] == expected[n]);
        }
    }
}

/* Where numbers become integers, no block's sum can be larger. */
static void test_largest_sums(void **state) {
    enum { ROWS = 20, DEPTH = 128 };
    float x[DEPTH], y[ROWS]; /* all rows of x are the same */
    uint16_t w[DEPTH];
    Matmul m = {.x = x, .rows = ROWS, .w = {w, WEIGHT_BF16, 1, DEPTH}, .y = y, .y_stride = 1};
    (void)state;
    for (int sign = -1; sign <= 1; sign += 2) {
        for (int k = 0; k < DEPTH; k++)
            x[k] = (float)sign, w[k] = bf16_nearest(1);
        EACH_LEVEL(level) {
            run(&m, 1, PRECISION_FAST, 1);
            for (int r = 0; r < ROWS; r++)
                assert_true(fabsf(y[r] - (float)(sign * DEPTH)) < 1e-3f);
        }
    }
}

/* Each 16-bit pattern that is a number, times 1, is itself. */
static void test_all_weights(void **state) {
    (void)state;
    uint16_t *w = malloc(65536 * sizeof *w);
    float *y = malloc(20 * 65536 * sizeof *y), ones[20];
    for (int i = 0; i < 65536; i++)
        w[i] = (uint16_t)i;
    for (int i = 0; i < 20; i++)
        ones[i] = 1;
    EACH_LEVEL(level) {
        for (WeightType type = WEIGHT_BF16; type <= WEIGHT_F16; type++)
            for (int rows = 1; rows <= 20; rows += 19) {
                Matmul m = {.x = ones,
                            .rows = rows,
                            .x_stride = 1,
                            .w = {w, type, 65536, 1},
                            .y = y,
                            .y_stride = 65536};
                run(&m, 1, PRECISION_EXACT, 2);
                for (int i = 0; i < 65536; i++) {
                    float value = type == WEIGHT_BF16 ? bf16_to_f32(w[i]) : f16_to_f32(w[i]);
                    assert_true(isnan(value) ? isnan(y[i]) : y[i] == value);
                }
            }
    }
    free(w);
    free(y);
}

/* ---- panels ---- */

static Panel random_panel(int rows, int columns, Guarded *memory) {
    int stride = columns + random_between(&seed, 0, 9);
    size_t floats = (size_t)(rows - 1) * (size_t)stride + (size_t)columns;
    *memory = guarded(floats * sizeof(float));
    for (size_t i = 0; i < floats; i++)
        ((float *)memory->data)[i] = random_unit();
    return (Panel){memory->data, rows, columns, stride};
}

static void check_gemm(int m, int n, int k, bool transposed) {
    Guarded memory[3];
    Panel a = random_panel(m, k, &memory[0]);
    Panel b = transposed ? random_panel(n, k, &memory[1]) : random_panel(k, n, &memory[1]);
    Panel c = random_panel(m, n, &memory[2]);
    size_t floats = (size_t)(m - 1) * (size_t)c.stride + (size_t)n;
    float *before = malloc(floats * sizeof *before);
    memcpy(before, c.data, floats * sizeof *before);
    (transposed ? gemm_nt : gemm_nn)(a, b, c);
    for (size_t i = 0; i < floats; i++) {
        int r = (int)(i / (size_t)c.stride), column = (int)(i % (size_t)c.stride);
        if (column >= n) {
            assert_true(c.data[i] == before[i]);
            continue;
        }
        double sum = 0;
        for (int j = 0; j < k; j++)
            sum += (double)a.data[r * a.stride + j] * (double)(transposed
                                                                   ? b.data[column * b.stride + j]
                                                                   : b.data[j * b.stride + column]);
        if (!(fabs(sum - (double)c.data[i]) <= 1e-6 * sqrt(k) * (1 + fabs(sum))))
            fail_msg("%s %d x %d x %d: %d, %d: %g, not %g", transposed ? "nt" : "nn", m, n, k, r,
                     column, (double)c.data[i], sum);
    }
    memcpy(before, c.data, floats * sizeof *before);
    for (int r = 0; r < m; r++) { /* each row by itself */
        Panel row_a = a, row_c = c;
        row_a.data += r * a.stride;
        row_c.data += r * c.stride;
        row_a.rows = row_c.rows = 1;
        (transposed ? gemm_nt : gemm_nn)(row_a, b, row_c);
    }
    assert_memory_equal(before, c.data, floats * sizeof *before);
    free(before);
    for (int i = 0; i < 3; i++)
        release(memory[i]);
}

static void test_panels(void **state) {
    static const int rows[] = {1, 2, 3, 4, 5, 6, 7, 13, 16, 32, 61};
    static const int columns[] = {1, 5, 16, 31, 63, 64, 65, 128, 130, 200};
    static const int depths[] = {1, 3, 8, 32, 33, 64, 80, 127, 128, 129, 300};
    (void)state;
    EACH_LEVEL(level) {
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
            for (size_t j = 0; j < sizeof columns / sizeof *columns; j++)
                for (size_t l = 0; l < sizeof depths / sizeof *depths; l++) {
                    check_gemm(rows[i], columns[j], depths[l], true);
                    check_gemm(rows[i], columns[j], depths[l], false);
                }
    }
}

static int setup(void **state) {
    (void)state;
    seed = 1;
    return 0;
}

static int teardown(void **state) {
    (void)state;
    cpu_force_level(CPU_AMX);
    return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_row_counts),
        TEST(test_depths_and_widths),
        TEST(test_options),
        TEST(test_many_tiles),
        TEST(test_many_jobs),
        TEST(test_no_jobs),
        TEST(test_rows_are_independent),
        TEST(test_two),
        TEST(test_integers_are_the_same),
        TEST(test_not_finite),
        TEST(test_extremes),
        TEST(test_largest_sums),
        TEST(test_all_weights),
        TEST(test_panels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
