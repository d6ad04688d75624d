/*
 * AMX: matrix registers of 16 rows of 64 bytes. One instruction adds the product
 * of A, 16 rows of 32 bf16, and B, 16 pairs of 16 columns, to C, 16 x 16 f32.
 *
 * Weights as they lie are A: 16 rows of w, 32 columns. B has the same columns of
 * 16 rows of x, rounded to bf16: pair p of row r stands in row p, column r. So C
 * is a part of w x^T, which is kept so in scratch until all columns of w are
 * summed, and then transposed. Four C share two A and two B.
 *
 * Weights are copied only where 16 x 32 of them would reach over an edge: beyond
 * the last row of the tile, or the last column of w.
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

typedef uint32_t PairTile[SIDE][SIDE];   /* B: [pair][row of x] */
typedef uint16_t WeightTile[SIDE][STEP]; /* A: [row of w][column] */
typedef float Sums[TILE_ROWS];           /* of one row of w, by rows of x */

typedef struct Scratch {
    PairTile x[TILE_ROWS / SIDE][DEPTH / STEP];
    WeightTile edge[2];
    Sums sums[TILE_COLUMNS];
} Scratch;

_Static_assert(sizeof(Scratch) <= KERNEL_SCRATCH_BYTES, "AMX needs more scratch");
_Static_assert(TILE_ROWS % SIDE == 0 && TILE_COLUMNS % SIDE == 0, "tiles are whole squares");

/* count columns of up to 16 rows of x from column k on, 0 where there are none. */
INLINE void pack_pairs(const Tile *tile, int row, int k, int count, PairTile to) {
    __m512 pairs[SIDE];
    uint32_t mask = count < STEP ? (1u << count) - 1 : ~0u;
    for (int r = 0; r < SIDE; r++) {
        pairs[r] = _mm512_setzero_ps();
        if (row + r < tile->rows) {
            const float *x = tile_x(tile, row + r) + k;
            __m512 low = _mm512_maskz_loadu_ps((__mmask16)mask, x);
            __m512 high = _mm512_maskz_loadu_ps((__mmask16)(mask >> 16), x + 16);
            pairs[r] = (__m512)_mm512_cvtne2ps_pbh(high, low);
        }
    }
    transpose(pairs);
    for (int p = 0; p < SIDE; p++)
        _mm512_store_ps(to[p], pairs[p]);
}

/* 16 weight rows and where they are: in the mapping, or in a copy that is whole. */
typedef struct Weights {
    const void *data;
    size_t stride; /* bytes */
} Weights;

static Weights whole_weights(const Tile *tile, int n, int k, WeightTile copy) {
    int rows = min_int(SIDE, tile->columns - n), columns = min_int(STEP, tile->w->columns - k);
    size_t stride = (size_t)tile->w->columns * sizeof(uint16_t);
    const char *from = tile_w(tile, n) + (size_t)k * sizeof(uint16_t);
    if (rows == SIDE && columns == STEP)
        return (Weights){from, stride};
    copy_part(copy, from, stride, rows, (size_t)columns * sizeof(uint16_t));
    return (Weights){copy, TILE_ROW_BYTES};
}

/*
 * sums[n..][row..] (+)= w x^T over one block of k, for one or two squares each
 * way. Registers: C 0..3 = [w][x], A 4 and 5, B 6 and 7.
 */
INLINE void multiply_squares(const Tile *tile, Scratch *scratch, int n, int row, int k, bool two_w,
                             bool two_x) {
    int steps = ceil_div(min_int(DEPTH, tile->w->columns - k), STEP);
    PairTile *x = scratch->x[row / SIDE];
    float *c = scratch->sums[n] + row, *c_below = c + SIDE * TILE_ROWS;
    const size_t c_stride = sizeof(Sums), b_stride = sizeof(uint32_t[SIDE]);
    if (k == 0) {
        TILE_ZERO(0);
        TILE_ZERO(1);
        TILE_ZERO(2);
        TILE_ZERO(3);
    } else {
        TILE_LOAD(0, c, c_stride);
        if (two_x)
            TILE_LOAD(1, c + SIDE, c_stride);
        if (two_w)
            TILE_LOAD(2, c_below, c_stride);
        if (two_w && two_x)
            TILE_LOAD(3, c_below + SIDE, c_stride);
    }
    for (int s = 0; s < steps; s++) {
        Weights w = whole_weights(tile, n, k + s * STEP, scratch->edge[0]);
        TILE_LOAD(4, w.data, w.stride);
        TILE_LOAD(6, x[s], b_stride);
        TILE_MULTIPLY(0, 4, 6);
        if (two_x) {
            TILE_LOAD(7, x[DEPTH / STEP + s], b_stride);
            TILE_MULTIPLY(1, 4, 7);
        }
        if (two_w) {
            w = whole_weights(tile, n + SIDE, k + s * STEP, scratch->edge[1]);
            TILE_LOAD(5, w.data, w.stride);
            TILE_MULTIPLY(2, 5, 6);
        }
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

TARGET static void multiply_block(const Tile *tile, Scratch *scratch, int k) {
    for (int n = 0; n < tile->columns; n += 2 * SIDE)
        for (int row = 0; row < tile->rows; row += 2 * SIDE) {
            bool two_w = n + SIDE < tile->columns, two_x = row + SIDE < tile->rows;
            if (two_w && two_x)
                multiply_squares(tile, scratch, n, row, k, true, true);
            else if (two_w)
                multiply_squares(tile, scratch, n, row, k, true, false);
            else if (two_x)
                multiply_squares(tile, scratch, n, row, k, false, true);
            else
                multiply_squares(tile, scratch, n, row, k, false, false);
        }
}

TARGET void multiply_many_amx(const Tile *tile, float *c, void *memory) {
    Scratch *scratch = memory;
    TILE_CONFIGURE(all_whole);
    for (int k = 0; k < tile->w->columns; k += DEPTH) {
        int count = min_int(DEPTH, tile->w->columns - k);
        bool copied = tile->copied && tile->w->columns <= DEPTH;
        for (int row = 0; !copied && row < tile->rows; row += SIDE)
            for (int s = 0; s * STEP < count; s++)
                pack_pairs(tile, row, k + s * STEP, count - s * STEP, scratch->x[row / SIDE][s]);
        multiply_block(tile, scratch, k);
    }
    TILE_RELEASE(); /* the system need not save what nobody reads */

    for (int n = 0; n < tile->columns; n += SIDE)
        for (int row = 0; row < tile->rows; row += SIDE) {
            __m512 square[SIDE];
            for (int i = 0; i < SIDE; i++)
                square[i] = _mm512_loadu_ps(scratch->sums[n + i] + row);
            transpose(square);
            for (int r = 0; r < min_int(SIDE, tile->rows - row); r++)
                _mm512_storeu_ps(c + (row + r) * TILE_COLUMNS + n, square[r]);
        }
}

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
