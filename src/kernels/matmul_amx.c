/*
 * Many rows by AMX: matrix registers of 16 rows of 64 bytes. One instruction adds the product
 * of A, 16 rows of 32 bf16, and B, 16 pairs of 16 columns, to C, 16 x 16 f32.
 *
 * Weights of bf16, as they lie, are A: 16 rows of w, 32 columns. Those of Q4 become bf16
 * first, a panel of two squares' rows at a time, which all rows of x meet. B has the same columns
 * of 16 rows of x, rounded to bf16: pair p of row r stands in row p, column r. So C is a part of
 * w x^T, which is kept so in scratch until all columns of w are summed, and then transposed. Four C
 * share two A and two B.
 */
#if defined(__x86_64__)
#include "kernels/amx.h"
#include "kernels/matmul_kernel.h"
#include "kernels/words.h"

#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")))
#define INLINE static inline __attribute__((always_inline)) TARGET
#include "kernels/matmul_avx512.h"

#define STEP 32                                       /* columns of w in A */
#define DEPTH ((int)(BLOCK_BYTES / sizeof(uint16_t))) /* columns in work at once */
#define STEPS (DEPTH / STEP)
#define PANEL (2 * SIDE) /* rows of w */

typedef uint32_t PairTile[SIDE][SIDE];   /* B: [pair][row of x] */
typedef uint16_t WeightTile[SIDE][STEP]; /* A: [row of w][column] */
typedef float Sums[TILE_ROWS];           /* of one row of w, by rows of x */

/* DEPTH columns of a tile's rows of x. */
typedef struct PairTiles {
    PairTile x[TILE_ROWS / SIDE][STEPS];
} PairTiles;

typedef struct Scratch {
    PairTiles x;
    WeightTile w[PANEL / SIDE][STEPS];
    Sums sums[TILE_COLUMNS];
} Scratch;

_Static_assert(sizeof(Scratch) <= KERNEL_SCRATCH_BYTES, "AMX needs more scratch");
_Static_assert(TILE_ROWS % SIDE == 0 && TILE_COLUMNS % PANEL == 0, "tiles are whole squares");
_Static_assert(STEP == Q4_BLOCK, "A holds a block of each row");

/* ---- x ---- */

/* count columns of up to 16 rows of x from column k on, 0 where there are none. */
INLINE void pack_pairs(const Tile *tile, int row, int k, int count, PairTile to) {
    __m512 pairs[SIDE];
    uint32_t mask = count < STEP ? (1u << count) - 1 : ~0u;
    UNROLL for (int r = 0; r < SIDE; r++) {
        pairs[r] = _mm512_setzero_ps();
        if (row + r < tile->rows) {
            const float *x = tile_x(tile, row + r) + k;
            __m512 low = _mm512_maskz_loadu_ps((__mmask16)mask, x);
            __m512 high = _mm512_maskz_loadu_ps((__mmask16)(mask >> 16), x + 16);
            pairs[r] = (__m512)_mm512_cvtne2ps_pbh(high, low);
        }
    }
    transpose(pairs);
    UNROLL for (int p = 0; p < SIDE; p++) {
        _mm512_store_ps(to[p], pairs[p]);
    }
}

/* DEPTH columns from k on, the last time maybe fewer. */
TARGET static void pack_block(const Tile *tile, int k, void *to) {
    PairTiles *tiles = to;
    int count = min_int(DEPTH, tile->w->columns - k);
    for (int row = 0; row < tile->rows; row += SIDE)
        for (int s = 0; s * STEP < count; s++)
            pack_pairs(tile, row, k + s * STEP, count - s * STEP, tiles->x[row / SIDE][s]);
}

/* ---- weights ---- */

/* Up to DEPTH columns of PANEL rows, in the mapping or in a copy. */
typedef struct WeightPanel {
    const char *a[PANEL / SIDE]; /* of each square's rows the first */
    size_t stride, step;         /* bytes from row to row, and to the next STEP columns */
} WeightPanel;

/*
 * STEP values of a row of weights from column k on, or the `count` that are there, as bf16. Of Q4
 * this is a block, whose missing values meet zeros.
 */
INLINE void widen_weights(const Matrix *w, const char *row, const uint16_t *scales, int k,
                          int count, uint16_t *to) {
    if (w->type == WEIGHT_BF16) {
        uint32_t mask = count < STEP ? (1u << count) - 1 : ~0u;
        _mm512_store_si512(to, _mm512_maskz_loadu_epi16(mask, row + (size_t)k * sizeof *to));
        return;
    }
    const __m128i nibble = _mm_set1_epi8(15), eight = _mm_set1_epi8(8);
    __m128i pairs = _mm_loadu_si128((const __m128i *)(row + q4_row_bytes(k)));
    __m128i halves[] = {_mm_and_si128(pairs, nibble),
                        _mm_and_si128(_mm_srli_epi16(pairs, 4), nibble)};
    __m512 values[2], scale = _mm512_set1_ps(bf16_to_f32(scales[k / Q4_BLOCK]));
    UNROLL for (int i = 0; i < 2; i++) {
        __m512i numbers = _mm512_cvtepi8_epi32(_mm_sub_epi8(halves[i], eight));
        values[i] = _mm512_mul_ps(_mm512_cvtepi32_ps(numbers), scale);
    }
    _mm512_store_si512(to, (__m512i)_mm512_cvtne2ps_pbh(values[1], values[0]));
}

