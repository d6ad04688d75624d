/*
 * bench_kernels - what the matrix kernels reach beside what the machine can.
 *
 *   bench_kernels [threads [seconds per line]]
 *
 * First the ceilings, measured in the same run: multiply-adds in registers, and
 * reading memory that no cache holds. Then each shape at each level, best of the
 * runs that fit the time (0.5 s). GFLOP/s counts 2 operations for each product,
 * GB/s the bytes of the weights, each once. Levels faster than AVX512 differ with
 * PRECISION_FAST alone.
 */
#include "kernels/cpu.h"
#include "kernels/matmul.h"

#include <stdatomic.h>
#include <cblas.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

static OcrPool *pool;
static void *scratch;
static double seconds = 0.5;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* The best time of one call. */
static double best_of(void (*body)(void *), void *context) {
    double best = 1e9, end = now() + seconds;
    do {
        double start = now();
        body(context);
        double took = now() - start;
        best = took < best ? took : best;
    } while (now() < end);
    return best;
}

/* ---- ceilings ---- */

static volatile float sink[POOL_MAX_THREADS]; /* what is computed must be used */

#if defined(__x86_64__)
#define PEAK_STEPS 1000000
#define PEAK_SUMS 12 /* enough to hide the latency of one */

#define PEAK(name, target_string, Vector, operation, zero)                                         \
    __attribute__((target(target_string), noinline)) static float name(void) {                     \
        Vector sums[PEAK_SUMS], half = zero;                                                       \
        for (int i = 0; i < PEAK_SUMS; i++)                                                        \
            sums[i] = zero;                                                                        \
        for (int step = 0; step < PEAK_STEPS; step++) {                                            \
            _Pragma("GCC unroll 12") for (int i = 0; i < PEAK_SUMS; i++) sums[i] = operation;      \
            __asm__ volatile("" : "+v"(half));                                                     \
        }                                                                                          \
        float total = 0;                                                                           \
        for (int i = 0; i < PEAK_SUMS; i++)                                                        \
            total += sums[i][0];                                                                   \
        return total;                                                                              \
    }

PEAK(peak_avx2, "avx2,fma", __m256, _mm256_fmadd_ps(half, half, sums[i]), _mm256_setzero_ps())
PEAK(peak_avx512, "avx512f", __m512, _mm512_fmadd_ps(half, half, sums[i]), _mm512_setzero_ps())
PEAK(peak_bf16, "avx512f,avx512bf16", __m512,
     _mm512_dpbf16_ps(sums[i], (__m512bh)half, (__m512bh)half), _mm512_setzero_ps())

static void peak_task(void *context, int chunk, int thread) {
    (void)chunk;
    sink[thread] = (*(float (**)(void))context)();
}

static void run_peak(void *context) {
    pool_run(pool, pool_threads(pool), peak_task, context);
}

static void print_peak(const char *name, CpuLevel level, float (*body)(void), int operations) {
    if (cpu_best_level() < level)
        return;
    double took = best_of(run_peak, &body);
    printf("%-34s %8.0f GFLOP/s\n", name,
           (double)operations * PEAK_SUMS * PEAK_STEPS * pool_threads(pool) / took / 1e9);
}

static void print_peaks(void) {
    print_peak("peak of AVX2 multiply-adds", CPU_AVX2, peak_avx2, 16);
    print_peak("peak of AVX512 multiply-adds", CPU_AVX512, peak_avx512, 32);
    print_peak("peak of AVX512_BF16 pairs", CPU_AVX512_BF16, peak_bf16, 64);
}
#else
static void print_peaks(void) {}
#endif

/* ---- memory that is too large for the caches ---- */

#define MEMORY_BYTES ((size_t)1 << 30)
#define READ_CHUNK ((size_t)1 << 18)

static unsigned char *memory;

static void read_task(void *context, int chunk, int thread) {
    const uint64_t *from = (const uint64_t *)(memory + (size_t)chunk * READ_CHUNK);
    uint64_t sum[16] = {0};
    (void)context;
    for (size_t i = 0; i < READ_CHUNK / sizeof *from; i += 16)
        for (size_t j = 0; j < 16; j++)
            sum[j] += from[i + j];
    for (size_t j = 1; j < 16; j++)
        sum[0] ^= sum[j];
    sink[thread] = (float)sum[0];
}

