/*
 * bench_kernels - what the matrix kernels reach beside what the machine can.
 *
 *   bench_kernels [threads [seconds per line]]
 *
 * First the ceilings, measured in the same run: multiply-adds in registers, and
 * reading memory that no cache holds. Then each shape at each level, best of the
 * runs that fit the time (0.5 s). GFLOP/s counts 2 operations for each product,
 * GB/s the bytes of the weights, each once. Exact ones are shown of the levels that bring
 * vectors of f32, fast ones of those that bring another way to multiply.
 */
#include "base/bf16.h"
#include "base/numbers.h"
#include "kernels/field.h"
#include "limits.h"

#include <stdatomic.h>
#include <cblas.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

static OcrPool *pool;
static void *scratch;
static double seconds = 0.5;

/* The best time of one call. */
static double best_of(void (*body)(void *), void *context) {
    double best = 1e9, end = now_s() + seconds;
    do {
        double start = now_s();
        body(context);
        double took = now_s() - start;
        best = took < best ? took : best;
    } while (now_s() < end);
    return best;
}

#define MEMORY_BYTES ((size_t)1 << 30) /* more than the caches hold */
#define SCALE_BYTES ((size_t)1 << 24)

static unsigned char *memory;

/* ---- products ---- */

typedef struct Shape {
    const char *name;
    int jobs, rows, depth, columns;
    WeightType type;
    Activation activation;
} Shape;

static const Shape shapes[] = {
    {"decode, attention projections", 3, 1, 1280, 1280, WEIGHT_BF16, ACTIVATION_NONE},
    {"decode, 7 experts' gate and up", 7, 1, 1280, 896, WEIGHT_BF16, ACTIVATION_SWIGLU},
    {"decode, 7 experts' down", 7, 1, 896, 1280, WEIGHT_BF16, ACTIVATION_NONE},
    {"decode, logits", 1, 1, 1280, 129280, WEIGHT_BF16, ACTIVATION_NONE},
    {"decode, logits, f32", 1, 1, 1280, 129280, WEIGHT_F32, ACTIVATION_NONE},
    {"decode, logits, f16", 1, 1, 1280, 129280, WEIGHT_F16, ACTIVATION_NONE},
    {"decode, logits, q8", 1, 1, 1280, 129280, WEIGHT_Q8, ACTIVATION_NONE},
    {"decode, logits, q4", 1, 1, 1280, 129280, WEIGHT_Q4, ACTIVATION_NONE},
    {"decode of 4, logits", 1, 4, 1280, 129280, WEIGHT_BF16, ACTIVATION_NONE},
    {"decode of 16, logits", 1, 16, 1280, 129280, WEIGHT_BF16, ACTIVATION_NONE},
    {"decode of 16, logits, q8", 1, 16, 1280, 129280, WEIGHT_Q8, ACTIVATION_NONE},
    {"prefill, 64 experts' gate and up", 64, 30, 1280, 896, WEIGHT_BF16, ACTIVATION_SWIGLU},
    {"prefill, 64 experts' down", 64, 30, 896, 1280, WEIGHT_BF16, ACTIVATION_NONE},
    {"prefill, attention projections", 3, 512, 1280, 1280, WEIGHT_BF16, ACTIVATION_NONE},
    {"SAM, qkv", 1, 4096, 768, 2304, WEIGHT_BF16, ACTIVATION_NONE},
    {"SAM, lin1, GELU", 1, 1024, 768, 3072, WEIGHT_BF16, ACTIVATION_GELU},
    {"SAM, lin2", 1, 1024, 3072, 768, WEIGHT_BF16, ACTIVATION_NONE},
    {"SAM, 3x3 convolution", 1, 1024, 4608, 1024, WEIGHT_BF16, ACTIVATION_NONE},
    {"CLIP, fc1, quick GELU", 1, 257, 1024, 4096, WEIGHT_BF16, ACTIVATION_QUICK_GELU},
    {"CLIP, fc2", 1, 257, 4096, 1024, WEIGHT_BF16, ACTIVATION_NONE},
    {"default model, SAM, qkv, q8", 1, 1024, 256, 768, WEIGHT_Q8, ACTIVATION_NONE},
    {"default model, SAM, lin1, q8", 1, 1024, 256, 1024, WEIGHT_Q8, ACTIVATION_GELU},
    {"default model, SAM, lin2, q8", 1, 1024, 1024, 256, WEIGHT_Q8, ACTIVATION_NONE},
};

