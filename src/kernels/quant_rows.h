/*
 * quant_rows.h - few rows of activations by quantized weights.
 *
 * Decoding reads every weight once for a handful of rows, so what counts is that a
 * cache line of weights costs few instructions. Activations become 16-bit integers
 * with a scale for each block of 64, which loses next to nothing; a block's products
 * are added as integers, and the product of both scales turns their sum into f32.
 * Each row is on its own, and blocks are added in one order: a row's result does not
 * depend on the others.
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

/* A stretch of a few rows of activations, quantized: value = scale * x. */
typedef struct QuantRows {
    _Alignas(64) int16_t x[QUANT_ROWS][QUANT_BLOCKS][Q8_BLOCK];
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
