#include "limits.h"

#include <stdint.h>
#include <time.h>
#if defined(__x86_64__)
#include "kernels/amx.h"

#include <immintrin.h>
#endif

double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static double best_run(OcrPool *pool, int chunks, PoolTask task, void *context, double seconds) {
    double best = 1e9, end = now_s() + seconds;
    do {
        double start = now_s();
        pool_run(pool, chunks, task, context);
        double took = now_s() - start;
        best = took < best ? took : best;
    } while (now_s() < end);
    return best;
}

static volatile float sink[POOL_MAX_THREADS]; /* what is computed must be used */

/* ---- multiply-adds ---- */

#if defined(__x86_64__)
#define STEPS 1000000
#define SUMS 14 /* enough to hide the latency of one */

#define PEAK(name, target_string, Vector, operation, zero)                                         \
    __attribute__((target(target_string), noinline)) static float name(void) {                     \
        Vector sums[SUMS], half = zero;                                                            \
        for (int i = 0; i < SUMS; i++)                                                             \
            sums[i] = zero;                                                                        \
        for (int step = 0; step < STEPS; step++) {                                                 \
            _Pragma("GCC unroll 14") for (int i = 0; i < SUMS; i++) sums[i] = operation;           \
            __asm__ volatile("" : "+v"(half));                                                     \
        }                                                                                          \
        float total = 0;                                                                           \
        for (int i = 0; i < SUMS; i++)                                                             \
            total += (float)sums[i][0];                                                            \
        return total;                                                                              \
    }

PEAK(peak_avx2, "avx2,fma", __m256, _mm256_fmadd_ps(half, half, sums[i]), _mm256_setzero_ps())
PEAK(peak_avx512, "avx512f", __m512, _mm512_fmadd_ps(half, half, sums[i]), _mm512_setzero_ps())

/* In place: of the intrinsic the compiler makes copies that cost as much as the products. */
__attribute__((target("avx512f,avx512vnni"))) static inline __m512i add_pairs(__m512i sums,
                                                                              __m512i pairs) {
    __asm__("vpdpwssd %1, %1, %0" : "+v"(sums) : "v"(pairs));
    return sums;
}
__attribute__((target("avx512f,avx512vnni"))) static inline __m512i add_bytes(__m512i sums,
                                                                              __m512i bytes) {
    __asm__("vpdpbusd %1, %1, %0" : "+v"(sums) : "v"(bytes));
    return sums;
}
PEAK(peak_vnni, "avx512f,avx512vnni", __m512i, add_pairs(sums[i], half), _mm512_setzero_si512())
PEAK(peak_bytes, "avx512f,avx512vnni", __m512i, add_bytes(sums[i], half), _mm512_setzero_si512())
PEAK(peak_bf16, "avx512f,avx512bf16", __m512,
     _mm512_dpbf16_ps(sums[i], (__m512bh)half, (__m512bh)half), _mm512_setzero_ps())

#define AMX_SUMS 4 /* tiles of 16 x 16 sums, each of as many products as 64 bytes hold numbers */
#define AMX_STEPS (STEPS / 16)
#define AMX_OPERATIONS(numbers) (2.0 * 16 * 16 * (numbers)*AMX_SUMS * AMX_STEPS)

/* cpu.c has asked the system for the tiles. */
#define PEAK_AMX(name, multiply)                                                                   \
    static float name(void) {                                                                      \
        TILE_CONFIGURE(all_whole);                                                                 \
        TILE_ZERO(6);                                                                              \
        TILE_ZERO(7);                                                                              \
        for (int step = 0; step < AMX_STEPS; step++) {                                             \
            multiply(0, 6, 7);                                                                     \
            multiply(1, 6, 7);                                                                     \
            multiply(2, 6, 7);                                                                     \
            multiply(3, 6, 7);                                                                     \
        }                                                                                          \
        TILE_RELEASE();                                                                            \
        return 0;                                                                                  \
    }
PEAK_AMX(peak_amx, TILE_MULTIPLY)
PEAK_AMX(peak_amx_bytes, TILE_MULTIPLY_BYTES)

typedef struct Peak {
    float (*body)(void);
    double operations; /* of one call */
} Peak;

static const Peak peaks[CPU_LEVELS] = {[CPU_AVX2] = {peak_avx2, 16.0 * SUMS *STEPS},
                                       [CPU_AVX512] = {peak_avx512, 32.0 * SUMS *STEPS},
                                       [CPU_AVX512_VNNI] = {peak_vnni, 64.0 * SUMS *STEPS},
                                       [CPU_AVX512_BF16] = {peak_bf16, 64.0 * SUMS *STEPS},
                                       [CPU_AMX] = {peak_amx, AMX_OPERATIONS(32)}};

/* Of quantized weights, if another. */
static const Peak quantized_peaks[CPU_LEVELS] = {
    [CPU_AVX512_VNNI] = {peak_bytes, 128.0 * SUMS *STEPS},
    [CPU_AVX512_BF16] = {peak_bytes, 128.0 * SUMS *STEPS},
    [CPU_AMX] = {peak_amx_bytes, AMX_OPERATIONS(64)}};

static void peak_task(void *context, int chunk, int thread) {
    const Peak *peak = context;
    (void)chunk;
    sink[thread] = peak->body();
}

double limit_gflops(OcrPool *pool, CpuLevel level, bool quantized, double seconds) {
    Peak peak = quantized && quantized_peaks[level].body ? quantized_peaks[level] : peaks[level];
    int threads = pool_threads(pool);
    if (!peak.body || cpu_best_level() < level)
        return 0;
    return peak.operations * threads / best_run(pool, threads, peak_task, &peak, seconds) / 1e9;
}
#else
double limit_gflops(OcrPool *pool, CpuLevel level, bool quantized, double seconds) {
    (void)pool, (void)level, (void)quantized, (void)seconds;
    return 0;
}
#endif

/* ---- reading ---- */

#define READ_CHUNK ((size_t)1 << 18)
#define READ_STREAMS 8 /* side by side: more lines are on their way than with one */
#define READ_AHEAD 1024
#define LINE 64 /* of which a word is looked at */

static void read_task(void *context, int chunk, int thread) {
    const char *from = (const char *)context + (size_t)chunk * READ_CHUNK;
    size_t stream = READ_CHUNK / READ_STREAMS;
    uint64_t sums[READ_STREAMS] = {0};
    for (size_t at = 0; at < stream; at += LINE)
        for (size_t i = 0; i < READ_STREAMS; i++) {
            const char *line = from + i * stream + at;
            __builtin_prefetch(line + READ_AHEAD);
            sums[i] += *(const uint64_t *)line;
        }
    for (size_t i = 1; i < READ_STREAMS; i++)
        sums[0] ^= sums[i];
    sink[thread] = (float)sums[0];
}

double limit_read_gbs(OcrPool *pool, const void *memory, size_t bytes, double seconds) {
    int chunks = (int)(bytes / READ_CHUNK);
    return (double)chunks * READ_CHUNK /
           best_run(pool, chunks, read_task, (void *)(uintptr_t)memory, seconds) / 1e9;
}