static void run_read(void *context) {
    (void)context;
    pool_run(pool, (int)(MEMORY_BYTES / READ_CHUNK), read_task, NULL);
}

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
    {"decode of 4, logits", 1, 4, 1280, 129280, WEIGHT_BF16, ACTIVATION_NONE},
    {"decode of 16, logits", 1, 16, 1280, 129280, WEIGHT_BF16, ACTIVATION_NONE},
    {"prefill, 64 experts' gate and up", 64, 30, 1280, 896, WEIGHT_BF16, ACTIVATION_SWIGLU},
    {"prefill, 64 experts' down", 64, 30, 896, 1280, WEIGHT_BF16, ACTIVATION_NONE},
    {"prefill, attention projections", 3, 512, 1280, 1280, WEIGHT_BF16, ACTIVATION_NONE},
    {"SAM, qkv", 1, 4096, 768, 2304, WEIGHT_BF16, ACTIVATION_NONE},
    {"SAM, lin1, GELU", 1, 1024, 768, 3072, WEIGHT_BF16, ACTIVATION_GELU},
    {"SAM, lin2", 1, 1024, 3072, 768, WEIGHT_BF16, ACTIVATION_NONE},
    {"SAM, 3x3 convolution", 1, 1024, 4608, 1024, WEIGHT_BF16, ACTIVATION_NONE},
    {"CLIP, fc1, quick GELU", 1, 257, 1024, 4096, WEIGHT_BF16, ACTIVATION_QUICK_GELU},
    {"CLIP, fc2", 1, 257, 4096, 1024, WEIGHT_BF16, ACTIVATION_NONE},
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

static float *x, *y; /* of MEMORY_BYTES each, more than any shape needs */

/* Few rows: each run takes other weights, so that they come from memory. */
static void print_shape(const Shape *shape, CpuLevel level, Precision precision) {
    Work work = {.count = shape->jobs, .precision = precision};
    size_t element = shape->type == WEIGHT_F32 ? 4 : 2;
    size_t matrix = (size_t)shape->depth * (size_t)shape->columns * element;
    int matrices = shape->activation == ACTIVATION_SWIGLU ? 2 : 1;
    size_t bytes = matrix * (size_t)(shape->jobs * matrices);
    double best = 1e9, end = now() + seconds;
    size_t at = 0;
    do {
        for (int i = 0; i < shape->jobs; i++) {
            Matrix w = {.data = memory + at,
                        .type = shape->type,
                        .rows = shape->columns,
                        .columns = shape->depth};
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
        double start = now();
        run_work(&work);
        double took = now() - start;
        best = took < best ? took : best;
    } while (now() < end);
    double operations = 2.0 * shape->rows * (double)(bytes / element);
    printf("%-34s %-12s %-5s %9.3f ms %8.0f GFLOP/s %7.1f GB/s\n", shape->name,
           cpu_level_name(level), precision == PRECISION_FAST ? "fast" : "exact", best * 1e3,
           operations / best / 1e9, (double)bytes / best / 1e9);
}

/* The same products by OpenBLAS, of f32 weights and as many threads: what a library would do. */
static void print_peer(const Shape *shape) {
    double best = 1e9, end = now() + seconds;
    do {
        double start = now();
        for (int i = 0; i < shape->jobs; i++)
            cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, shape->rows, shape->columns,
                        shape->depth, 1, x, shape->depth, (const float *)memory, shape->depth, 0, y,
                        shape->columns);
        double took = now() - start;
        best = took < best ? took : best;
    } while (now() < end);
    double products = (double)shape->jobs * shape->rows * shape->depth * shape->columns;
    printf("%-34s %-18s %9.3f ms %8.0f GFLOP/s\n", shape->name, "OpenBLAS", best * 1e3,
           2 * products / best / 1e9);
}

/* ---- panels of attention ---- */

typedef struct Panels {
    const char *name;
    int m, n, k;
    bool transposed;
} Panels;

static const Panels panels[] = {
    {"SAM window, q k^T", 64, 196, 64, true},  {"SAM window, p v", 64, 64, 196, false},
    {"SAM global, q k^T", 64, 4096, 64, true}, {"SAM global, p v", 64, 64, 4096, false},
    {"CLIP, q k^T", 64, 257, 64, true},        {"CLIP, p v", 64, 64, 257, false},
    {"prefill, q k^T", 32, 512, 128, true},    {"prefill, p v", 32, 128, 512, false},
    {"decode, q k^T", 1, 1000, 128, true},     {"decode, p v", 1, 128, 1000, false},
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
    memory = map(MEMORY_BYTES);
    x = map(MEMORY_BYTES / 4);
    y = map(MEMORY_BYTES / 2);
    for (size_t i = 0; i < MEMORY_BYTES / 2; i++) /* small bf16 and f16 numbers */
        ((uint16_t *)memory)[i] = (uint16_t)(0x3C00 + i % 511);
    for (size_t i = 0; i < MEMORY_BYTES / 4 / sizeof *x; i++)
        x[i] = (float)(i % 1001) * 0.001f - 0.5f;

    print_peaks();
    printf("%-34s %8.1f GB/s\n", "reading memory",
           (double)MEMORY_BYTES / best_of(run_read, NULL) / 1e9);
    printf("%-34s %8.2f us\n\n", "a loop in which all threads meet",
           best_of(run_meetings, NULL) / LOOPS * 1e6);

    openblas_set_num_threads(threads);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        if (shapes[i].rows > 1)
            print_peer(&shapes[i]);
        for (CpuLevel level = CPU_PORTABLE; level <= cpu_best_level(); level++) {
            cpu_force_level(level);
            if (level <= CPU_AVX512)
                print_shape(&shapes[i], level, PRECISION_EXACT);
            else if (shapes[i].type == WEIGHT_BF16)
                print_shape(&shapes[i], level, PRECISION_FAST);
        }
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
