/*
 * quant_rows.h - few rows of activations by quantized weights.
 *
 * Decoding reads every weight once for a handful of rows, so what counts is that a
 * cache line of weights costs few instructions. Activations become 16-bit integers
 * with a scale for each block of 64, which loses next to nothing; a block's products
 * are added as integers, and the product of both scales turns their sum into f32.
 * Each row is on its own, and blocks are added in one order: a row's result does not
 * depend on the others.
 *
 * The rows of a job are quantized once, before its tiles are multiplied.
 */
#ifndef OCR_QUANT_ROWS_H
#define OCR_QUANT_ROWS_H

#include "kernels/cpu.h"
#include "kernels/matmul_kernel.h"

#define QUANT_COLUMNS 16384 /* at most, filled up to whole blocks */
#define QUANT_BLOCK_BYTES (Q8_BLOCK * (int)sizeof(int16_t))

/*
 * What a block's largest activation becomes: high and low bytes of it, both with a sign, and the
 * sum of 64 of them times 127 fit into 8, 8 and 32 bits.
 */
#define QUANT_MOST 32639.0f

/*
 * Rows of activations, value = scale * x, and 0 where the last block is not full. The order and
 * form of x and scales are the kernel's.
 */
typedef struct QuantRows {
    void *x;         /* [rows taken][blocks][QUANT_BLOCK_BYTES], aligned to 64 */
    float *scales;   /* [rows taken][blocks] */
    int32_t *raised; /* [rows taken][blocks][2] what a kernel that raises weights takes off */
    int blocks;      /* an even number */
} QuantRows;

/* Rows that QuantRows has room for: a kernel may fill up those that stand side by side. */
static inline int quant_rows_taken(int rows) {
    return rows == 1 ? 1 : ceil_div(rows, 4) * 4;
}

/* The job's rows to rows->x and rows->scales. */
typedef void QuantizeRows(const Matmul *job, const QuantRows *rows);
QuantizeRows quantize_rows_portable, quantize_rows_avx2, quantize_rows_vnni, quantize_rows_amx;

/* As MultiplyTile, of Q8 or Q4 weights and tile->quantized, all rows of a job in one tile. */
MultiplyTile multiply_quant_portable, multiply_quant_avx2, multiply_quant_vnni, multiply_quant_amx;

/* A row of activations by keys of Q8. scores: [keys->rows] */
void attend_keys_vnni(const QuantRows *query, const Matrix *keys, float *scores);

/* What a level has for few rows. */
typedef struct QuantKernel {
    QuantizeRows *quantize;
    MultiplyTile *multiply;
} QuantKernel;

const QuantKernel *quant_kernel(CpuLevel level);

#endif
