/*
 * compute.h - what every layer needs beside its weights and activations.
 */
#ifndef OCR_COMPUTE_H
#define OCR_COMPUTE_H

#include "kernels/matmul.h"
#include "kernels/pool.h"

/*
 * An observer of intermediate tensors, for tests. data: [rows][columns], of
 * layer or block `index`; first_row places a stretch of a longer tensor.
 */
typedef struct Trace {
    void (*tensor)(void *context, const char *name, int index, int first_row, const float *data,
                   int rows, int columns);
    void *context;
} Trace;

typedef struct Compute {
    OcrPool *pool;
    Precision precision;
    void *matmul_scratch;  /* matmul_scratch_bytes(threads) */
    float *thread_scratch; /* [threads][thread_floats], aligned to a cache line */
    size_t thread_floats;  /* whole cache lines */
    const Trace *trace;    /* NULL but in tests */
} Compute;

/* At least so many floats, such that what follows them in memory is aligned as they are. */
static inline size_t compute_whole_lines(size_t floats) {
    return (floats + 15) / 16 * 16;
}

static inline float *compute_scratch(const Compute *compute, int thread) {
    return compute->thread_scratch + (size_t)thread * compute->thread_floats;
}

/* Show a stretch of a tensor, as Trace has it. */
static inline void compute_trace_part(const Compute *compute, const char *name, int index,
                                      int first_row, const float *data, int rows, int columns) {
    if (compute->trace)
        compute->trace->tensor(compute->trace->context, name, index, first_row, data, rows,
                               columns);
}

static inline void compute_trace(const Compute *compute, const char *name, int index,
                                 const float *data, int rows, int columns) {
    compute_trace_part(compute, name, index, 0, data, rows, columns);
}

/* One product on its own. */
static inline void compute_matmul(const Compute *compute, Matmul job) {
    matmul_run(&job, 1, compute->precision, compute->pool, compute->matmul_scratch);
}

#endif
