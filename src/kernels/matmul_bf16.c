/*
 * x is rounded to bf16, to nearest even, and two products at a time are added in
 * f32. The instruction takes and gives denormals as 0.
 */
#if defined(__x86_64__)
#include "kernels/matmul_kernel.h"

#include <immintrin.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")))
#define INLINE static inline __attribute__((always_inline)) TARGET
#define NAME(suffix) suffix##_bf16
#define KEEP(vector) __asm__ volatile("" : "+v"(vector))
#define COLUMNS 8
#define STEP 32

typedef uint16_t Element;
typedef __m512i Operand;
typedef __m512 Sum;

INLINE Operand load_x(const float *x) {
    return (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(x + 16), _mm512_loadu_ps(x));
}

INLINE Operand load_x_part(const float *x, int count) {
    uint32_t mask = (1u << count) - 1;
    __m512 low = _mm512_maskz_loadu_ps((__mmask16)mask, x);
    __m512 high = _mm512_maskz_loadu_ps((__mmask16)(mask >> 16), x + 16);
    return (__m512i)_mm512_cvtne2ps_pbh(high, low);
}

INLINE Operand load_w(const void *w, WeightType type) {
    (void)type; /* the front sends bf16 alone */
    return _mm512_loadu_si512(w);
}

INLINE Operand load_w_part(const void *w, WeightType type, int count) {
    (void)type;
    return _mm512_maskz_loadu_epi16((1u << count) - 1, w);
}

INLINE Operand load_packed(const Element *from) {
    return _mm512_load_si512(from);
}

INLINE void store_packed(Element *to, Operand values) {
    _mm512_store_si512(to, values);
}

INLINE Operand broadcast_word(const Element *word) {
    int pair;
    memcpy(&pair, word, sizeof pair);
    return _mm512_set1_epi32(pair);
}

/* Rounded, they are first one after the other. */
INLINE Operand join(const Sum *parts) {
    static const uint16_t order[STEP] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                         21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                         11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    return _mm512_permutexvar_epi16(_mm512_loadu_si512(order),
                                    (__m512i)_mm512_cvtne2ps_pbh(parts[1], parts[0]));
}

INLINE Sum multiply_add(Sum sum, Operand x, Operand w) {
    return _mm512_dpbf16_ps(sum, (__m512bh)x, (__m512bh)w);
}

#include "kernels/matmul_avx512.h"
#include "kernels/matmul_simd.h"
#include "kernels/words_simd.h"
#include "kernels/field_simd.h"

#define WORD_DEPTH 768               /* elements of a row of x or w in work at once, at most */
#define WEIGHT_ROWS 64               /* that meet all rows of x before the next ones are taken */
#define COPIED_ROWS (ROWS * COLUMNS) /* the same, where they must be copied */
#define WORD_TILES (TILE_ROWS / SPAN)

typedef struct WordScratch {
    Element x[WORD_TILES][WORD_DEPTH * SPAN]; /* [words][SPAN] */
    Element w[WEIGHT_ROWS][WORD_DEPTH];
    float sums[WORD_TILES][TILE_COLUMNS][SPAN]; /* w x^T */
} WordScratch;

_Static_assert(sizeof(WordScratch) <= KERNEL_SCRATCH_BYTES, "bf16 needs more scratch");
_Static_assert(TILE_ROWS % SPAN == 0 && TILE_COLUMNS % LANES == 0, "whole squares");

/* Elements k..k+count-1 of the tile's rows, along the lanes; the last row again beyond it. */
INLINE void pack_x_lanes(const Tile *tile, int k, int count, WordScratch *scratch) {
    for (int row = 0; row < tile->rows; row += LANES) {
        const float *rows[LANES];
        for (int i = 0; i < LANES; i++)
            rows[i] = tile_x(tile, min_int(row + i, tile->rows - 1)) + k;
        pack_lanes(rows, count, scratch->x[row / SPAN] + row % SPAN * PAIR);
    }
}

/* All rows of x by `product`'s rows of weights, whose first is column n of the tile. */
INLINE void multiply_weights(const Tile *tile, WordProduct product, int n, WordScratch *scratch) {
    for (int row = 0; row < tile->rows; row += SPAN) {
        product.b = scratch->x[row / SPAN];
        product.c = scratch->sums[row / SPAN][n];
        product.vectors = ceil_div(min_int(SPAN, tile->rows - row), LANES);
        multiply_words(&product);
        product.next = NULL; /* fetched by now */
    }
}

/* Fetch what copying rows n..n+rows-1 of weights will take first. */
INLINE void fetch_weights(const Tile *tile, int n, int rows, int k) {
    for (int i = 0; i < rows; i++)
        __builtin_prefetch(tile_w(tile, n + i) + weight_bytes(WEIGHT_BF16, k));
}

/*
 * Weights, which are bf16, are taken as they lie, in groups of COLUMNS rows; they are copied
 * where a group is not whole or a row is no whole words.
 */
TARGET void multiply_many_bf16(const Tile *tile, float *c, void *memory) {
    WordScratch *scratch = memory;
    const Matrix *w = tile->w;
    bool lying = w->columns % PAIR == 0;
    int group = lying ? WEIGHT_ROWS : COPIED_ROWS;
    size_t stride = (size_t)(w->columns / PAIR);
    for (int k = 0; k < w->columns; k += WORD_DEPTH) {
        int count = min_int(WORD_DEPTH, w->columns - k);
        if (!tile->copied || w->columns > WORD_DEPTH)
            pack_x_lanes(tile, k, count, scratch);
        for (int n = 0; n < tile->columns; n += group) {
            int columns = min_int(group, tile->columns - n);
            int as_they_lie = lying ? columns / COLUMNS * COLUMNS : 0;
            bool last = n + group >= tile->columns;
            int next_n = last ? 0 : n + group, next_k = last ? k + WORD_DEPTH : k;
            WordProduct product = {.span = SPAN, .words = ceil_div(count, PAIR), .add = k > 0};
            product.next = tile_w(tile, next_n) + weight_bytes(WEIGHT_BF16, next_k);
            product.next_stride = row_bytes(w);
            product.next_word = (int)weight_bytes(WEIGHT_BF16, PAIR);
            if (as_they_lie > 0) {
                product.a = tile_w(tile, n) + weight_bytes(WEIGHT_BF16, k);
                product.a_stride = stride;
                product.rows = as_they_lie;
                multiply_weights(tile, product, n, scratch);
            }
            if (as_they_lie < columns) {
                int rows = ceil_div(columns - as_they_lie, COLUMNS) * COLUMNS;
                fetch_weights(tile, next_n, rows, next_k);
                for (int i = 0; i < rows; i++)
                    pack_w_of(tile_w(tile, n + as_they_lie + i) + weight_bytes(WEIGHT_BF16, k),
                              WEIGHT_BF16, count, scratch->w[i]);
                product.a = scratch->w[0];
                product.a_stride = WORD_DEPTH / PAIR;
                product.rows = columns - as_they_lie;
                multiply_weights(tile, product, n + as_they_lie, scratch);
            }
        }
    }
    for (int row = 0; row < tile->rows; row += LANES)
        for (int n = 0; n < tile->columns; n += LANES)
            put_square(scratch->sums[row / SPAN][n] + row % SPAN, SPAN, tile->rows - row,
                       c + row * TILE_COLUMNS + n);
}

TARGET void field_amx(const Field *field, int first, int count, const FieldSpace *space) {
    words_begin_amx();
    attend_tiles(field, first, count, space, multiply_words_amx);
    words_end_amx();
}
#endif
