/*
 * words_simd.h - products of words, written once over a vector. Included after
 * matmul_simd.h, whose vectors it uses; in addition
 *
 *   Operand broadcast_word(const Element *word)
 *   Sum     load_lanes(const float *x), void store_lanes(float *to, Sum values)
 *   void    transpose(Sum *rows)       rows[LANES], a square of words
 *
 * c's columns run along the lanes: a word of a is spread over all of them and
 * multiplied by a row of b, so nothing is added across lanes, and sums are
 * complete when they leave the registers.
 */
#include "kernels/words.h"

#define LANES ((int)(sizeof(Sum) / sizeof(float)))
#define PAIR ((int)(sizeof(float) / sizeof(Element))) /* elements of a word */
#define SPAN (ROWS * LANES)
#define FETCH_WORDS (CACHE_LINE / (int)sizeof(float))

_Static_assert(WORD_SIDE % LANES == 0 && WORD_SIDE % COLUMNS == 0, "operands are filled up");

INLINE int filled_up(int count) {
    return ceil_div(count, WORD_SIDE) * WORD_SIDE;
}

/* Words of a row of `count` elements, filled up. */
INLINE int row_words(int count) {
    return filled_up(ceil_div(count, PAIR));
}

/* Some rows of c, from `row` on: rows * vectors sums fill the registers. */
INLINE void multiply_group(const WordProduct *p, int row, int rows, int vectors, bool add) {
    Sum sums[ROWS * COLUMNS][ROWS];
    const Element *b = p->b;
    const size_t stride = p->a_stride * (size_t)PAIR;
    const Element *a = (const Element *)p->a + (size_t)row * stride;
    const char *next = p->next ? p->next + (size_t)row * p->next_stride : NULL;
    float *c = p->c + row * SPAN;
    int words = p->words;
    UNROLL for (int r = 0; r < rows; r++) {
        UNROLL for (int v = 0; v < vectors; v++) {
            sums[r][v] = add ? load_lanes(c + r * SPAN + v * LANES) : (Sum){0};
        }
    }
    for (int first = 0; first < words; first += FETCH_WORDS) {
        if (next)
            UNROLL for (int r = 0; r < rows; r++) {
                __builtin_prefetch(next + (size_t)r * p->next_stride + first * p->next_word);
            }
        for (int k = first; k < min_int(words, first + FETCH_WORDS); k++) {
            Operand bs[ROWS];
            UNROLL for (int v = 0; v < vectors; v++) {
                bs[v] = load_packed(b + (k * SPAN + v * LANES) * PAIR);
            }
            UNROLL for (int r = 0; r < rows; r++) {
                Operand as = broadcast_word(a + (size_t)r * stride + k * PAIR);
                KEEP(as);
                UNROLL for (int v = 0; v < vectors; v++) {
                    sums[r][v] = multiply_add(sums[r][v], as, bs[v]);
                }
            }
        }
    }
    UNROLL for (int r = 0; r < rows; r++) {
        UNROLL for (int v = 0; v < vectors; v++) {
            store_lanes(c + r * SPAN + v * LANES, sums[r][v]);
        }
    }
}

/* As many rows as fill the registers, as long as there are, then COLUMNS at a time. */
INLINE void multiply_groups(const WordProduct *p, int vectors, bool add) {
    const int most = COLUMNS * (ROWS / vectors);
    int row = 0;
    for (; most > COLUMNS && row + most <= p->rows; row += most)
        multiply_group(p, row, most, vectors, add);
    for (; row < p->rows; row += COLUMNS)
        multiply_group(p, row, COLUMNS, vectors, add);
}

INLINE void multiply_vectors(const WordProduct *p, int vectors) {
    if (p->add)
        multiply_groups(p, vectors, true);
    else
        multiply_groups(p, vectors, false);
}

TARGET static void multiply_words(const WordProduct *p) {
    if (p->vectors == ROWS)
        multiply_vectors(p, ROWS);
    else if (p->vectors == 2)
        multiply_vectors(p, 2);
    else
        multiply_vectors(p, 1);
}

/* ---- from rows of f32 to words ---- */

/* The words of x[count] from element k on, 0 beyond. */
INLINE Operand row_part(const float *x, int k, int count) {
    return count - k >= STEP ? load_x(x + k) : load_x_part(x + k, max_int(count - k, 0));
}

/* to[row_words(count)] */
INLINE void pack_row(const float *x, int count, Element *to) {
    for (int k = 0; k < row_words(count) * PAIR; k += STEP)
        store_packed(to + k, row_part(x, k, count));
}

/* x[LANES], rows of `count` elements, to a column of lanes of to[row_words(count)][SPAN]. */
INLINE void pack_lanes(const float *const *x, int count, Element *to) {
    for (int word = 0; word < row_words(count); word += LANES) {
        Sum square[LANES];
        if ((word + LANES) * PAIR <= count)
            UNROLL for (int i = 0; i < LANES; i++) {
                square[i] = (Sum)load_x(x[i] + word * PAIR);
            }
        else
            UNROLL for (int i = 0; i < LANES; i++) {
                square[i] = (Sum)row_part(x[i], word * PAIR, count);
            }
        transpose(square);
        UNROLL for (int i = 0; i < LANES; i++) {
            store_packed(to + (word + i) * SPAN * PAIR, (Operand)square[i]);
        }
    }
}