#define MAX_JOBS 64

typedef struct Work {
    Matmul jobs[MAX_JOBS];
    int count;
    Precision precision;
} Work;

static void run_work(void *context) {
    const Work *work = context;
    matmul_run(work->jobs, work->count, work->precision, pool, scratch);
}

static float *x, *y;     /* more than any shape needs */
static uint16_t *scales; /* likewise, of quantized weights: all alike */

/* Few rows: each run takes other weights, so that they come from memory. */
static void print_shape(const Shape *shape, CpuLevel level, Precision precision) {
    Work work = {.count = shape->jobs, .precision = precision};
    size_t matrix = weight_bytes(shape->type, shape->depth) * (size_t)shape->columns;
    int matrices = shape->activation == ACTIVATION_SWIGLU ? 2 : 1;
    size_t bytes = matrix * (size_t)(shape->jobs * matrices);
    double best = 1e9, end = now_s() + seconds;
    size_t at = 0;
    do {
        for (int i = 0; i < shape->jobs; i++) {
            Matrix w = {.data = memory + at,
                        .type = shape->type,
                        .rows = shape->columns,
                        .columns = shape->depth,
                        .scales = scales};
            Matrix up = w;
            up.data = memory + at + matrix;
            at += matrix * (size_t)matrices;
            at = at + 2 * matrix > MEMORY_BYTES ? 0 : at;
            work.jobs[i] = (Matmul){.x = x,
                                    .rows = shape->rows,
                                    .x_stride = shape->depth,
                                    .w = w,
                                    .up = up,
                                    .activation = shape->activation,
                                    .y_stride = shape->columns,
                                    .y = y + (size_t)i * (size_t)(shape->rows * shape->columns)};
        }
        double start = now_s();
        run_work(&work);
        double took = now_s() - start;
        best = took < best ? took : best;
    } while (now_s() < end);
    double operations = 2.0 * shape->rows * shape->depth * shape->columns * shape->jobs * matrices;
    printf("%-34s %-12s %-5s %9.3f ms %8.0f GFLOP/s %7.1f GB/s\n", shape->name,
           cpu_level_name(level), precision == PRECISION_FAST ? "fast" : "exact", best * 1e3,
           operations / best / 1e9, (double)bytes / best / 1e9);
}

/* Does the level bring another way to multiply these weights than that of vectors of f32? */
static bool is_fast(const Shape *shape, CpuLevel level) {
    if (is_quantized(shape->type))
        return level <= CPU_AVX2 || level == CPU_AVX512_VNNI || level == CPU_AMX;
    return shape->type == WEIGHT_BF16 && (level == CPU_AVX2 || level > CPU_AVX512);
}

/* The same products by OpenBLAS, of f32 weights and as many threads: what a library would do. */
static void print_peer(const Shape *shape) {
    double best = 1e9, end = now_s() + seconds;
    do {
        double start = now_s();
        for (int i = 0; i < shape->jobs; i++)
            cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, shape->rows, shape->columns,
                        shape->depth, 1, x, shape->depth, (const float *)memory, shape->depth, 0, y,
                        shape->columns);
        double took = now_s() - start;
        best = took < best ? took : best;
    } while (now_s() < end);
    double products = (double)shape->jobs * shape->rows * shape->depth * shape->columns;
    printf("%-34s %-18s %9.3f ms %8.0f GFLOP/s\n", shape->name, "OpenBLAS", best * 1e3,
           2 * products / best / 1e9);
}

/* ---- panels of the attention of a prompt ---- */

