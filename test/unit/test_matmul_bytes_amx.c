/*
 * Products of 8-bit integers by AMX, with the matrix instructions in C, so that they are tested
 * where there is no AMX: the bits of AVX512-VNNI, whatever the shape. The engine's own are not
 * linked, as their name is taken.
 */
#include "support.h"

#if defined(__x86_64__)
#include "kernels/cpu.h"

#include <math.h>
#include <stdlib.h>

#include "amx_emulated.h"
#include "guarded.h"
#include "kernels/matmul_bytes_amx.c"

static uint64_t seed;

/* Some rows of x: of numbers, of nothing, and with what is no number or none that is finite. */
static float element(int row) {
    if (row % 7 == 3)
        return 0;
    if (row % 11 == 5 && random_between(&seed, 0, 99) == 0)
        return row % 2 ? NAN : -INFINITY;
    float value = (float)random_between(&seed, -100000, 100000) / 1000;
    return row % 5 == 2 ? value * 1e30f : value;
}

static void check(int job_rows, int columns, int depth, bool gather) {
    size_t bytes = (size_t)columns * (size_t)depth;
    size_t scale_count = (size_t)(columns * q8_blocks(depth));
    Guarded weights = guarded(bytes), weight_scales = guarded(scale_count * sizeof(uint16_t));
    char *w = weights.data;
    uint16_t *scales = weight_scales.data;
    for (size_t i = 0; i < bytes; i++)
        w[i] = (char)random_between(&seed, -127, 127);
    for (size_t i = 0; i < scale_count; i++)
        scales[i] = bf16_nearest((float)random_between(&seed, 0, 1000) / 5000);
    int stride = depth + 3, x_rows[400];
    float *x = malloc((size_t)job_rows * (size_t)stride * sizeof *x);
    for (int i = 0; i < job_rows * stride; i++)
        x[i] = element(i / stride);
    for (int r = 0; r < job_rows; r++)
        x_rows[r] = random_between(&seed, 0, job_rows - 1);

    Matmul job = {.x = x,
                  .x_rows = gather ? x_rows : NULL,
                  .rows = job_rows,
                  .x_stride = stride,
                  .w = {w, WEIGHT_Q8, columns, depth, scales}};
    Tile tile = some_tile(&job, &seed);
    static float c[2][TILE_ROWS * TILE_COLUMNS];
    void *scratch = aligned_alloc(64, (KERNEL_SCRATCH_BYTES + 63) / 64 * 64);
    multiply_many_bytes_vnni(&tile, c[0], scratch);
    memset(scratch, 0x7F, KERNEL_SCRATCH_BYTES); /* lest it is read before it is written */
    for (int turn = 0; turn < 2; turn++) {
        tile.copied = turn > 0; /* the rows of the first turn */
        memset(c[1], 0, sizeof c[1]);
        multiply_many_bytes_amx(&tile, c[1], scratch);
        assert_int_equal(configured, 0);
        for (int r = 0; r < tile.rows; r++)
            for (int n = 0; n < tile.columns; n++) {
                float want = c[0][r * TILE_COLUMNS + n], got = c[1][r * TILE_COLUMNS + n];
                if (memcmp(&want, &got, sizeof want) != 0 && !(isnan(want) && isnan(got)))
                    fail_msg("%d x %d x %d: row %d, column %d: %g, not %g", job_rows, columns,
                             depth, r, n, (double)got, (double)want);
            }
    }
    free(scratch);
    free(x);
    release(weights);
    release(weight_scales);
}

static void test_bits_of_vnni(void **state) {
    static const int rows[] = {1, 15, 16, 33, 48, 145};
    static const int columns[] = {1, 16, 17, 100, 385};
    static const int depths[] = {1, 2, 63, 64, 65, 130, 256, 300, 1024, 1025, 1300};
    (void)state;
    if (cpu_best_level() < CPU_AVX512_VNNI)
        skip();
    seed = 1;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (size_t j = 0; j < sizeof columns / sizeof *columns; j++)
            for (size_t k = (i + j) % 3; k < sizeof depths / sizeof *depths; k += 3)
                check(rows[i], columns[j], depths[k], (i + j + k) % 2 == 0);
}

/* The largest sums of a block: they must not overflow, and no sign may be lost. */
static void test_extremes(void **state) {
    (void)state;
    if (cpu_best_level() < CPU_AVX512_VNNI)
        skip();
    int8_t w[4][Q8_BLOCK];
    float x[4][Q8_BLOCK];
    const uint16_t one = bf16_nearest(1);
    const uint16_t scales[4] = {one, one, one, one};
    for (int r = 0; r < 4; r++)
        for (int k = 0; k < Q8_BLOCK; k++) {
            w[r][k] = r % 2 ? -127 : 127;
            x[r][k] = r < 2 ? 127 : -127;
        }
    Matmul job = {
        .x = x[0], .rows = 4, .x_stride = Q8_BLOCK, .w = {w, WEIGHT_Q8, 4, Q8_BLOCK, scales}};
    Tile tile = {.job = &job, .w = &job.w, .rows = 4, .columns = 4};
    float *c = malloc(sizeof(float) * TILE_ROWS * TILE_COLUMNS);
    void *scratch = aligned_alloc(64, (KERNEL_SCRATCH_BYTES + 63) / 64 * 64);
    multiply_many_bytes_amx(&tile, c, scratch);
    for (int r = 0; r < 4; r++)
        for (int n = 0; n < 4; n++) {
            float size = Q8_BLOCK * 127.0f * 127.0f;
            assert_true(c[r * TILE_COLUMNS + n] == ((r < 2) == (n % 2 == 0) ? size : -size));
        }
    free(scratch);
    free(c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bits_of_vnni),
        cmocka_unit_test(test_extremes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
#else
int main(void) {
    return 0;
}
#endif
