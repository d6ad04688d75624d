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

/*
 * X_DEPTH columns of 16 rows of weights: 16 KB, as x has for a square, so that both stay in the
 * first cache.
 */
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

/* What all squares of 16 rows of weights share. */
typedef struct Group {
    const WeightRows *w;
    Dots *dots;   /* [2], work space */
    Ahead *ahead; /* weights that come next */
    int blocks;
    bool add; /* to the sums; else they begin here */
} Group;

/* A square of sums: 16 rows of x by 16 of weights. */
typedef struct Square {
    const LaneBlock *x;            /* [blocks] */
    const float (*x_scales)[SPAN]; /* [blocks] */
    float (*sums)[SPAN];           /* [SIDE] */
    int lane;                      /* the first of the rows of x */
} Square;

/* A and B of block b. */
INLINE void load_block(const Group *g, const Square *s, int b) {
    TILE_LOAD(1, g->w->blocks[b], g->w->strides[b]);
    TILE_LOAD(2, s->x[b].x[0][s->lane], sizeof s->x->x[0]);
}

/*
 * The products of block b, which is loaded. What comes next is before these leave: a neighbour on
 * the same core leaves few registers to be renamed, and then loads do not overtake by themselves.
 */
INLINE void multiply_block(const Group *g, const Square *s, const Square *next, int b) {
    TILE_ZERO(0);
    TILE_MULTIPLY_BYTES(0, 1, 2);
    if (b + 1 < g->blocks)
        load_block(g, s, b + 1);
    else
        load_block(g, next, 0);
    TILE_STORE(0, g->dots[b % 2], sizeof g->dots[0][0]);
}

INLINE void add_block(const Group *g, const Square *s, int b, Sums *sums) {
    Sums x_scales = load_lanes(s->x_scales[b] + s->lane);
    UNROLL for (int n = 0; n < SIDE; n++) {
        Sums both = x_scales * g->w->scales[b][n];
        sums[n] = add_product(sums[n], to_floats(_mm512_loadu_si512(g->dots[b % 2][n])), both);
    }
}

/* Block 0 is loaded. A block's products are made while the last one's are added. */
INLINE void multiply_square(const Group *g, const Square *s, const Square *next) {
    Sums sums[SIDE];
    UNROLL for (int n = 0; n < SIDE; n++) {
        sums[n] = g->add ? load_lanes(s->sums[n] + s->lane) : (Sums){0};
    }
    multiply_block(g, s, next, 0);
    for (int b = 0; b < g->blocks; b++) {
        fetch(g->ahead);
        if (b + 1 < g->blocks)
            multiply_block(g, s, next, b + 1);
        add_block(g, s, b, sums);
    }
    UNROLL for (int n = 0; n < SIDE; n++) {
        store_lanes(s->sums[n] + s->lane, sums[n]);
    }
}

/* The tile's rows of x from `row` on by its rows of weights from n on. */
INLINE Square square_at(const TileLanes *x, TileSums *sums, int row, int n) {
    int span = row / SPAN;
    return (Square){x->x[span], x->scales[span], (*sums)[span] + n, row % SPAN};
}

/* Up to X_DEPTH columns from k on. */
TARGET static void multiply_depth(const Tile *tile, int k, const TileLanes *x, Scratch *scratch) {
    int count = min_int(X_DEPTH, tile->w->columns - k);
    int blocks = ceil_div(count, BLOCK), squares = ceil_div(tile->rows, SIDE);
    for (int n = 0; n < tile->columns; n += SIDE) {
        Ahead ahead = look_ahead(tile, n + SIDE, SIDE, k, X_DEPTH, blocks * squares);
        Group group = {&scratch->w, scratch->dots, &ahead, blocks, k > 0};
        Square square = square_at(x, &scratch->rows.sums, 0, n), next;
        take_weights(tile, n, k, count, &scratch->w);
        load_block(&group, &square, 0);
        for (int i = 0; i < squares; i++, square = next) {
            /* behind the last one itself again, which is loaded in vain */
            next = square_at(x, &scratch->rows.sums, min_int(i + 1, squares - 1) * SIDE, n);
            multiply_square(&group, &square, &next);
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
