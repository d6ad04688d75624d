/*
 * Several rows of activations by weights of Q8, by AMX: with the bits of matmul_quant_vnni.c, but
 * the work for a weight does not grow with the rows. One row, and Q4, are left to VNNI.
 *
 * A is a block of 16 rows of weights as they lie, B the same block of the rows of x, in one
 * register the high bytes and in another the low ones: word by word, as all rows' words stand side
 * by side. Weights are copied only where 16 x 64 of them would reach over an edge.
 */
#if defined(__x86_64__)
#include "kernels/amx.h"
#include "kernels/quant_bytes.h"

#define LEAST_ROWS 3
#define WORD_BYTES 4
#define WORDS (Q8_BLOCK / WORD_BYTES)

static bool takes(const Matmul *job) {
    return job->rows >= LEAST_ROWS && job->w.type == WEIGHT_Q8;
}

/* ---- activations ---- */

/* Rows that stand side by side, the last ones maybe zeros. */
static int side_by_side(const Matmul *job) {
    return ceil_div(job->rows, 4) * 4;
}

/* Words of x, one of rows[16] each, to to[WORDS][count][WORD_BYTES]. */
INLINE void put_words(const int8_t *const *rows, int count, int8_t *to) {
    __m512 square[SIDE];
    __mmask16 there = (__mmask16)((1u << count) - 1);
    UNROLL for (int i = 0; i < SIDE; i++) {
        square[i] = i < count ? _mm512_loadu_ps(rows[i]) : _mm512_setzero_ps();
    }
    transpose(square);
    UNROLL for (int word = 0; word < WORDS; word++) {
        _mm512_mask_storeu_ps(to + word * count * WORD_BYTES, there, square[word]);
    }
}

/* Block b of all rows. x: [blocks][high, low][WORDS][rows][WORD_BYTES]; scales: [blocks][rows] */
TARGET static void quantize_columns(const Matmul *job, int b, const QuantRows *to) {
    int rows = side_by_side(job), bytes = rows * Q8_BLOCK;
    int8_t *x = (int8_t *)to->x + (size_t)b * 2 * (size_t)bytes;
    float *scales = to->scales + b * rows;
    Numbers numbers[SIDE];
    const int8_t *high[SIDE], *low[SIDE];
    for (int r = 0; r < rows; r++) {
        int last = min_int(r, job->rows - 1);
        scales[r] = quantize_numbers(job_x(job, last) + b * Q8_BLOCK, job->w.columns - b * Q8_BLOCK,
                                     &numbers[r]);
        high[r] = numbers[r].high;
        low[r] = numbers[r].low;
    }
    put_words(high, rows, x);
    put_words(low, rows, x + bytes);
}

void quantize_rows_amx(const Matmul *job, const QuantRows *rows) {
    if (takes(job))
        for (int b = 0; b < q8_blocks(job->w.columns); b++)
            quantize_columns(job, b, rows);
    else
        quantize_rows_vnni(job, rows);
}

/* ---- products ---- */

typedef int32_t Dots[2][SIDE][SIDE]; /* [high, low][row of w][row of x] */

typedef struct Scratch {
    Dots dots[2];
    uint8_t copy[SIDE][Q8_BLOCK];
    __m512 scales[QUANT_COLUMNS / Q8_BLOCK + SIDE]; /* [blocks] of 16 rows of w */
    float sums[TILE_COLUMNS][SIDE];                 /* [row of w][row of x] */
} Scratch;

_Static_assert(sizeof(Scratch) <= KERNEL_SCRATCH_BYTES, "AMX needs more scratch");
_Static_assert(SIDE == COLUMNS && TILE_COLUMNS % SIDE == 0, "whole squares");

/* Sixteen rows of weights, and all of x. */
typedef struct Rows {
    const QuantRows *x;
    Lines lines;
    size_t stride; /* from row to row of w; 0: they are not as far apart as each other */
    int columns, side_by_side;
} Rows;

