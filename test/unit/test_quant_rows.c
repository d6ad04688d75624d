/*
 * Products by quantized weights, at every CPU level: exact ones against double
 * precision, fast ones within what rounding activations may cost.
 */
#include "guarded.h"
#include "support.h"

#include "kernels/cpu.h"
#include "kernels/matmul.h"
#include "kernels/quant.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define COLUMNS 37 /* of the output: no multiple of what any kernel takes */
#define THREADS 2

static OcrPool *pool;
static void *scratch;

/* Weights that end where the mapping ends. */
typedef struct Weights {
    Matrix w;
    float *values; /* [rows][columns] what they mean */
    Guarded q, scales;
} Weights;

static Weights make_weights(WeightType type, int columns, uint64_t *random) {
    size_t row = type == WEIGHT_Q8 ? (size_t)columns : q4_row_bytes(columns);
    int blocks = type == WEIGHT_Q8 ? q8_blocks(columns) : q4_blocks(columns);
    Weights out = {.w = {.type = type, .rows = COLUMNS, .columns = columns}};
    out.q = guarded(COLUMNS * row);
    out.scales = guarded((size_t)(2 * COLUMNS * blocks));
    out.values = malloc((size_t)(COLUMNS * columns) * sizeof(float));
    for (int n = 0; n < COLUMNS; n++) {
        float *values = out.values + n * columns;
        uint8_t *to = (uint8_t *)out.q.data + (size_t)n * row;
        uint16_t *scale = (uint16_t *)out.scales.data + n * blocks;
        for (int k = 0; k < columns; k++)
            values[k] = (float)random_between(random, -1000, 1000) / 1000;
        if (type == WEIGHT_Q8) {
            quantize_q8(values, columns, (int8_t *)to, scale);
            dequantize_q8((int8_t *)to, scale, 0, columns, values);
        } else {
            quantize_q4(values, columns, to, scale);
            dequantize_q4(to, scale, 0, columns, values);
        }
    }
    out.w.data = out.q.data;
    out.w.scales = out.scales.data;
    return out;
}

static void free_weights(Weights *weights) {
    release(weights->q);
    release(weights->scales);
    free(weights->values);
}

static float *make_x(int rows, int columns, uint64_t *random) {
    float *x = malloc((size_t)(rows * columns) * sizeof *x);
    for (int i = 0; i < rows * columns; i++)
        x[i] = (float)random_between(random, -1000, 1000) / 500;
    return x;
}

static void run(const Weights *weights, const float *x, int rows, Precision precision, float *y) {
    Matmul job = {.x = x,
                  .rows = rows,
                  .x_stride = weights->w.columns,
                  .w = weights->w,
                  .y = y,
                  .y_stride = COLUMNS};
    matmul_run(&job, 1, precision, pool, scratch);
}

/* Largest error, in units of the length of a row of x times that of a row of w. */
static double error_of(const Weights *weights, const float *x, int rows, const float *y) {
    double worst = 0;
    int columns = weights->w.columns;
    for (int r = 0; r < rows; r++)
        for (int n = 0; n < COLUMNS; n++) {
            double sum = 0, x2 = 0, w2 = 0;
            for (int k = 0; k < columns; k++) {
                double a = x[r * columns + k], b = weights->values[n * columns + k];
                sum += a * b;
                x2 += a * a;
                w2 += b * b;
            }
            double error = fabs(sum - y[r * COLUMNS + n]) / (sqrt(x2 * w2) + 1e-30);
            worst = !(error <= worst) ? error : worst;
        }
    return worst;
}

/* Bits of the integers that many rows of x become; 0: none. By AMX those that meet Q4 become bf16.
 */
static int integer_bits(int level, int type) {
    if (level >= CPU_AMX && type == WEIGHT_Q4)
        return 0;
    return level >= CPU_AVX512_VNNI ? 8 : level == CPU_AVX2 ? 16 : 0;
}

/* The same x as integers of 8 bits would have it. */
static float *rounded_to_bytes(const float *x, int rows, int columns) {
    float *out = malloc((size_t)(rows * columns) * sizeof *out);
    for (int r = 0; r < rows; r++)
        round_to_integers(x + r * columns, columns, 127, out + r * columns);
    return out;
}

