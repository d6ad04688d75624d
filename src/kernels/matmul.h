/*
 * matmul.h - every matrix product of the model.
 *
 * Two entries. matmul_run multiplies activations by weights as they lie in the
 * checkpoint, for a batch of independent products, on all threads. gemm_nt and
 * gemm_nn multiply two small f32 panels on the calling thread, for attention
 * inside a pool task.
 *
 * A row of y depends on its own row of x and on the weights, and on nothing else,
 * bit for bit: not on the other rows or how many there are, not on the other jobs,
 * not on the number of threads. Two exceptions, of PRECISION_FAST: bf16 weights are
 * multiplied in another way by jobs of up to 18 rows than by larger ones; and quantized
 * weights in another way by calls of few rows than by others, save with AVX2.
 * Processors of different levels (cpu.h) differ in the last bits.
 */
#ifndef OCR_MATMUL_H
#define OCR_MATMUL_H

#include "kernels/pool.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The last two lie in blocks with scales, see quant.h. */
typedef enum WeightType { WEIGHT_F32, WEIGHT_BF16, WEIGHT_F16, WEIGHT_Q8, WEIGHT_Q4 } WeightType;

static inline bool is_quantized(WeightType type) {
    return type == WEIGHT_Q8 || type == WEIGHT_Q4;
}

/* Of `count` weights of one row, which fill whole blocks if they are quantized. */
static inline size_t weight_bytes(WeightType type, int count) {
    static const int bits[] = {
        [WEIGHT_F32] = 32, [WEIGHT_BF16] = 16, [WEIGHT_F16] = 16, [WEIGHT_Q8] = 8, [WEIGHT_Q4] = 4};
    return (size_t)count * (size_t)bits[type] / 8;
}

/* A weight matrix in the mapping, aligned to its element's size. */
typedef struct Matrix {
    const void *data; /* [rows][columns] = [out][in] */
    WeightType type;
    int rows, columns;
    const uint16_t *scales; /* [rows][blocks] bf16, of the quantized types */
} Matrix;

typedef enum Activation {
    ACTIVATION_NONE,
    ACTIVATION_GELU,       /* x * (1 + erf(x / sqrt 2)) / 2 */
    ACTIVATION_QUICK_GELU, /* x * sigmoid(1.702 x) */
    ACTIVATION_SWIGLU      /* silu(x w) * (x up), with Matmul.up */
} Activation;

/*
 * y = residual + activation(x w^T + bias)
 */
typedef struct Matmul {
    const float *x;    /* [rows][w.columns], rows x_stride apart */
    const int *x_rows; /* [rows] row r is x's row x_rows[r]; NULL: r itself */
    int rows;          /* may be 0 */
    int x_stride;      /* in floats, as y_stride */
    Matrix w;          /* [w.rows][w.columns] */
    Matrix up;         /* like w, for ACTIVATION_SWIGLU; else unused */
    const float *bias; /* [w.rows] or NULL */
    Activation activation;
    const float *residual; /* [rows][w.rows], rows y_stride apart, may be y itself; or NULL */
    float *y;              /* [rows][w.rows], rows y_stride apart */
    int y_stride;
} Matmul;

/*
 * How numbers are rounded on the way. EXACT keeps activations in f32. FAST rounds
 *
 *   with bf16 weights         to bf16 where the processor multiplies such pairs (AVX512_BF16,
 *                             AMX); by AVX2 and by VNNI without BF16, activations of more than
 *                             18 rows and the weights to integers of 13 and 14 bits, with a
 *                             scale for each 64
 *   with quantized weights    few rows to 16-bit integers, with a scale for each 64; many
 *                             likewise, to 8-bit ones where there is VNNI and to 16-bit ones
 *                             by AVX2; those that meet Q4 by AMX to bf16, with the weights
 *
 * and elsewhere it is EXACT. Sums are f32 in either case.
 */
typedef enum Precision { PRECISION_EXACT, PRECISION_FAST } Precision;

/* Quantized weights: as few rows a call counts if none of its jobs has more than this. */
#define MATMUL_FEW_ROWS 16

/* Bytes of scratch, aligned to 64, that matmul_run and matmul_run_two need, whatever the shapes. */
size_t matmul_scratch_bytes(int threads);

/* All products of jobs[count], in any order; none may read what another writes. */
void matmul_run(const Matmul *jobs, int count, Precision precision, OcrPool *pool, void *scratch);

/*
 * Two products, of which the second one's x is the first one's y; that has no residual, and its
 * activation is not SWIGLU. The results are those of matmul_run, one after the other. But what
 * is between them may stay in scratch, in the form that the kernel multiplies: y of the first is
 * room for it, and holds anything afterwards.
 */
void matmul_run_two(const Matmul jobs[2], Precision precision, OcrPool *pool, void *scratch);

/* A rectangle of f32 in a larger array: row r begins at data + r * stride. */
typedef struct Panel {
    float *data;
    int rows, columns;
    int stride;
} Panel;

/* A row of c does not depend on the other rows of a, to the last bit. */
void gemm_nt(Panel a, Panel b, Panel c); /* c[m][n] = a[m][k] b[n][k]^T */
void gemm_nn(Panel a, Panel b, Panel c); /* c[m][n] = a[m][k] b[k][n] */

#endif
