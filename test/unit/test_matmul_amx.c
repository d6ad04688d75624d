/*
 * The blocking and index logic of the AMX kernels, with the matrix instructions
 * in C, so that it is tested where there is no AMX. Needs AVX512, and AVX512_BF16 where both
 * kinds of attention are compared. Their names are those of the engine's, whose own are
 * therefore not linked.
 */
#include "support.h"

#if defined(__x86_64__)
#include "kernels/convert.h"
#include "kernels/cpu.h"
#include "kernels/field_kernel.h"

#include <stdlib.h>
#include <string.h>

#include "amx_emulated.h"
#include "guarded.h"
#include "kernels/matmul_amx.c"

/* ---- against plain sums ---- */

static uint64_t seed;

/* Small integers, so that every sum is exact in any order. */
static void check(int job_rows, int columns, int depth, bool gather) {
    enum { EXTRA = 3 };
    size_t bytes = (size_t)columns * (size_t)depth * sizeof(uint16_t);
    Guarded weights = guarded(bytes);
    uint16_t *w = weights.data;
    for (size_t i = 0; i < bytes / sizeof *w; i++) {
        float value = (float)random_between(&seed, -4, 4);
        memcpy(&w[i], (char *)&value + 2, sizeof *w);
    }
    int stride = depth + EXTRA, x_rows[400];
    float *x = malloc((size_t)job_rows * (size_t)stride * sizeof *x);
    for (int i = 0; i < job_rows * stride; i++)
        x[i] = (float)random_between(&seed, -4, 4);
    for (int r = 0; r < job_rows; r++)
        x_rows[r] = random_between(&seed, 0, job_rows - 1);

    Matmul job = {.x = x,
                  .x_rows = gather ? x_rows : NULL,
                  .rows = job_rows,
                  .x_stride = stride,
                  .w = {w, WEIGHT_BF16, columns, depth}};
    Tile tile = some_tile(&job, &seed);
    float *c = malloc(sizeof(float) * TILE_ROWS * TILE_COLUMNS);
    void *scratch = aligned_alloc(64, (KERNEL_SCRATCH_BYTES + 63) / 64 * 64);
    memset(scratch, 0xFF, KERNEL_SCRATCH_BYTES); /* NaN, lest it is read before it is written */
    multiply_many_amx(&tile, c, scratch);
    tile.copied = true;
    multiply_many_amx(&tile, c, scratch); /* again, from the rows that were copied */
    assert_int_equal(configured, 0);

    for (int r = 0; r < tile.rows; r++)
        for (int n = 0; n < tile.columns; n++) {
            float sum = 0;
            for (int k = 0; k < depth; k++)
                sum += tile_x(&tile, r)[k] * bf16_to_f32(w[(tile.column + n) * depth + k]);
            if (!(c[r * TILE_COLUMNS + n] == sum))
                fail_msg("%d x %d x %d: row %d, column %d: %g, not %g", job_rows, columns, depth, r,
                         n, (double)c[r * TILE_COLUMNS + n], (double)sum);
        }
    free(scratch);
    free(c);
    free(x);
    release(weights);
}

static void test_shapes(void **state) {
    static const int rows[] = {1, 15, 16, 17, 33, 48, 145, 200};
    static const int columns[] = {1, 16, 17, 40, 385, 500};
    static const int depths[] = {1, 2, 31, 32, 33, 64, 75, 1024, 1025, 1100};
    (void)state;
    if (cpu_best_level() < CPU_AVX512)
        skip();
    seed = 1;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (size_t j = 0; j < sizeof columns / sizeof *columns; j++)
            for (size_t k = (i + j) % 4; k < sizeof depths / sizeof *depths; k += 4)
                check(rows[i], columns[j], depths[k], (i + j + k) % 3 == 0);
}

