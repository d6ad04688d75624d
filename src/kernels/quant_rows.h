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
#define QUANT_GROUP 4       /* rows that share the loading of weights */
#define QUANT_LYING 12

/* Rows of activations, value = scale * x, and 0 where the last block is not full. */
typedef struct QuantRows {
    int16_t *x;    /* [rows taken][blocks][Q8_BLOCK], aligned to 64; the order is the kernel's */
    float *scales; /* [rows taken][blocks], likewise */
    int blocks;
} QuantRows;

/* Rows that QuantRows has room for: a kernel may let more than these stand side by side. */
static inline int quant_rows_taken(int rows) {
    return rows <= QUANT_LYING ? rows : MATMUL_FEW_ROWS;
}

/* The job's rows to rows->x and rows->scales. */
typedef void QuantizeRows(const Matmul *job, const QuantRows *rows);
QuantizeRows quantize_rows_portable, quantize_rows_avx2, quantize_rows_vnni;

/* As MultiplyTile, of Q8 or Q4 weights and tile->quantized, all rows of a job in one tile. */
MultiplyTile multiply_quant_portable, multiply_quant_avx2, multiply_quant_vnni;

/* A row of activations by keys of Q8, whole blocks long. scores: [keys->rows] */
void attend_keys_vnni(const QuantRows *query, const Matrix *keys, float *scores);

/* What a level has for few rows. */
typedef struct QuantKernel {
    QuantizeRows *quantize;
    MultiplyTile *multiply;
} QuantKernel;

const QuantKernel *quant_kernel(CpuLevel level);

#endif