typedef struct Panels {
    const char *name;
    int m, n, k;
    bool transposed;
} Panels;

static const Panels panels[] = {
    {"prefill, q k^T", 32, 256, 128, true},
    {"prefill, p v", 32, 128, 256, false},
};

#define REPEATS 16 /* tasks, that share the threads and b, as the queries of a head do */

static void panel_task(void *context, int chunk, int thread) {
    const Panels *p = context;
    Panel a = {x + (size_t)chunk * (size_t)(p->m * p->k), p->m, p->k, p->k};
    Panel c = {y + (size_t)thread * (1 << 20), p->m, p->n, p->n};
    if (p->transposed)
        gemm_nt(a, (Panel){(float *)memory, p->n, p->k, p->k}, c);
    else
        gemm_nn(a, (Panel){(float *)memory, p->k, p->n, p->n}, c);
}

static void run_panels(void *context) {
    pool_run(pool, REPEATS, panel_task, context);
}

static void print_panels(const Panels *p, CpuLevel level) {
    double took = best_of(run_panels, (void *)p);
    printf("%-34s %-18s %9.3f ms %8.0f GFLOP/s %7.1f GB/s\n", p->name, cpu_level_name(level),
           took * 1e3, 2.0 * REPEATS * p->m * p->n * (double)p->k / took / 1e9,
           4.0 * REPEATS * p->n * (double)p->k / took / 1e9);
}

/* ---- the encoder's attention ---- */

typedef struct Grid {
    const char *name;
    int height, width;
    bool distances;
} Grid;

static const Grid grids[] = {
    {"attention, SAM global", 64, 64, true},
    {"attention, SAM window", 14, 14, true},
    {"attention, CLIP", 1, 257, false},
};

#define HEADS 12
#define DIM 64

static char *field_scratch; /* [threads][field_bytes] */
static size_t field_bytes;

typedef struct FieldWork {
    const Grid *grid;
    Precision precision;
} FieldWork;

/* As many queries as a task takes, of one head of the grid. */
static int field_queries(const Grid *grid) {
    return min_int(FIELD_QUERIES, grid->height * grid->width);
}

static void field_task(void *context, int chunk, int thread) {
    const FieldWork *work = context;
    const Grid *g = work->grid;
    const float *q = x + chunk % HEADS * DIM, *rel = g->distances ? x : NULL;
    Field field = {.q = q,
                   .k = q + HEADS * DIM,
                   .v = q + 2 * HEADS * DIM,
                   .out = y + chunk % HEADS * DIM,
                   .stride = 3 * HEADS * DIM,
                   .out_stride = HEADS * DIM,
                   .line = g->width,
                   .height = g->height,
                   .width = g->width,
                   .inner_height = g->height,
                   .inner_width = g->width,
                   .dim = DIM,
                   .rel_h = rel,
                   .rel_w = rel};
    field_attend(&field, 0, field_queries(g), work->precision,
                 field_scratch + (size_t)thread * field_bytes);
}

static void run_field(void *context) {
    pool_run(pool, HEADS, field_task, context);
}

static void print_field(const Grid *grid, CpuLevel level, Precision precision) {
    FieldWork work = {grid, precision};
    double took = best_of(run_field, &work);
    double products = 2.0 * HEADS * DIM * field_queries(grid) * grid->height * grid->width;
    printf("%-34s %-12s %-5s %9.3f ms %8.0f GFLOP/s\n", grid->name, cpu_level_name(level),
           precision == PRECISION_FAST ? "fast" : "exact", took * 1e3, 2 * products / took / 1e9);
}

/* ---- the pool ---- */

#define LOOPS 100

static atomic_int arrived;

/* Ends when every thread has taken its chunk. */
static void meet_task(void *context, int chunk, int thread) {
    int wanted = *(int *)context * pool_threads(pool);
    (void)chunk, (void)thread;
    atomic_fetch_add(&arrived, 1);
    while (atomic_load(&arrived) < wanted)
        ;
}