/* A and B of block b to registers 4, and 6 and 7. */
INLINE void load_block(const Rows *rows, int b, Scratch *scratch) {
    int there = min_int(Q8_BLOCK, rows->columns - b * Q8_BLOCK), at = b * Q8_BLOCK;
    size_t row = (size_t)rows->side_by_side * WORD_BYTES, half = WORDS * row;
    const char *x = (const char *)rows->x->x + (size_t)b * 2 * half;
    const uint8_t *w = rows->lines.w[0] + at;
    size_t stride = rows->stride;
    UNROLL for (int i = 0; i < SIDE; i++) {
        __builtin_prefetch(rows->lines.w[i] + at + rows->lines.ahead);
    }
    if (stride == 0 || there < Q8_BLOCK) {
        memset(scratch->copy, 0, sizeof scratch->copy);
        for (int i = 0; i < SIDE; i++)
            memcpy(scratch->copy[i], rows->lines.w[i] + at, (size_t)there);
        w = scratch->copy[0];
        stride = Q8_BLOCK;
    }
    TILE_LOAD(4, w, stride);
    TILE_LOAD(6, x, row);
    TILE_LOAD(7, x + half, row);
}

/*
 * The products of block b, which is loaded, to be read once those of the next are begun. That is
 * loaded before these leave, see matmul_bytes_amx.c.
 */
INLINE void begin_block(const Rows *rows, int b, int blocks, Scratch *scratch) {
    TILE_ZERO(0);
    TILE_MULTIPLY_BYTES(0, 4, 6);
    TILE_ZERO(1);
    TILE_MULTIPLY_BYTES(1, 4, 7);
    if (b + 1 < blocks)
        load_block(rows, b + 1, scratch);
    TILE_STORE(0, scratch->dots[b % 2][0], SIDE * sizeof(int32_t));
    TILE_STORE(1, scratch->dots[b % 2][1], SIDE * sizeof(int32_t));
}

INLINE void end_block(const Rows *rows, int b, const Scratch *scratch, __m512 *sums) {
    const Dots *dots = &scratch->dots[b % 2];
    const float *w_scales = (const float *)&scratch->scales[b];
    __mmask16 there = (__mmask16)((1u << rows->side_by_side) - 1);
    __m512 x_scales = _mm512_maskz_loadu_ps(there, rows->x->scales + b * rows->side_by_side);
    UNROLL for (int i = 0; i < SIDE; i++) {
        __m512i high = _mm512_slli_epi32(_mm512_load_si512((*dots)[0][i]), 8);
        __m512i both = _mm512_add_epi32(high, _mm512_load_si512((*dots)[1][i]));
        __m512 scale = _mm512_mul_ps(x_scales, _mm512_set1_ps(w_scales[i]));
        sums[i] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(both), scale, sums[i]);
    }
}

/* to[i * apart], of each row of weights. */
TARGET static void multiply_columns(const Rows *rows, int apart, float (*to)[SIDE],
                                    Scratch *scratch) {
    int blocks = q8_blocks(rows->columns);
    __m512 sums[SIDE];
    UNROLL for (int i = 0; i < SIDE; i++) {
        sums[i] = _mm512_setzero_ps();
    }
    load_block(rows, 0, scratch);
    begin_block(rows, 0, blocks, scratch);
    for (int b = 1; b < blocks; b++) {
        begin_block(rows, b, blocks, scratch);
        end_block(rows, b - 1, scratch, sums);
    }
    end_block(rows, blocks - 1, scratch, sums);
    UNROLL for (int i = 0; i < SIDE; i++) {
        _mm512_store_ps(to[i * apart], sums[i]);
    }
}

TARGET void multiply_quant_amx(const Tile *tile, float *c, void *memory) {
    Scratch *scratch = memory;
    if (!takes(tile->job)) {
        multiply_quant_vnni(tile, c, memory);
        return;
    }
    int blocks = q8_blocks(tile->w->columns);
    Order order = order_of(tile);
    Rows rows = {
        .x = tile->quantized, .columns = tile->w->columns, .side_by_side = side_by_side(tile->job)};
    if (order.steps * SIDE == tile->columns)
        rows.stride = (size_t)order.apart * row_bytes(tile->w);
    TILE_CONFIGURE(all_whole);
    for (int n = 0; n < order.steps; n++) {
        find_rows(tile, &order, n, &rows.lines);
        transpose_scales(rows.lines.scales, blocks, scratch->scales);
        multiply_columns(&rows, order.apart, scratch->sums + n * order.step, scratch);
    }
    TILE_RELEASE(); /* the system need not save what nobody reads */
    for (int n = 0; n < tile->columns; n += SIDE)
        put_square(scratch->sums[n], SIDE, tile->rows, c + n);
}
#endif