/* Weights of Q4 that bf16 holds, and small integers: again every sum is exact. */
static void check_q4(int job_rows, int columns, int depth) {
    size_t row = q4_row_bytes(depth), scale_count = (size_t)(columns * q4_blocks(depth));
    Guarded weights = guarded((size_t)columns * row);
    Guarded weight_scales = guarded(scale_count * sizeof(uint16_t));
    uint8_t *w = weights.data;
    uint16_t *scales = weight_scales.data;
    float *x = malloc((size_t)(job_rows * depth) * sizeof *x);
    float *values = malloc((size_t)depth * sizeof *values);
    for (size_t i = 0; i < (size_t)columns * row; i++)
        w[i] = (uint8_t)random_between(&seed, 0, 255);
    for (size_t i = 0; i < scale_count; i++)
        scales[i] = bf16_nearest((float)random_between(&seed, 1, 4) / 4);
    for (int i = 0; i < job_rows * depth; i++)
        x[i] = (float)random_between(&seed, -4, 4);
    Matmul job = {
        .x = x, .rows = job_rows, .x_stride = depth, .w = {w, WEIGHT_Q4, columns, depth, scales}};
    Tile tile = some_tile(&job, &seed);
    float *c = malloc(sizeof(float) * TILE_ROWS * TILE_COLUMNS);
    void *scratch = aligned_alloc(64, (KERNEL_SCRATCH_BYTES + 63) / 64 * 64);
    memset(scratch, 0xFF, KERNEL_SCRATCH_BYTES);
    multiply_many_amx(&tile, c, scratch);
    for (int n = 0; n < tile.columns; n++) {
        dequantize_q4(w + (size_t)(tile.column + n) * row,
                      scales + (tile.column + n) * q4_blocks(depth), 0, depth, values);
        for (int r = 0; r < tile.rows; r++) {
            float sum = 0;
            for (int k = 0; k < depth; k++)
                sum += tile_x(&tile, r)[k] * values[k];
            assert_true(c[r * TILE_COLUMNS + n] == sum);
        }
    }
    free(scratch);
    free(c);
    free(values);
    free(x);
    release(weights);
    release(weight_scales);
}

static void test_q4(void **state) {
    static const int depths[] = {1, 31, 32, 33, 100, 1024, 1100};
    (void)state;
    if (cpu_best_level() < CPU_AVX512)
        skip();
    seed = 3;
    for (size_t k = 0; k < sizeof depths / sizeof *depths; k++) {
        check_q4(17, 40, depths[k]);
        check_q4(60, 385, depths[k]);
    }
}

/* Rows that were packed for all tiles give what rows of a tile's own give. */
static void test_packed(void **state) {
    enum { ROWS = 50, COLUMNS = 40, DEPTH_TWICE = 2 * DEPTH - 8 };
    (void)state;
    if (cpu_best_level() < CPU_AVX512)
        skip();
    seed = 4;
    float *x = malloc(ROWS * DEPTH_TWICE * sizeof *x), *c[2];
    uint16_t *w = malloc(COLUMNS * DEPTH_TWICE * sizeof *w);
    void *scratch = aligned_alloc(64, (KERNEL_SCRATCH_BYTES + 63) / 64 * 64);
    char *packed = aligned_alloc(64, 2 * rows_amx.bytes);
    for (int i = 0; i < ROWS * DEPTH_TWICE; i++)
        x[i] = (float)random_between(&seed, -1000, 1000) / 100;
    for (int i = 0; i < COLUMNS * DEPTH_TWICE; i++)
        w[i] = bf16_nearest((float)random_between(&seed, -1000, 1000) / 100);
    Matmul job = {
        .x = x, .rows = ROWS, .x_stride = DEPTH_TWICE, .w = {w, WEIGHT_BF16, COLUMNS, DEPTH_TWICE}};
    Tile tile = {.job = &job, .w = &job.w, .rows = ROWS, .columns = COLUMNS};
    for (int block = 0; block < 2; block++)
        rows_amx.pack(&tile, block * rows_amx.depth, packed + (size_t)block * rows_amx.bytes);
    for (int way = 0; way < 2; way++) {
        c[way] = calloc(TILE_ROWS * TILE_COLUMNS, sizeof(float));
        memset(scratch, 0xFF, KERNEL_SCRATCH_BYTES);
        tile.packed = way ? packed : NULL;
        multiply_many_amx(&tile, c[way], scratch);
    }
    for (int r = 0; r < ROWS; r++)
        assert_memory_equal(c[0] + r * TILE_COLUMNS, c[1] + r * TILE_COLUMNS,
                            COLUMNS * sizeof(float));
    for (int way = 0; way < 2; way++)
        free(c[way]);
    free(packed);
    free(scratch);
    free(w);
    free(x);
}

