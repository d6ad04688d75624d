/*
 * matmul.c - products of activations and weights, from jobs to chunks to kernels.
 *
 * Jobs are cut into tiles, a stretch of rows by a stretch of columns of an
 * output, and the tiles of all jobs of a call are the chunks of one loop of the
 * pool: one barrier, however many experts a layer visits. A thread multiplies a
 * tile into private scratch and finishes it (bias, activation, residual) on the
 * way to y, so nothing is written twice and no two threads meet.
 *
 * Both x and w lie with k, the dimension that is summed, running along their
 * rows. The kernels therefore multiply vectors along k: a few rows of x by a few
 * rows of w, each pair with a vector of partial sums in a register, that are
 * added up at the end of a block of k. Nothing is transposed, and there are two
 * forms of the same loop:
 *
 *   few    up to FEW_ROWS rows of x. Weights go from the mapping through a
 *          register, once: decoding is bound by reading them.
 *   many   x and w are first copied, in blocks that fit the caches, to scratch,
 *          as what the kernel multiplies: f32, or bf16. Whole vectors, padded with 0.
 *
 * Quantized weights are few's business in a way of their own (quant_rows.h), with
 * activations as 16-bit integers; otherwise they become f32 or bf16 in scratch.
 *
 * Since both forms add the same numbers in the same order, a row's result does not
 * depend on how many rows there are, which of the forms was taken, where tiles
 * were cut or how many threads there are; with quantized weights it does depend on
 * which of the forms was taken. This order is a level's own:
 * processors of different levels differ in the last bits.
 *
 * matmul_simd.h holds the loops, matmul_<level>.c the vectors. matmul_amx.c has a
 * `many` of another kind, for matrix registers, and shares only the design's cut.
 */
#include "kernels/matmul.h"

#include "kernels/cpu.h"
#include "kernels/matmul_kernel.h"
#include "kernels/quant_rows.h"

#include <stdalign.h>

#define FEW_ROWS 18
#define CHUNKS_PER_THREAD 16 /* wanted, so that threads end together */
#define LEAST_COLUMNS 48

typedef struct Scratch {
    alignas(64) float c[TILE_ROWS * TILE_COLUMNS];
    alignas(64) float up[TILE_ROWS * TILE_COLUMNS];
    alignas(64) unsigned char kernel[KERNEL_SCRATCH_BYTES];
} Scratch;

_Static_assert(sizeof(QuantRows) <= KERNEL_SCRATCH_BYTES, "activations of few rows, quantized");

typedef struct Kernel {
    MultiplyTile *few, *many;
    int row_step; /* rows that `many` takes at a time */
} Kernel;

typedef struct Batch {
    const Matmul *jobs;
    const Kernel *exact, *fast;
    const Kernel *unpacking; /* of quantized weights, for many rows */
    MultiplyTile *quant;     /* of quantized weights, for few; NULL: as many */
    int columns;             /* of a tile */
    Scratch *scratch;        /* [threads] */
} Batch;

static const Kernel portable = {multiply_few_portable, multiply_many_portable, 3};
#if defined(__x86_64__)
static const Kernel avx2 = {multiply_few_avx2, multiply_many_avx2, 3};
static const Kernel avx512 = {multiply_few_avx512, multiply_many_avx512, 3};
static const Kernel bf16 = {multiply_few_bf16, multiply_many_bf16, 3};
static const Kernel amx = {multiply_few_bf16, multiply_many_amx, 16};

static const Kernel *exact_kernel(CpuLevel level) {
    return level >= CPU_AVX512 ? &avx512 : level >= CPU_AVX2 ? &avx2 : &portable;
}

static const Kernel *fast_kernel(CpuLevel level) {
    return level >= CPU_AMX_BF16 ? &amx : level >= CPU_AVX512_BF16 ? &bf16 : exact_kernel(level);
}

/* The AMX kernel takes weights as they lie, so they must be bf16. */
static const Kernel *unpacking_kernel(CpuLevel level) {
    return level >= CPU_AVX512_BF16 ? &bf16 : exact_kernel(level);
}

