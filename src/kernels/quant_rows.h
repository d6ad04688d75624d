/*
 * quant_rows.h - few rows of activations by quantized weights.
 *
 * Decoding reads every weight once for a handful of rows, so what counts is that a
 * cache line of weights costs few instructions. Activations are quantized like Q8
 * weights, a block of 64 at a time, and blocks are multiplied as integers; the
 * product of both scales then turns a block's sums into f32. Each row is on its own,
 * and blocks are added in one order: a row's result does not depend on the others.
 */
#ifndef OCR_QUANT_ROWS_H
#define OCR_QUANT_ROWS_H

#include "kernels/matmul_kernel.h"
#include "kernels/quant.h"

#include <stdbool.h>

#define QUANT_ROWS 16    /* at most */
#define ROWS 4           /* side by side */
#define QUANT_BLOCKS 128 /* of one stretch of columns */
#define QUANT_STRETCH (QUANT_BLOCKS * Q8_BLOCK)

/* One block of an activation row. Sums have the weights' offset in the kernel's form. */
typedef struct QuantBlock {
    _Alignas(64) int8_t x[Q8_BLOCK];
    int32_t correction[16]; /* -offset * (x[4 i] + .. + x[4 i + 3]) */
} QuantBlock;

/* A stretch of a few rows of activations, quantized. */
typedef struct QuantRows {
    QuantBlock blocks[QUANT_ROWS][QUANT_BLOCKS];
    float scales[QUANT_ROWS][QUANT_BLOCKS];
} QuantRows;

/* A row of weights, from a stretch's first column on. */
typedef struct WeightRow {
    const uint8_t *q;
    const uint16_t *scales; /* bf16 */
    size_t ahead;           /* bytes to the row that will be wanted next, to be fetched early */
} WeightRow;

/* Columns that are multiplied at one go. */
typedef struct Stretch {
    WeightType type;
    int columns;
    bool first; /* begins the sums, instead of adding to them */
} Stretch;

/* Of the tile's column; first: a multiple of Q8_BLOCK */
static inline WeightRow quant_weight_row(const Tile *tile, int column, int first) {
    WeightType type = tile->w->type;
    return (WeightRow){.q = (const uint8_t *)tile_w(tile, column) + weight_bytes(type, first),
                       .scales = tile_scales(tile, column) +
                                 first / (type == WEIGHT_Q8 ? Q8_BLOCK : Q4_BLOCK)};
}

/* As MultiplyTile, for tiles of up to QUANT_ROWS rows of Q8 or Q4 weights. scratch: QuantRows */
MultiplyTile multiply_quant_portable, multiply_quant_avx2, multiply_quant_vnni;

#endif