/* What is passed on to the next product is what packing y gives. */
static void test_passed(void **state) {
    enum { ROWS = 50, COLUMNS = TILE_COLUMNS, K = 40 };
    (void)state;
    if (cpu_best_level() < CPU_AVX512)
        skip();
    seed = 5;
    float *x = malloc(ROWS * K * sizeof *x), bias[COLUMNS];
    float *y = malloc(ROWS * COLUMNS * sizeof *y);
    float *c = malloc(TILE_ROWS * TILE_COLUMNS * sizeof *c);
    uint16_t *w = malloc(COLUMNS * K * sizeof *w);
    void *scratch = aligned_alloc(64, (KERNEL_SCRATCH_BYTES + 63) / 64 * 64);
    PairTiles *packed = aligned_alloc(64, sizeof *packed);
    PairTiles *passed = aligned_alloc(64, sizeof *passed);
    for (int i = 0; i < ROWS * K; i++)
        x[i] = (float)random_between(&seed, -1000, 1000) / 1000;
    for (int i = 0; i < COLUMNS * K; i++)
        w[i] = bf16_nearest((float)random_between(&seed, -1000, 1000) / 1000);
    for (int n = 0; n < COLUMNS; n++)
        bias[n] = (float)random_between(&seed, -1000, 1000) / 1000;
    Matmul job = {.x = x,
                  .rows = ROWS,
                  .x_stride = K,
                  .w = {w, WEIGHT_BF16, COLUMNS, K},
                  .bias = bias,
                  .activation = ACTIVATION_GELU,
                  .y = y,
                  .y_stride = COLUMNS};
    Tile tile = {.job = &job, .w = &job.w, .rows = ROWS, .columns = COLUMNS};
    multiply_many_amx(&tile, c, scratch);
    matmul_finish(&tile, c, NULL);
    multiply_many_amx(&tile, NULL, scratch);
    rows_amx.pass(&tile, scratch, passed);

    Matmul next = {.x = y, .rows = ROWS, .x_stride = COLUMNS, .w = {NULL, WEIGHT_BF16, 1, COLUMNS}};
    Tile after = {.job = &next, .w = &next.w, .rows = ROWS, .columns = 1};
    rows_amx.pack(&after, 0, packed);
    for (int r = 0; r < ROWS; r++)
        for (int pair = 0; pair < COLUMNS / 2; pair++) {
            int square = r / SIDE, step = pair / SIDE;
            assert_int_equal(passed->x[square][step][pair % SIDE][r % SIDE],
                             packed->x[square][step][pair % SIDE][r % SIDE]);
        }
    free(passed);
    free(packed);
    free(scratch);
    free(w);
    free(c);
    free(y);
    free(x);
}

static void test_rounding(void **state) {
    /* Halfway cases go to even, NaN stays NaN. */
    static const uint32_t bits[] = {0x3F808000, 0x3F818000, 0x3F808001, 0x7F800001, 0xFF7FFFFF};
    static const uint16_t rounded[] = {0x3F80, 0x3F82, 0x3F81, 0x7FC0, 0xFF80};
    (void)state;
    if (cpu_best_level() < CPU_AVX512)
        skip();
    void *scratch = aligned_alloc(64, (KERNEL_SCRATCH_BYTES + 63) / 64 * 64);
    float *c = malloc(sizeof(float) * TILE_ROWS * TILE_COLUMNS);
    uint16_t one = 0x3F80;
    for (size_t i = 0; i < sizeof bits / sizeof *bits; i++) {
        float x, expected = bf16_to_f32(rounded[i]);
        memcpy(&x, &bits[i], sizeof x);
        Matmul job = {.x = &x, .rows = 1, .x_stride = 1, .w = {&one, WEIGHT_BF16, 1, 1}};
        Tile tile = {.job = &job, .w = &job.w, .rows = 1, .columns = 1};
        multiply_many_amx(&tile, c, scratch);
        assert_true(expected != expected ? c[0] != c[0] : c[0] == expected);
    }
    free(c);
    free(scratch);
}