static MultiplyTile *quant_kernel(CpuLevel level) {
    return level >= CPU_AVX512_BF16 ? multiply_quant_vnni
           : level >= CPU_AVX2      ? multiply_quant_avx2
                                    : multiply_quant_portable;
}
#else
static const Kernel *exact_kernel(CpuLevel level) {
    (void)level;
    return &portable;
}

static const Kernel *fast_kernel(CpuLevel level) {
    return exact_kernel(level);
}

static const Kernel *unpacking_kernel(CpuLevel level) {
    return exact_kernel(level);
}

static MultiplyTile *quant_kernel(CpuLevel level) {
    (void)level;
    return multiply_quant_portable;
}
#endif

size_t matmul_scratch_bytes(int threads) {
    return (size_t)threads * sizeof(Scratch);
}

static const Kernel *job_kernel(const Batch *batch, const Matmul *job) {
    if (is_quantized(job->w.type))
        return batch->unpacking;
    return job->w.type == WEIGHT_BF16 ? batch->fast : batch->exact;
}

static MultiplyTile *job_multiply(const Batch *batch, const Matmul *job) {
    const Kernel *kernel = job_kernel(batch, job);
    if (is_quantized(job->w.type))
        return batch->quant && job->rows <= QUANT_ROWS ? batch->quant : kernel->many;
    return job->rows <= FEW_ROWS ? kernel->few : kernel->many;
}

/* Rows of a job's tiles: about the same for all of them. */
static int job_rows(const Batch *batch, const Matmul *job) {
    int step = job_kernel(batch, job)->row_step;
    return ceil_div(ceil_div(job->rows, ceil_div(job->rows, TILE_ROWS)), step) * step;
}

static int job_chunks(const Batch *batch, const Matmul *job) {
    if (job->rows == 0)
        return 0;
    return ceil_div(job->rows, job_rows(batch, job)) * ceil_div(job->w.rows, batch->columns);
}

static int batch_chunks(const Batch *batch, int count) {
    int chunks = 0;
    for (int i = 0; i < count; i++)
        chunks += job_chunks(batch, &batch->jobs[i]);
    return chunks;
}

/* Tiles that share weights follow each other, so the weights are read from memory once. */
static void multiply_chunk(void *context, int chunk, int thread) {
    const Batch *batch = context;
    const Matmul *job = batch->jobs;
    Scratch *scratch = &batch->scratch[thread];
    while (chunk >= job_chunks(batch, job))
        chunk -= job_chunks(batch, job++);

    int rows = job_rows(batch, job), down = ceil_div(job->rows, rows);
    Tile tile = {.job = job, .w = &job->w};
    tile.row = chunk % down * rows;
    tile.rows = min_int(rows, job->rows - tile.row);
    tile.column = chunk / down * batch->columns;
    tile.columns = min_int(batch->columns, job->w.rows - tile.column);

    MultiplyTile *multiply = job_multiply(batch, job);
    multiply(&tile, scratch->c, scratch->kernel);
    if (job->activation == ACTIVATION_SWIGLU) {
        tile.w = &job->up;
        multiply(&tile, scratch->up, scratch->kernel);
    }
    matmul_finish(&tile, scratch->c, scratch->up);
}

void matmul_run(const Matmul *jobs, int count, Precision precision, OcrPool *pool, void *scratch) {
    CpuLevel level = cpu_level();
    Batch batch = {.jobs = jobs, .columns = TILE_COLUMNS, .scratch = scratch};
    batch.exact = exact_kernel(level);
    batch.fast = precision == PRECISION_FAST ? fast_kernel(level) : batch.exact;
    batch.unpacking = precision == PRECISION_FAST ? unpacking_kernel(level) : batch.exact;
    batch.quant = precision == PRECISION_FAST ? quant_kernel(level) : NULL;

    int chunks = batch_chunks(&batch, count);
    while (chunks < pool_threads(pool) * CHUNKS_PER_THREAD && batch.columns > LEAST_COLUMNS) {
        batch.columns /= 2;
        chunks = batch_chunks(&batch, count);
    }
    pool_run(pool, chunks, multiply_chunk, &batch);
}