/* Rows n.. of the tile's, `count` columns from k on. Rows beyond the last one are that again. */
TARGET static WeightPanel take_weights(const Tile *tile, int n, int k, int count,
                                       Scratch *scratch) {
    const Matrix *w = tile->w;
    int rows = min_int(PANEL, ceil_div(tile->columns - n, SIDE) * SIDE);
    if (w->type == WEIGHT_BF16 && tile->columns - n >= rows && count % STEP == 0) {
        size_t stride = row_bytes(w), first = (size_t)k * sizeof(uint16_t);
        const char *from = tile_w(tile, n) + first;
        return (WeightPanel){{from, from + SIDE * stride}, stride, STEP * sizeof(uint16_t)};
    }
    for (int r = 0; r < rows; r++) {
        const char *row = tile_w(tile, n + r);
        const uint16_t *scales = w->scales ? tile_scales(tile, n + r) : NULL;
        for (int s = 0; s * STEP < count; s++)
            widen_weights(w, row, scales, k + s * STEP, count - s * STEP,
                          scratch->w[r / SIDE][s][r % SIDE]);
    }
    return (WeightPanel){
        {(char *)scratch->w[0], (char *)scratch->w[1]}, TILE_ROW_BYTES, sizeof(WeightTile)};
}

/* ---- products ---- */

/* One or two squares each way. */
typedef struct Squares {
    const WeightPanel *w;
    const PairTile *x; /* of the first rows; those of the next ones are STEPS on */
    float *c;          /* [rows of w][TILE_ROWS] */
    int steps;
    bool add; /* to c; else the sums begin here */
} Squares;

/*
 * c (+)= w x^T. Registers: C 0..3 = [w][x], A 4 and 5, B 6 and 7. Loads and products take turns,
 * and each load is well before what needs it: a neighbour on the same core leaves few registers to
 * be renamed, and then the two do not overlap by themselves.
 */
INLINE void multiply_squares(const Squares *squares, bool two_w, bool two_x) {
    const size_t stride = squares->w->stride, step = squares->w->step;
    const PairTile *x = squares->x;
    float *c = squares->c;
    const size_t c_stride = sizeof(Sums), b_stride = sizeof(uint32_t[SIDE]);
    const char *a = squares->w->a[0], *a_below = squares->w->a[1];
    float *c_below = c + SIDE * TILE_ROWS;
    if (squares->add) {
        TILE_LOAD(0, c, c_stride);
        if (two_x)
            TILE_LOAD(1, c + SIDE, c_stride);
        if (two_w)
            TILE_LOAD(2, c_below, c_stride);
        if (two_w && two_x)
            TILE_LOAD(3, c_below + SIDE, c_stride);
    } else {
        TILE_ZERO(0);
        TILE_ZERO(1);
        TILE_ZERO(2);
        TILE_ZERO(3);
    }
    TILE_LOAD(4, a, stride);
    TILE_LOAD(6, x[0], b_stride);
    for (int s = 0; s < squares->steps; s++, a += step, a_below += step) {
        bool more = s + 1 < squares->steps;
        if (two_x)
            TILE_LOAD(7, x[STEPS + s], b_stride);
        TILE_MULTIPLY(0, 4, 6);
        if (two_w)
            TILE_LOAD(5, a_below, stride);
        if (two_x)
            TILE_MULTIPLY(1, 4, 7);
        if (more)
            TILE_LOAD(4, a + step, stride);
        if (two_w)
            TILE_MULTIPLY(2, 5, 6);
        if (more)
            TILE_LOAD(6, x[s + 1], b_stride);
        if (two_w && two_x)
            TILE_MULTIPLY(3, 5, 7);
    }
    TILE_STORE(0, c, c_stride);
    if (two_x)
        TILE_STORE(1, c + SIDE, c_stride);
    if (two_w)
        TILE_STORE(2, c_below, c_stride);
    if (two_w && two_x)
        TILE_STORE(3, c_below + SIDE, c_stride);
}

/* All rows of x by a panel, whose first is the tile's row n of weights. */
TARGET static void multiply_panel(const Tile *tile, const PairTiles *tiles, const WeightPanel *w,
                                  int n, int steps, bool add, Scratch *scratch) {
    bool two_w = n + SIDE < tile->columns;
    for (int row = 0; row < tile->rows; row += 2 * SIDE) {
        const PairTile *x = tiles->x[row / SIDE];
        float *c = scratch->sums[n] + row;
        bool two_x = row + SIDE < tile->rows;
        Squares squares = {w, x, c, steps, add};
        if (two_w && two_x)
            multiply_squares(&squares, true, true);
        else if (two_w)
            multiply_squares(&squares, true, false);
        else if (two_x)
            multiply_squares(&squares, false, true);
        else
            multiply_squares(&squares, false, false);
    }
}

