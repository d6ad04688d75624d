/*
 * integers_rows_simd.h - the rows of a tile of matmul.c as integers, for its form for many rows.
 * Included after integers_lanes_simd.h; in addition
 *
 *   X_DEPTH   elements of a row that are packed at once: rows that are no longer are packed
 *             once for all tiles of the same rows
 */
#include "kernels/weights_ahead.h"

#include <stdalign.h>

#define SPANS (TILE_ROWS / SPAN)
#define X_BLOCKS (X_DEPTH / BLOCK)

_Static_assert(TILE_ROWS % SPAN == 0, "whole spans");

/* X_DEPTH columns of a tile's rows of x. */
typedef struct TileLanes {
    alignas(CACHE_LINE) LaneBlock x[SPANS][X_BLOCKS];
    float scales[SPANS][X_BLOCKS][SPAN];
} TileLanes;

typedef float TileSums[SPANS][TILE_COLUMNS][SPAN]; /* w x^T */

/* What a kernel's scratch begins with. */
typedef struct RowsScratch {
    TileLanes x;
    TileSums sums;
} RowsScratch;

/* A block of a row of x, or what is there of it. */
static inline void fetch_block(const float *x) {
    for (int i = 0; i < BLOCK; i += CACHE_LINE / (int)sizeof *x)
        __builtin_prefetch(x + i);
}

/* The largest number that x becomes, for weights of this type. */
static inline int x_most(WeightType type) {
#if !BYTES
    if (!is_quantized(type))
        return X_MOST;
#endif
    (void)type;
    return X_MOST_QUANTIZED;
}

/* Columns k..k+count-1 of the tile's rows of x; what comes next is fetched early. */
INLINE void pack_x(const Tile *tile, int k, int count, TileLanes *to) {
    int most = x_most(tile->w->type);
    for (int row = 0; row < tile->rows; row += LANES) {
        int rows = min_int(LANES, tile->rows - row), span = row / SPAN;
        for (int b = 0; b < ceil_div(count, BLOCK); b++) {
            const float *x[LANES];
            bool last = (b + 1) * BLOCK >= count;
            for (int i = 0; i < rows; i++) {
                int next_row = min_int(row + i + LANES, tile->rows - 1);
                x[i] = tile_x(tile, row + i) + k + b * BLOCK;
                fetch_block(last ? tile_x(tile, next_row) + k : x[i] + BLOCK);
            }
            pack_lanes(x, rows, count - b * BLOCK, most, &to->x[span][b], to->scales[span][b],
                       row % SPAN);
#if RAISED
            begin_lanes(&to->x[span][b], row % SPAN, tile->w->type);
#endif
        }
    }
}

/* A RowsForm's: X_DEPTH columns. */
TARGET static void pack_block(const Tile *tile, int k, void *to) {
    pack_x(tile, k, min_int(X_DEPTH, tile->w->columns - k), to);
}

/* Where the columns from k on stand, of X_DEPTH of them: packed for all, or to the tile's own. */
INLINE TileLanes *find_columns(const Tile *tile, int k, TileLanes *own) {
    if (tile->packed)
        return (TileLanes *)(uintptr_t)(tile->packed + (size_t)(k / X_DEPTH) * sizeof *own);
    if (k % X_DEPTH == 0 && (!tile->copied || tile->w->columns > X_DEPTH))
        pack_block(tile, k, own);
    return own;
}

/* Sums of all rows of x, by weights, to c. */
INLINE void put_tile(const Tile *tile, float (*sums)[TILE_COLUMNS][SPAN], float *c) {
    for (int row = 0; row < tile->rows; row += SPAN)
        put_span(sums[row / SPAN], min_int(SPAN, tile->rows - row), tile->columns,
                 c + row * TILE_COLUMNS);
}

/* A RowsForm's: what stands in lanes stays in its lane. */
TARGET static void pass_sums(const Tile *tile, void *memory, void *to) {
    TileSums *sums = &((RowsScratch *)memory)->sums;
    WeightType type = tile->w->type;
    for (int row = 0; row < tile->rows; row += SPAN)
        for (int n = 0; n < tile->columns; n += BLOCK) {
            float(*block)[SPAN] = &(*sums)[row / SPAN][n];
            int rows = min_int(SPAN, tile->rows - row), k = tile->column + n;
            TileLanes *lanes = (TileLanes *)to + k / X_DEPTH;
            int b = k % X_DEPTH / BLOCK;
            matmul_finish_lanes(tile, n, BLOCK, block[0], SPAN, rows);
            for (int lane = 0; lane < rows; lane += LANES) {
                LaneBlock *x = &lanes->x[row / SPAN][b];
                pass_lanes(block, x_most(type), x, lanes->scales[row / SPAN][b], lane);
#if RAISED
                begin_lanes(x, lane, type);
#endif
            }
        }
}
