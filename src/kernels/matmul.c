#include "kernels/matmul.h"

#include "kernels/convert.h"
#include "kernels/matmul_kernel.h"

#include <cblas.h>
#include <math.h>
#include <string.h>

/* One thread's scratch. */
typedef struct Scratch {
    float c[TILE_ROWS * TILE_COLUMNS];
    float up[TILE_ROWS * TILE_COLUMNS];
    float kernel[KERNEL_FLOATS];
} Scratch;

size_t matmul_scratch_bytes(int threads) {
    return (size_t)threads * sizeof(Scratch);
}

static int min_int(int a, int b) {
    return a < b ? a : b;
}
static int ceil_div(int a, int b) {
    return (a + b - 1) / b;
}

const void *tile_w(const Tile *tile, int c, int k) {
    size_t at = (size_t)(tile->column + c) * (size_t)tile->w->columns + (size_t)k;
    return (const char *)tile->w->data + at * (tile->w->type == WEIGHT_F32 ? 4 : 2);
}

void kernel_multiply_portable(const Tile *tile, float *c, float *scratch) {
    float *x = scratch, *w = scratch + TILE_ROWS * DEPTH;
    for (int k = 0; k < tile->w->columns; k += DEPTH) {
        int depth = min_int(DEPTH, tile->w->columns - k);
        for (int r = 0; r < tile->rows; r++)
            memcpy(x + r * DEPTH, tile_x(tile, r) + k, (size_t)depth * sizeof *x);
        for (int n = 0; n < tile->columns; n++)
            convert_to_f32(tile_w(tile, n, k), tile->w->type, (size_t)depth, w + n * DEPTH);
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, tile->rows, tile->columns, depth, 1.0f,
                    x, DEPTH, w, DEPTH, k ? 1.0f : 0.0f, c, TILE_COLUMNS);
    }
}

static void finish(const Tile *tile, const float *c, const float *up) {
    const Matmul *job = tile->job;
    for (int r = 0; r < tile->rows; r++) {
        size_t at = (size_t)(tile->row + r) * (size_t)job->y_stride + (size_t)tile->column;
        for (int n = 0; n < tile->columns; n++) {
            float v = c[r * TILE_COLUMNS + n];
            if (job->bias)
                v += job->bias[tile->column + n];
            if (job->activation == ACTIVATION_GELU)
                v = 0.5f * v * (1.0f + erff(v * 0.70710678f));
            else if (job->activation == ACTIVATION_QUICK_GELU)
                v = v / (1.0f + expf(-1.702f * v));
            else if (job->activation == ACTIVATION_SWIGLU)
                v = v / (1.0f + expf(-v)) * up[r * TILE_COLUMNS + n];
            job->y[at + (size_t)n] = v + (job->residual ? job->residual[at + (size_t)n] : 0.0f);
        }
    }
}

static int job_chunks(const Matmul *job) {
    return ceil_div(job->rows, TILE_ROWS) * ceil_div(job->w.rows, TILE_COLUMNS);
}

typedef struct Batch {
    const Matmul *jobs;
    Scratch *scratch; /* [threads] */
} Batch;

static void multiply_chunk(void *context, int chunk, int thread) {
    const Batch *batch = context;
    const Matmul *job = batch->jobs;
    Scratch *scratch = &batch->scratch[thread];
    while (chunk >= job_chunks(job))
        chunk -= job_chunks(job++);
    int down = ceil_div(job->rows, TILE_ROWS);
    int row = chunk % down * TILE_ROWS, column = chunk / down * TILE_COLUMNS;
    Tile tile = {job,    &job->w,
                 row,    min_int(TILE_ROWS, job->rows - row),
                 column, min_int(TILE_COLUMNS, job->w.rows - column)};
    kernel_multiply_portable(&tile, scratch->c, scratch->kernel);
    if (job->activation == ACTIVATION_SWIGLU) {
        tile.w = &job->up;
        kernel_multiply_portable(&tile, scratch->up, scratch->kernel);
    }
    finish(&tile, scratch->c, scratch->up);
}

void matmul_run(const Matmul *jobs, int count, Precision precision, OcrPool *pool, void *scratch) {
    Batch batch = {jobs, scratch};
    int chunks = 0;
    (void)precision;
    for (int i = 0; i < count; i++)
        chunks += job_chunks(&jobs[i]);
    pool_run(pool, chunks, multiply_chunk, &batch);
}

void gemm_nt(Panel a, Panel b, Panel c) {
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, a.rows, b.rows, a.columns, 1.0f, a.data,
                a.stride, b.data, b.stride, 0.0f, c.data, c.stride);
}

void gemm_nn(Panel a, Panel b, Panel c) {
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, a.rows, b.columns, a.columns, 1.0f,
                a.data, a.stride, b.data, b.stride, 0.0f, c.data, c.stride);
}
