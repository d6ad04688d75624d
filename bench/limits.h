/*
 * limits.h - what this machine can do at most, measured: the denominators of the benchmarks.
 */
#ifndef BENCH_LIMITS_H
#define BENCH_LIMITS_H

#include "kernels/cpu.h"
#include "kernels/pool.h"

#include <stdbool.h>
#include <stddef.h>

double now_s(void); /* of a clock that never goes back */

/*
 * GFLOP/s of multiply-adds in registers, all threads, with the instructions that `level`
 * brings for weights that are quantized or not; 0 where there is no probe. Takes about
 * `seconds`.
 */
double limit_gflops(OcrPool *pool, CpuLevel level, bool quantized, double seconds);

/* GB/s of reading `bytes` of memory, which should be far more than the caches hold, all threads. */
double limit_read_gbs(OcrPool *pool, const void *memory, size_t bytes, double seconds);

#endif