static void products_are_close(void **state) {
    (void)state;
    static const int widths[] = {1, 7, 31, 32, 33, 64, 65, 96, 100, 250, 320, 1280, 9000};
    static const int heights[] = {1, 2, 3, 4, 5, 16, 17, 40};
    uint64_t random = 8;
    for (int type = WEIGHT_Q8; type <= WEIGHT_Q4; type++)
        for (size_t i = 0; i < sizeof widths / sizeof *widths; i++) {
            Weights weights = make_weights((WeightType)type, widths[i], &random);
            for (size_t h = 0; h < sizeof heights / sizeof *heights; h++) {
                int rows = heights[h];
                float *x = make_x(rows, widths[i], &random), y[40 * COLUMNS];
                float *bytes = rounded_to_bytes(x, rows, widths[i]);
                for (int level = CPU_PORTABLE; level <= (int)cpu_best_level(); level++) {
                    cpu_force_level((CpuLevel)level);
                    run(&weights, x, rows, PRECISION_EXACT, y);
                    assert_true(error_of(&weights, x, rows, y) < 1e-6);
                    run(&weights, x, rows, PRECISION_FAST, y);
                    bool many = rows > 16;
                    int bits = integer_bits(level, type);
                    double most = many && bits == 0 ? 1e-6 : 1e-4;
                    if (many && level >= CPU_AMX && type == WEIGHT_Q4)
                        most = 4e-3; /* x and w are rounded to 8 bits of precision */
                    if (many && bits == 8)
                        assert_true(error_of(&weights, bytes, rows, y) < 1e-6);
                    else
                        assert_true(error_of(&weights, x, rows, y) < most);
                }
                free(x);
                free(bytes);
            }
            free_weights(&weights);
        }
    cpu_force_level(cpu_best_level());
}

/* A row by itself and the same row among others have the same bits, as long as there are few. */
static void rows_do_not_meet(void **state) {
    (void)state;
    uint64_t random = 12;
    for (int type = WEIGHT_Q8; type <= WEIGHT_Q4; type++) {
        Weights weights = make_weights((WeightType)type, 200, &random);
        float *x = make_x(16, 200, &random), all[16 * COLUMNS], one[COLUMNS];
        for (int level = CPU_PORTABLE; level <= (int)cpu_best_level(); level++) {
            cpu_force_level((CpuLevel)level);
            run(&weights, x, 16, PRECISION_FAST, all);
            for (int r = 0; r < 16; r++) {
                run(&weights, x + r * 200, 1, PRECISION_FAST, one);
                assert_memory_equal(one, all + r * COLUMNS, sizeof one);
            }
        }
        free(x);
        free_weights(&weights);
    }
    cpu_force_level(cpu_best_level());
}

/*
 * More jobs than one loop takes, and more activations than are kept at once; some share
 * their rows, some gather them. Each gives what it gives alone.
 */
static void jobs_do_not_meet(void **state) {
    (void)state;
    enum { JOBS = 300, WIDE = 5000, NARROW = 100, ROWS = 16 };
    uint64_t random = 21;
    Weights weights[] = {make_weights(WEIGHT_Q8, WIDE, &random),
                         make_weights(WEIGHT_Q4, WIDE, &random),
                         make_weights(WEIGHT_Q8, NARROW, &random)};
    float *x = make_x(2 * ROWS, WIDE, &random);
    float *y = malloc(JOBS * ROWS * COLUMNS * sizeof *y), alone[ROWS * COLUMNS];
    static const int gather[ROWS] = {31, 0, 5, 5, 7, 30, 29, 1, 2, 3, 8, 9, 20, 21, 22, 23};
    Matmul jobs[JOBS];
    for (int i = 0; i < JOBS; i++) {
        int kind = i % 7 % 3;
        jobs[i] = (Matmul){.x = x + (i % 5 == 0 ? WIDE : 0),
                           .x_rows = i % 4 == 0 ? gather : NULL,
                           .rows = i % 11 == 0 ? ROWS : i % 3,
                           .x_stride = i % 13 ? WIDE : NARROW,
                           .w = weights[kind].w,
                           .y = y + i * ROWS * COLUMNS,
                           .y_stride = COLUMNS};
        if (jobs[i].x_rows)
            jobs[i].x = x;
    }
    for (int level = CPU_PORTABLE; level <= (int)cpu_best_level(); level++) {
        cpu_force_level((CpuLevel)level);
        matmul_run(jobs, JOBS, PRECISION_FAST, pool, scratch);
        for (int i = 0; i < JOBS; i++) {
            Matmul job = jobs[i];
            job.y = alone;
            matmul_run(&job, 1, PRECISION_FAST, pool, scratch);
            assert_memory_equal(alone, jobs[i].y, (size_t)(job.rows * COLUMNS) * sizeof *alone);
        }
    }
    cpu_force_level(cpu_best_level());
    free(x);
    free(y);
    for (int i = 0; i < 3; i++)
        free_weights(&weights[i]);
}

