/*
 * quant_simd.h - the loops of quant_rows.h, written once. Each instruction set's file
 * defines the innermost one and includes this.
 *
 *   TARGET, INLINE   as in matmul_simd.h
 *   NAME(prefix)     the name of an exported function
 *   COLUMNS          weight rows side by side
 *
 *   void multiply_blocks(const QuantRows *x, int row, int rows, const WeightRow *w,
 *                        const Stretch *stretch, float *c)
 *       c[rows][COLUMNS], rows TILE_COLUMNS apart, (+)= x[row..] w[COLUMNS]^T;
 *       rows, 1..ROWS, and stretch->type are constants
 */
#include <math.h>

#define X_MOST 32767

/* One block of activations, x [Q8_BLOCK], to integers in out; returns the scale. */
INLINE float quantize_block(const float *x, int16_t *out) {
    const float round_bias = 0x1.8p23f; /* adding it rounds to an integer in the low bits */
    float most = 0, poison = 0;
    for (int i = 0; i < Q8_BLOCK; i++) {
        most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
        poison += 0.0f * x[i];
    }
    /* NaN and infinity cannot be integers: the scale carries them. */
    float inverse = most > 0x1p-100f && poison == 0 ? X_MOST / most : 0;
    for (int i = 0; i < Q8_BLOCK; i++) {
        float shifted = (inverse > 0 ? x[i] * inverse : 0) + round_bias;
        uint32_t bits;
        memcpy(&bits, &shifted, sizeof bits);
        out[i] = (int16_t)bits;
    }
    return most / X_MOST + poison;
}

/* Columns first..first+count-1 of the tile's rows. */
INLINE void quantize_rows(QuantRows *rows, const Tile *tile, int first, int count) {
    for (int r = 0; r < tile->rows; r++) {
        const float *x = tile_x(tile, r) + first;
        int b = 0;
        for (; (b + 1) * Q8_BLOCK <= count; b++)
            rows->scales[r][b] = quantize_block(x + b * Q8_BLOCK, rows->x[r][b]);
        if (b * Q8_BLOCK < count) {
            float part[Q8_BLOCK] = {0};
            memcpy(part, x + b * Q8_BLOCK, (size_t)(count - b * Q8_BLOCK) * sizeof *part);
            rows->scales[r][b] = quantize_block(part, rows->x[r][b]);
        }
    }
}

INLINE void multiply_rows(const Tile *tile, const QuantRows *x, const WeightRow *w,
                          const Stretch *stretch, float *c) {
    for (int r = 0; r < tile->rows; r += ROWS) {
        float *to = c + r * TILE_COLUMNS;
        int rows = min_int(ROWS, tile->rows - r);
        if (rows == 1)
            multiply_blocks(x, r, 1, w, stretch, to);
        else if (rows == 2)
            multiply_blocks(x, r, 2, w, stretch, to);
        else if (rows == 3)
            multiply_blocks(x, r, 3, w, stretch, to);
        else
            multiply_blocks(x, r, ROWS, w, stretch, to);
    }
}

INLINE void multiply_of(const Tile *tile, WeightType type, float *c, QuantRows *x) {
    for (int k = 0; k < tile->w->columns; k += QUANT_STRETCH) {
        Stretch stretch = {type, min_int(QUANT_STRETCH, tile->w->columns - k), k == 0};
        quantize_rows(x, tile, k, stretch.columns);
        for (int n = 0; n < tile->columns; n += COLUMNS) {
            WeightRow w[COLUMNS];
            for (int i = 0; i < COLUMNS; i++) {
                w[i] = quant_weight_row(tile, n + i, k);
                w[i].ahead = COLUMNS * row_bytes(tile->w);
            }
            multiply_rows(tile, x, w, &stretch, c + n);
        }
    }
}

TARGET void NAME(multiply_quant)(const Tile *tile, float *c, void *scratch) {
    if (tile->w->type == WEIGHT_Q8)
        multiply_of(tile, WEIGHT_Q8, c, scratch);
    else
        multiply_of(tile, WEIGHT_Q4, c, scratch);
}