/* Words beyond those that count are 0, as the kernels leave them: squares are whole. */
static void test_words(void **state) {
    enum { TILE = 48, MOST = 130, STRIDE = 80 };
    (void)state;
    if (cpu_best_level() < CPU_AVX512)
        skip();
    seed = 2;
    for (int variant = 0; variant < 200; variant++) {
        static uint16_t a[MOST + SIDE][STRIDE][2], b[STRIDE][TILE][2];
        static float c[MOST + SIDE][TILE], before[MOST + SIDE][TILE];
        int rows = random_between(&seed, 1, MOST), words = random_between(&seed, 1, STRIDE - SIDE);
        int vectors = random_between(&seed, 1, 3);
        memset(a, 0, sizeof a);
        memset(b, 0, sizeof b);
        for (int k = 0; k < words; k++)
            for (int half = 0; half < 2; half++) {
                for (int r = 0; r < rows; r++)
                    a[r][k][half] = bf16_nearest((float)random_between(&seed, -4, 4));
                for (int n = 0; n < TILE; n++)
                    b[k][n][half] = bf16_nearest((float)random_between(&seed, -4, 4));
            }
        for (int r = 0; r < rows; r++)
            for (int n = 0; n < TILE; n++)
                c[r][n] = (float)random_between(&seed, -99, 99);
        memcpy(before, c, sizeof c);
        WordProduct product = {.a = a,
                               .b = b,
                               .c = c[0],
                               .a_stride = STRIDE,
                               .span = TILE,
                               .rows = rows,
                               .words = words,
                               .vectors = vectors,
                               .add = variant % 2};
        words_begin_amx();
        multiply_words_amx(&product);
        words_end_amx();
        for (int r = 0; r < rows; r++)
            for (int n = 0; n < TILE; n++) {
                float sum = variant % 2 || n >= vectors * SIDE ? before[r][n] : 0;
                for (int k = 0; n < vectors * SIDE && k < 2 * words; k++)
                    sum += bf16_to_f32(a[r][k / 2][k % 2]) * bf16_to_f32(b[k / 2][n][k % 2]);
                assert_true(c[r][n] == sum);
            }
    }
}

/* Attention by these products and by those of AVX512_BF16: the same but for the order of sums. */
static void test_field(void **state) {
    enum { DIM = 40, SIDE_H = 19, SIDE_W = 11, QUERIES = SIDE_H * SIDE_W };
    static float qkv[QUERIES][3][DIM], rel[2][2 * SIDE_H][DIM], out[2][QUERIES][DIM];
    (void)state;
    if (cpu_best_level() < CPU_AVX512_BF16)
        skip();
    seed = 3;
    for (int i = 0; i < QUERIES * 3 * DIM; i++)
        (&qkv[0][0][0])[i] = (float)random_between(&seed, -1000, 1000) / 1000;
    for (int i = 0; i < 2 * 2 * SIDE_H * DIM; i++)
        (&rel[0][0][0])[i] = (float)random_between(&seed, -1000, 1000) / 2000;
    void *scratch = aligned_alloc(64, field_scratch_bytes(SIDE_H, SIDE_W, DIM));
    for (int amx = 0; amx < 2; amx++) {
        Field field = {qkv[0][0], qkv[0][1], qkv[0][2], out[amx][0], 3 * DIM, DIM,
                       SIDE_W,    SIDE_H,    SIDE_W,    SIDE_H,      SIDE_W,  rel[0][0],
                       rel[0][0], DIM,       rel[0][0], rel[1][0]};
        field_attend_by(amx ? field_amx : field_bf16, &field, 0, QUERIES, scratch);
    }
    assert_int_equal(configured, 0);
    for (int i = 0; i < QUERIES * DIM; i++)
        assert_float_equal((&out[0][0][0])[i], (&out[1][0][0])[i], 1e-3);
    free(scratch);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes),   cmocka_unit_test(test_q4),
        cmocka_unit_test(test_packed),   cmocka_unit_test(test_passed),
        cmocka_unit_test(test_rounding), cmocka_unit_test(test_words),
        cmocka_unit_test(test_field),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
#else
int main(void) {
    return 0;
}
#endif