/* A row among many has the same bits at all levels of the same integers, however many there are. */
static void integers_are_the_same(void **state) {
    (void)state;
    enum { ROWS = 170 };
    static const int widths[] = {1, 33, 96, 320, 1100};
    uint64_t random = 24;
    float *all = malloc(ROWS * COLUMNS * sizeof *all), *y = malloc(ROWS * COLUMNS * sizeof *y);
    for (int type = WEIGHT_Q8; type <= WEIGHT_Q4; type++)
        for (size_t i = 0; i < sizeof widths / sizeof *widths; i++) {
            Weights weights = make_weights((WeightType)type, widths[i], &random);
            float *x = make_x(ROWS, widths[i], &random);
            int bits = 0;
            for (int level = CPU_AVX2; level <= (int)cpu_best_level(); level++) {
                cpu_force_level((CpuLevel)level);
                if (integer_bits(level, type) != bits)
                    run(&weights, x, ROWS, PRECISION_FAST, all);
                bits = integer_bits(level, type);
                for (int rows = 17; bits && rows <= ROWS; rows += 17) {
                    memset(y, 0xFF, ROWS * COLUMNS * sizeof *y);
                    run(&weights, x, rows, PRECISION_FAST, y);
                    assert_memory_equal(all, y, (size_t)(rows * COLUMNS) * sizeof *y);
                }
            }
            free(x);
            free_weights(&weights);
        }
    cpu_force_level(cpu_best_level());
    free(all);
    free(y);
}

/* Sums of the largest integers that there are do not overflow. */
static void the_largest_sums_fit(void **state) {
    (void)state;
    enum { WIDTH = 128, ROWS = 20 };
    float ones[WIDTH], x[ROWS * WIDTH], y[ROWS * COLUMNS];
    uint64_t random = 25;
    for (int k = 0; k < WIDTH; k++)
        ones[k] = 1;
    for (int type = WEIGHT_Q8; type <= WEIGHT_Q4; type++) {
        Weights weights = make_weights((WeightType)type, WIDTH, &random);
        for (int n = 0; n < COLUMNS; n++)
            if (type == WEIGHT_Q8)
                quantize_q8(ones, WIDTH, (int8_t *)weights.q.data + n * WIDTH,
                            (uint16_t *)weights.scales.data + n * q8_blocks(WIDTH));
            else
                quantize_q4(ones, WIDTH, (uint8_t *)weights.q.data + n * WIDTH / 2,
                            (uint16_t *)weights.scales.data + n * q4_blocks(WIDTH));
        for (int level = CPU_PORTABLE; level <= (int)cpu_best_level(); level++)
            for (int i = 0; i < 4; i++) {
                int rows = i < 2 ? 1 : ROWS;
                float sign = i % 2 ? -1 : 1;
                for (int k = 0; k < rows * WIDTH; k++)
                    x[k] = sign;
                cpu_force_level((CpuLevel)level);
                run(&weights, x, rows, PRECISION_FAST, y);
                for (int n = 0; n < rows * COLUMNS; n++) /* the scale of 1 / 127 is a bf16 */
                    assert_true(fabsf(y[n] - sign * WIDTH) < 0.004f * WIDTH);
            }
        free_weights(&weights);
    }
    cpu_force_level(cpu_best_level());
}

/*
 * A job's rows are taken as its call is: with a long one beside it, it is one of many rows.
 * By AVX2 that makes no difference.
 */
