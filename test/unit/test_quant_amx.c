/*
 * Few rows by quantized weights and AMX, with the matrix instructions in C, so that they are tested
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
#include "kernels/matmul_quant_amx.c"

static uint64_t seed;

/* x as each of the kernels wants it. */
typedef struct Quantized {
    QuantRows rows;
    void *memory[3];
} Quantized;

static Quantized quantized(const Matmul *job, QuantizeRows *quantize) {
    int blocks = ceil_div(q8_blocks(job->w.columns), 2) * 2;
    size_t count = (size_t)(quant_rows_taken(job->rows) * blocks);
    Quantized out = {.memory = {aligned_alloc(64, count * QUANT_BLOCK_BYTES + 64),
                                malloc(count * sizeof(float)),
                                malloc(count * 2 * sizeof(int32_t))}};
    out.rows = (QuantRows){out.memory[0], out.memory[1], out.memory[2], blocks};
    quantize(job, &out.rows);
    return out;
}

static void check(WeightType type, int job_rows, int columns, int depth, bool gather) {
    int blocks = type == WEIGHT_Q8 ? q8_blocks(depth) : q4_blocks(depth);
    size_t bytes = (size_t)columns * stored_bytes(type, depth);
    size_t scale_count = (size_t)columns * (size_t)blocks;
    Guarded weights = guarded(bytes), weight_scales = guarded(scale_count * sizeof(uint16_t));
    char *w = weights.data;
    uint16_t *scales = weight_scales.data;
    for (size_t i = 0; i < bytes; i++)
        w[i] = (char)(type == WEIGHT_Q8 ? random_between(&seed, -127, 127)
                                        : random_between(&seed, 0, 255));
    for (size_t i = 0; i < scale_count; i++)
        scales[i] = bf16_nearest((float)random_between(&seed, 0, 1000) / 5000);
    int stride = depth + 3, x_rows[MATMUL_FEW_ROWS];
    float *x = malloc((size_t)job_rows * (size_t)stride * sizeof *x);
    for (int i = 0; i < job_rows * stride; i++)
        x[i] = random_between(&seed, 0, 999) == 0
                   ? NAN
                   : (float)random_between(&seed, -100000, 100000) / 1000;
    for (int r = 0; r < job_rows; r++)
        x_rows[r] = random_between(&seed, 0, job_rows - 1);

    Matmul job = {.x = x,
                  .x_rows = gather ? x_rows : NULL,
                  .rows = job_rows,
                  .x_stride = stride,
                  .w = {w, type, columns, depth, scales}};
    Tile tile = some_tile(&job, &seed);
    tile.row = 0;
    tile.rows = job_rows;
    static float c[2][TILE_ROWS * TILE_COLUMNS];
    void *scratch = aligned_alloc(64, (KERNEL_SCRATCH_BYTES + 63) / 64 * 64);
    Quantized ways[2] = {quantized(&job, quantize_rows_vnni), quantized(&job, quantize_rows_amx)};
    for (int way = 0; way < 2; way++) {
        memset(scratch, 0x7F, KERNEL_SCRATCH_BYTES); /* lest it is read before it is written */
        memset(c[way], 0, sizeof c[way]);
        tile.quantized = &ways[way].rows;
        (way ? multiply_quant_amx : multiply_quant_vnni)(&tile, c[way], scratch);
        assert_int_equal(configured, 0);
    }
    for (int r = 0; r < tile.rows; r++)
        for (int n = 0; n < tile.columns; n++) {
            float want = c[0][r * TILE_COLUMNS + n], got = c[1][r * TILE_COLUMNS + n];
            if (memcmp(&want, &got, sizeof want) != 0 && !(isnan(want) && isnan(got)))
                fail_msg("%d x %d x %d: row %d, column %d: %g, not %g", job_rows, columns, depth, r,
                         n, (double)got, (double)want);
        }
    for (int way = 0; way < 2; way++)
        for (int i = 0; i < 3; i++)
            free(ways[way].memory[i]);
    free(scratch);
    free(x);
    release(weights);
    release(weight_scales);
}

static void test_bits_of_vnni(void **state) {
    static const int columns[] = {1, 16, 17, 96, 100, 385};
    static const int depths[] = {1, 63, 64, 65, 130, 896, 1025, 1300};
    (void)state;
    if (cpu_best_level() < CPU_AVX512_VNNI)
        skip();
    seed = 1;
    for (int rows = 1; rows <= MATMUL_FEW_ROWS; rows++)
        for (size_t i = 0; i < sizeof columns / sizeof *columns; i++)
            for (size_t k = (i + (size_t)rows) % 3; k < sizeof depths / sizeof *depths; k += 3)
                check(WEIGHT_Q8, rows, columns[i], depths[k], (i + k) % 2 == 0);
    check(WEIGHT_Q4, 5, 100, 130, false);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_bits_of_vnni)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
#else
int main(void) {
    return 0;
}
#endif