/* Sums of all rows of x, by weights, to c. */
TARGET static void put_tile(const Tile *tile, Sums *sums, float *c) {
    for (int n = 0; n < tile->columns; n += SIDE)
        for (int row = 0; row < tile->rows; row += SIDE)
            put_square(sums[n] + row, TILE_ROWS, tile->rows - row, c + row * TILE_COLUMNS + n);
}

TARGET void multiply_many_amx(const Tile *tile, float *c, void *memory) {
    Scratch *scratch = memory;
    int columns = tile->w->columns;
    TILE_CONFIGURE(all_whole);
    for (int k = 0; k < columns; k += DEPTH) {
        int count = min_int(DEPTH, columns - k);
        const PairTiles *x = &scratch->x;
        if (tile->packed)
            x = (const PairTiles *)tile->packed + k / DEPTH;
        else if (!tile->copied || columns > DEPTH)
            pack_block(tile, k, &scratch->x);
        for (int n = 0; n < tile->columns; n += PANEL) {
            WeightPanel w = take_weights(tile, n, k, count, scratch);
            multiply_panel(tile, x, &w, n, ceil_div(count, STEP), k > 0, scratch);
        }
    }
    TILE_RELEASE(); /* the system need not save what nobody reads */
    if (c)
        put_tile(tile, scratch->sums, c);
}

/* ---- a product that follows ---- */

/* Neighbours along k of 16 rows, as words. */
INLINE __m512i join_pairs(const float *even, const float *odd) {
    const __m512i halves =
        _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                         21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0); /* one of each in turn */
    __m512bh both = _mm512_cvtne2ps_pbh(_mm512_load_ps(odd), _mm512_load_ps(even));
    return _mm512_permutexvar_epi16(halves, (__m512i)both);
}

/* The sums stand as B does: rows of x side by side, two columns in a word. */
TARGET static void pass_sums(const Tile *tile, void *memory, void *to) {
    Scratch *scratch = memory;
    PairTiles *blocks = to;
    for (int n = 0; n < tile->columns; n += 2) {
        Sums *sums = &scratch->sums[n];
        int k = tile->column + n;
        matmul_finish_lanes(tile, n, 2, sums[0], TILE_ROWS, tile->rows);
        for (int row = 0; row < tile->rows; row += SIDE) {
            PairTile *x = &blocks[k / DEPTH].x[row / SIDE][k % DEPTH / STEP];
            _mm512_store_si512((*x)[k % STEP / 2], join_pairs(sums[0] + row, sums[1] + row));
        }
    }
}

const RowsForm rows_amx = {pack_block, DEPTH, sizeof(PairTiles), pass_sums};

/* ---- products of words, see words.h ---- */

void words_begin_amx(void) {
    TILE_CONFIGURE(all_whole);
}

void words_end_amx(void) {
    TILE_RELEASE();
}

/* One square of a at a time, by up to three of b. Registers: C 0..2, A 3, B 4..6. */
void multiply_words_amx(const WordProduct *p) {
    const size_t word = sizeof(uint32_t), row = (size_t)p->span * word;
    const size_t a_row = p->a_stride * word;
    for (int r = 0; r < p->rows; r += SIDE) {
        const char *a = (const char *)p->a + (size_t)r * a_row, *b = p->b;
        float *c = p->c + r * p->span;
        TILE_ZERO(0);
        TILE_ZERO(1);
        TILE_ZERO(2);
        if (p->add) {
            TILE_LOAD(0, c, row);
            if (p->vectors > 1)
                TILE_LOAD(1, c + SIDE, row);
            if (p->vectors > 2)
                TILE_LOAD(2, c + 2 * SIDE, row);
        }
        for (int k = 0; k < p->words; k += SIDE, a += SIDE * word, b += SIDE * row) {
            TILE_LOAD(3, a, a_row);
            TILE_LOAD(4, b, row);
            TILE_MULTIPLY(0, 3, 4);
            if (p->vectors > 1) {
                TILE_LOAD(5, b + SIDE * word, row);
                TILE_MULTIPLY(1, 3, 5);
            }
            if (p->vectors > 2) {
                TILE_LOAD(6, b + 2 * SIDE * word, row);
                TILE_MULTIPLY(2, 3, 6);
            }
        }
        TILE_STORE(0, c, row);
        if (p->vectors > 1)
            TILE_STORE(1, c + SIDE, row);
        if (p->vectors > 2)
            TILE_STORE(2, c + 2 * SIDE, row);
    }
}
#endif