static void the_longest_job_decides(void **state) {
    (void)state;
    uint64_t random = 22;
    Weights weights = make_weights(WEIGHT_Q8, 320, &random);
    float *x = make_x(40, 320, &random), y[40 * COLUMNS], among[COLUMNS], few[COLUMNS];
    Matmul row = {
        .x = x, .rows = 1, .x_stride = 320, .w = weights.w, .y = among, .y_stride = COLUMNS};
    Matmul all = row;
    all.rows = 40, all.y = y;
    for (int level = CPU_PORTABLE; level <= (int)cpu_best_level(); level++) {
        cpu_force_level((CpuLevel)level);
        matmul_run((Matmul[]){row, all}, 2, PRECISION_FAST, pool, scratch);
        assert_memory_equal(among, y, sizeof among);
        run(&weights, x, 1, PRECISION_FAST, few);
        if (level == CPU_AVX2)
            assert_memory_equal(few, y, sizeof few);
        else
            assert_memory_not_equal(few, y, sizeof few);
    }
    cpu_force_level(cpu_best_level());
    free(x);
    free_weights(&weights);
}

/* Rows of more columns than are kept quantized are multiplied as many are. */
static void very_long_rows(void **state) {
    (void)state;
    uint64_t random = 23;
    Weights weights = make_weights(WEIGHT_Q8, 16385, &random);
    float *x = make_x(2, 16385, &random), y[2 * COLUMNS];
    run(&weights, x, 2, PRECISION_FAST, y);
    assert_true(error_of(&weights, x, 2, y) < 0.01);
    free(x);
    free_weights(&weights);
}

/* NaN and infinity in, NaN or infinity out, in one row alone; tiny and zero rows give zero. */
static void check_odd_values(const Weights *weights, int rows, float odd, uint64_t *random) {
    float y[35 * COLUMNS];
    int columns = weights->w.columns, row = random_between(random, 0, rows - 1);
    float *x = make_x(rows, columns, random);
    x[row * columns + random_between(random, 0, columns - 1)] = odd;
    run(weights, x, rows, PRECISION_FAST, y);
    for (int n = 0; n < rows * COLUMNS; n++)
        assert_int_equal(!isfinite(y[n]), n / COLUMNS == row);
    for (int k = 0; k < rows * columns; k++)
        x[k] = k % 2 ? 1e-42f : 0;
    run(weights, x, rows, PRECISION_FAST, y);
    for (int n = 0; n < rows * COLUMNS; n++)
        assert_true(fabsf(y[n]) < 1e-38f);
    free(x);
}

static void odd_values_show(void **state) {
    (void)state;
    static const float odd[] = {NAN, INFINITY, -INFINITY};
    static const int rows[] = {1, 2, 3, 4, 5, 13, 16, 35};
    uint64_t random = 6;
    for (int type = WEIGHT_Q8; type <= WEIGHT_Q4; type++) {
        Weights weights = make_weights((WeightType)type, 130, &random);
        for (int level = CPU_PORTABLE; level <= (int)cpu_best_level(); level++) {
            cpu_force_level((CpuLevel)level);
            for (int i = 0; i < 8; i++)
                for (int j = 0; j < 3; j++)
                    check_odd_values(&weights, rows[i], odd[j], &random);
        }
        free_weights(&weights);
    }
    cpu_force_level(cpu_best_level());
}

static int start(void **state) {
    OcrError err;
    (void)state;
    scratch = aligned_alloc(64, matmul_scratch_bytes(THREADS));
    if (!scratch)
        return -1;
    memset(scratch, 0xFF, matmul_scratch_bytes(THREADS)); /* NaN, if it is read unwritten */
    return (int)pool_create(THREADS, &pool, &err);
}

static int stop(void **state) {
    (void)state;
    pool_destroy(pool);
    free(scratch);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_are_close),    cmocka_unit_test(rows_do_not_meet),
        cmocka_unit_test(jobs_do_not_meet),      cmocka_unit_test(the_longest_job_decides),
        cmocka_unit_test(very_long_rows),        cmocka_unit_test(odd_values_show),
        cmocka_unit_test(integers_are_the_same), cmocka_unit_test(the_largest_sums_fit),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
