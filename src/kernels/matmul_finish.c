/* What is done to a tile of sums on its way to y, or to the x of a product that follows. */
#include "kernels/activation.h"
#include "kernels/cpu.h"
#include "kernels/matmul_kernel.h"

#include <stdbool.h>

/*
 * c[count], and so up, which SWIGLU alone has. The loops here are short, in cache, and
 * vectorised by the compiler, once for each instruction set.
 */
ACTIVATION void activate(Activation activation, float *restrict c, const float *restrict up,
                         int count, bool fused) {
    switch (activation) {
    case ACTIVATION_NONE:
        break;
    case ACTIVATION_GELU:
        for (int n = 0; n < count; n++)
            c[n] = activation_gelu(c[n], fused);
        break;
    case ACTIVATION_QUICK_GELU:
        for (int n = 0; n < count; n++)
            c[n] = activation_sigmoid_unit(c[n], 1.702f, fused);
        break;
    case ACTIVATION_SWIGLU:
        for (int n = 0; n < count; n++)
            c[n] = activation_sigmoid_unit(c[n], 1.0f, fused) * up[n];
        break;
    }
}

/* One row; c: [columns], and so the rest. */
ACTIVATION void finish_row(const Tile *tile, int r, float *restrict c, const float *restrict up,
                           bool fused) {
    const Matmul *job = tile->job;
    size_t at = (size_t)(tile->row + r) * (size_t)job->y_stride + (size_t)tile->column;
    int columns = tile->columns;
    if (job->bias)
        for (int n = 0; n < columns; n++)
            c[n] += job->bias[tile->column + n];
    activate(job->activation, c, up, columns, fused);
    const float *residual = job->residual ? job->residual + at : NULL;
    float *y = job->y + at; /* which may be residual */
    if (residual)
        for (int n = 0; n < columns; n++)
            y[n] = c[n] + residual[n];
    else
        memcpy(y, c, (size_t)columns * sizeof *c);
}

ACTIVATION void finish_rows(const Tile *tile, float *c, const float *up, bool fused) {
    for (int r = 0; r < tile->rows; r++)
        finish_row(tile, r, c + r * TILE_COLUMNS, up + r * TILE_COLUMNS, fused);
}

#if defined(__x86_64__)
/* One column, whose numbers stand side by side: c[rows]. */
ACTIVATION void finish_column(const Matmul *job, int column, float *c, int rows, bool fused) {
    if (job->bias) {
        float bias = job->bias[column];
        for (int r = 0; r < rows; r++)
            c[r] += bias;
    }
    activate(job->activation, c, NULL, rows, fused);
}

__attribute__((target("avx2,fma"))) static void finish_avx2(const Tile *tile, float *c,
                                                            const float *up) {
    finish_rows(tile, c, up, true);
}

__attribute__((target("avx2,fma"))) static void finish_column_avx2(const Matmul *job, int column,
                                                                   float *c, int rows) {
    finish_column(job, column, c, rows, true);
}

#define AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma")))

AVX512 static void finish_avx512(const Tile *tile, float *c, const float *up) {
    finish_rows(tile, c, up, true);
}

AVX512 static void finish_column_avx512(const Matmul *job, int column, float *c, int rows) {
    finish_column(job, column, c, rows, true);
}

void matmul_finish(const Tile *tile, float *c, const float *up) {
    if (cpu_level() >= CPU_AVX512)
        finish_avx512(tile, c, up);
    else if (cpu_level() >= CPU_AVX2)
        finish_avx2(tile, c, up);
    else
        finish_rows(tile, c, up, false);
}

/* Forms that pass sums on are those of AVX2 and more. */
void matmul_finish_lanes(const Tile *tile, int n, int count, float *sums, int stride, int rows) {
    bool avx512 = cpu_level() >= CPU_AVX512;
    for (int i = 0; i < count; i++)
        (avx512 ? finish_column_avx512 : finish_column_avx2)(tile->job, tile->column + n + i,
                                                             sums + i * stride, rows);
}
#else
void matmul_finish(const Tile *tile, float *c, const float *up) {
    finish_rows(tile, c, up, true);
}
#endif
