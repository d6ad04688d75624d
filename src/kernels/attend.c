#include "kernels/attend.h"

#include "kernels/cpu.h"
#include "kernels/matmul_kernel.h"
#include "kernels/quant_rows.h"

#include <stdalign.h>

#if defined(__x86_64__)
#define AT_LEVEL(function, ...)                                                                    \
    (cpu_level() >= CPU_AVX512 ? function##_avx512(__VA_ARGS__)                                    \
     : cpu_level() >= CPU_AVX2 ? function##_avx2(__VA_ARGS__)                                      \
                               : function##_portable(__VA_ARGS__))
#else
#define AT_LEVEL(function, ...) function##_portable(__VA_ARGS__)
#endif

/* Keys of Q8 are weights that a single row of activations meets. */
static void attend_quantized_keys(const float *q, Matrix keys, float *scores) {
    const QuantKernel *kernel = quant_kernel(cpu_level());
    alignas(64) int16_t integers[ATTEND_Q8_COLUMNS];
    float scales[ATTEND_Q8_COLUMNS / Q8_BLOCK], c[TILE_COLUMNS];
    int32_t raised[2 * ATTEND_Q8_COLUMNS / Q8_BLOCK];
    QuantRows rows = {integers, scales, raised, q8_blocks(keys.columns)};
    Matmul job = {.x = q, .rows = 1, .w = keys};
    kernel->quantize(&job, &rows);
#if defined(__x86_64__)
    if (cpu_level() >= CPU_AVX512_VNNI) {
        attend_keys_vnni(&rows, &keys, scores);
        return;
    }
#endif
    for (int n = 0; n < keys.rows; n += TILE_COLUMNS) {
        Tile tile = {.job = &job, .w = &job.w, .quantized = &rows, .rows = 1, .column = n};
        tile.columns = min_int(TILE_COLUMNS, keys.rows - n);
        kernel->multiply(&tile, c, NULL);
        memcpy(scores + n, c, (size_t)tile.columns * sizeof *c);
    }
}

void attend_keys(const float *q, Matrix keys, float *scores) {
    if (keys.type == WEIGHT_Q8)
        attend_quantized_keys(q, keys, scores);
    else
        AT_LEVEL(attend_keys, q, &keys, scores);
}

void attend_values(const float *weights, Matrix values, float *out) {
    AT_LEVEL(attend_values, weights, &values, out);
}

void attend_widen(Matrix rows, float *out) {
    AT_LEVEL(attend_widen, &rows, out);
}