static void run_meetings(void *context) {
    (void)context;
    atomic_store(&arrived, 0);
    for (int loop = 1; loop <= LOOPS; loop++)
        pool_run(pool, pool_threads(pool), meet_task, &loop);
}

static void *map(size_t bytes) {
    void *block = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (block == MAP_FAILED) {
        perror("bench_kernels: memory");
        exit(1);
    }
    return block;
}

int main(int argc, char **argv) {
    int threads = argc > 1 ? atoi(argv[1]) : 2;
    OcrError err;
    if (argc > 2)
        seconds = atof(argv[2]);
    if (threads < 1 || threads > POOL_MAX_THREADS || pool_create(threads, &pool, &err) != OCR_OK) {
        fprintf(stderr, "bench_kernels: no pool of %d threads\n", threads);
        return 1;
    }
    scratch = map(matmul_scratch_bytes(threads));
    for (size_t i = 0; i < sizeof grids / sizeof *grids; i++)
        field_bytes =
            max_size(field_bytes, field_scratch_bytes(grids[i].height, grids[i].width, DIM));
    field_scratch = map((size_t)threads * field_bytes);
    memory = map(MEMORY_BYTES);
    x = map(MEMORY_BYTES / 4);
    y = map(MEMORY_BYTES / 2);
    scales = map(SCALE_BYTES);
    for (size_t i = 0; i < SCALE_BYTES / sizeof *scales; i++)
        scales[i] = bf16_nearest(0.001f);
    for (size_t i = 0; i < MEMORY_BYTES / 2; i++) /* small bf16 and f16 numbers */
        ((uint16_t *)memory)[i] = (uint16_t)(0x3C00 + i % 511);
    for (size_t i = 0; i < MEMORY_BYTES / 4 / sizeof *x; i++)
        x[i] = (float)(i % 1001) * 0.001f - 0.5f;

    for (CpuLevel level = CPU_AVX2; level <= cpu_best_level(); level++)
        printf("multiply-adds of %-17s %8.0f GFLOP/s\n", cpu_level_name(level),
               limit_gflops(pool, level, false, seconds));
    if (cpu_best_level() >= CPU_AVX512_VNNI)
        printf("%-34s %8.0f GFLOP/s\n", "multiply-adds of bytes by VNNI",
               limit_gflops(pool, CPU_AVX512_VNNI, true, seconds));
    printf("%-34s %8.1f GB/s\n", "reading memory",
           limit_read_gbs(pool, memory, MEMORY_BYTES, seconds));
    printf("%-34s %8.2f us\n\n", "a loop in which all threads meet",
           best_of(run_meetings, NULL) / LOOPS * 1e6);

    openblas_set_num_threads(threads);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        if (shapes[i].rows > 1)
            print_peer(&shapes[i]);
        for (CpuLevel level = CPU_PORTABLE; level <= cpu_best_level(); level++) {
            cpu_force_level(level);
            if (level <= CPU_AVX512 && !is_quantized(shapes[i].type))
                print_shape(&shapes[i], level, PRECISION_EXACT);
            if (is_fast(&shapes[i], level))
                print_shape(&shapes[i], level, PRECISION_FAST);
        }
    }
    for (size_t i = 0; i < sizeof grids / sizeof *grids; i++)
        for (CpuLevel level = CPU_PORTABLE; level <= cpu_best_level(); level++) {
            if (level == CPU_AVX512_VNNI) /* as AVX512: attention is not made of integers */
                continue;
            cpu_force_level(level);
            print_field(&grids[i], level, level <= CPU_AVX512 ? PRECISION_EXACT : PRECISION_FAST);
        }
    for (size_t i = 0; i < sizeof panels / sizeof *panels; i++)
        for (CpuLevel level = CPU_PORTABLE; level <= cpu_best_level() && level <= CPU_AVX512;
             level++) {
            cpu_force_level(level);
            print_panels(&panels[i], level);
        }
    pool_destroy(pool);
    return 0;
}
