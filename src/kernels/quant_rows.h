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

#include "kernels/matmul_kernel.h"

#define QUANT_COLUMNS 16384 /* at most, filled up to whole blocks */
#define QUANT_GROUP 4       /* rows that share the loading of weights */

/* Rows of activations, value = scale * x, and 0 where the last block is not full. */
typedef struct QuantRows {
    int16_t *x; /* [rows][blocks][Q8_BLOCK], aligned to 64; the order in a block is the kernel's */
    float *scales; /* [rows][blocks] */
    int blocks;
} QuantRows;

/* The job's rows to rows->x and rows->scales. */
typedef void QuantizeRows(const Matmul *job, const QuantRows *rows);
QuantizeRows quantize_rows_portable, quantize_rows_avx2, quantize_rows_vnni;

/* As MultiplyTile, of Q8 or Q4 weights and tile->quantized. scratch is not used. */
MultiplyTile multiply_quant_portable, multiply_quant_avx2, multiply_quant_vnni;

#endif
