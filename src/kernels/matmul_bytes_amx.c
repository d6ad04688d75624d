/*
 * Many rows and weights of Q8 by AMX, as integers of 8 bits.
 *
 * A block of Q8 is as long as a row of a matrix register. So A is a block of 16 rows of weights, as
 * they lie, B the same block of 16 rows of x, word by word as integers_lanes_simd.h packs them, and
 * one instruction makes all their products and adds them, exactly. C leaves through memory, and is
 * added to sums of f32 that stay in vector registers for X_DEPTH columns; the next block's C is
 * made meanwhile. The arithmetic is that of matmul_bytes_vnni.c, to the last bit. Q4, whose blocks
 * are half as long, is left to matmul_amx.c.
 *
 * Weights are copied only where 16 x 64 of them would reach over an edge.
 */
#if defined(__x86_64__)
#define BYTES 1
#define RAISED 0
#include "kernels/amx.h"
#include "kernels/integers_vnni.h"
#include "kernels/integers_lanes_simd.h"
#include "kernels/weights_ahead.h"

#define X_DEPTH 1024
#include "kernels/integers_rows_simd.h"

typedef int8_t WeightTile[SIDE][BLOCK];
typedef int32_t Dots[SIDE][SIDE]; /* [row of w][row of x] */

/* X_DEPTH columns of 16 rows of weights. With as many of 16 rows of x they fill the first cache to
 * two thirds. */
typedef struct WeightRows {
    const int8_t *blocks[X_BLOCKS]; /* in the mapping, or copies */
    size_t strides[X_BLOCKS];       /* from row to row */
    float scales[X_BLOCKS][SIDE];
    WeightTile copies[X_BLOCKS];
} WeightRows;

typedef struct Scratch {
    RowsScratch rows;
    Dots dots[2];
    WeightRows w;
} Scratch;

_Static_assert(sizeof(Scratch) <= KERNEL_SCRATCH_BYTES, "AMX needs more scratch");
_Static_assert(SIDE == LANES && TILE_COLUMNS % SIDE == 0 && X_DEPTH % BLOCK == 0, "whole squares");

/* The tile's rows n..n+15 of weights, `count` columns from k on. */
static void take_weights(const Tile *tile, int n, int k, int count, WeightRows *to) {
    int rows = min_int(SIDE, tile->columns - n);
    size_t stride = row_bytes(tile->w);
    for (int b = 0; b < ceil_div(count, BLOCK); b++) {
        const int8_t *from = (const int8_t *)tile_w(tile, n) + k + b * BLOCK;
        int columns = min_int(BLOCK, count - b * BLOCK);
        to->blocks[b] = from;
        to->strides[b] = stride;
        if (rows < SIDE || columns < BLOCK) {
            copy_part(to->copies[b], from, stride, rows, (size_t)columns);
            to->blocks[b] = to->copies[b][0];
            to->strides[b] = TILE_ROW_BYTES;
        }
    }
    for (int r = 0; r < SIDE; r++) {
        const uint16_t *scales = tile_scales(tile, n + r) + k / BLOCK;
        for (int b = 0; b < ceil_div(count, BLOCK); b++)
            to->scales[b][r] = bf16_to_f32(scales[b]);
    }
}

/* One square of sums: 16 rows of x by 16 of weights. */
typedef struct Square {
    const LaneBlock *x;            /* [blocks] */
    const float (*x_scales)[SPAN]; /* [blocks] */
    const WeightRows *w;
    Ahead *ahead;        /* weights that come next */
    Dots *dots;          /* [2], work space */
    float (*sums)[SPAN]; /* [SIDE] */
    int lane, blocks;    /* the first of the rows of x */
    bool add;            /* to the sums; else they begin here */
} Square;

/* Block b's products. */
INLINE void multiply_block(const Square *s, int b) {
    TILE_ZERO(0);
    TILE_LOAD(1, s->w->blocks[b], s->w->strides[b]);
    TILE_LOAD(2, s->x[b].x[0][s->lane], sizeof s->x->x[0]);
    TILE_MULTIPLY_BYTES(0, 1, 2);
    TILE_STORE(0, s->dots[b % 2], sizeof s->dots[0][0]);
}

INLINE void add_block(const Square *s, int b, Sums *sums) {
    Sums x_scales = load_lanes(s->x_scales[b] + s->lane);
    UNROLL for (int n = 0; n < SIDE; n++) {
        Sums both = x_scales * s->w->scales[b][n];
        sums[n] = add_product(sums[n], to_floats(_mm512_loadu_si512(s->dots[b % 2][n])), both);
    }
}

/* A block's products are made while the last one's are added. */
TARGET static void multiply_square(const Square *s) {
    Sums sums[SIDE];
    UNROLL for (int n = 0; n < SIDE; n++) {
        sums[n] = s->add ? load_lanes(s->sums[n] + s->lane) : (Sums){0};
    }
    multiply_block(s, 0);
    for (int b = 0; b < s->blocks; b++) {
        fetch(s->ahead);
        if (b + 1 < s->blocks)
            multiply_block(s, b + 1);
        add_block(s, b, sums);
    }
    UNROLL for (int n = 0; n < SIDE; n++) {
        store_lanes(s->sums[n] + s->lane, sums[n]);
    }
}

/* Up to X_DEPTH columns from k on. */
static void multiply_depth(const Tile *tile, int k, const TileLanes *x, Scratch *scratch) {
    int count = min_int(X_DEPTH, tile->w->columns - k), blocks = ceil_div(count, BLOCK);
    for (int n = 0; n < tile->columns; n += SIDE) {
        Ahead ahead =
            look_ahead(tile, n + SIDE, SIDE, k, X_DEPTH, blocks * ceil_div(tile->rows, SIDE));
        take_weights(tile, n, k, count, &scratch->w);
        for (int row = 0; row < tile->rows; row += SIDE) {
            int span = row / SPAN;
            Square square = {.x = x->x[span],
                             .x_scales = x->scales[span],
                             .w = &scratch->w,
                             .ahead = &ahead,
                             .dots = scratch->dots,
                             .sums = scratch->rows.sums[span] + n,
                             .lane = row % SPAN,
                             .blocks = blocks,
                             .add = k > 0};
            multiply_square(&square);
        }
    }
}

const RowsForm rows_bytes_amx = {pack_block, X_DEPTH, sizeof(TileLanes), pass_sums};

TARGET void multiply_many_bytes_amx(const Tile *tile, float *c, void *memory) {
    Scratch *scratch = memory;
    TILE_CONFIGURE(all_whole);
    for (int k = 0; k < tile->w->columns; k += X_DEPTH)
        multiply_depth(tile, k, find_columns(tile, k, &scratch->rows.x), scratch);
    TILE_RELEASE(); /* the system need not save what nobody reads */
    if (c)
        put_tile(tile, scratch->rows.sums, c);
}
#endif
