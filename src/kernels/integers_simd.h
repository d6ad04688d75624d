/*
 * integers_simd.h - products of 16-bit or 8-bit integers, written once over a vector.
 *
 * The fastest multiplication of a processor with AVX2 or VNNI, but without pairs of bf16, is
 * that of two vectors of 16-bit integers, with neighbours added: it takes twice as many
 * numbers as one of f32. With VNNI that of 8-bit integers takes twice as many again.
 *
 * Both x and w are integers with a scale for each block along k: of 64, or 32 for Q4. A
 * block's products are added as integers, exactly, and the product of both scales turns
 * their sum into f32; blocks are added in order. So a result does not depend on which
 * kernel of these numbers made it, nor on the vector. For 64 products to fit into 32 bits, x
 * has 16 bits where weights have 8 or 4, else x has 13 bits and w 14, sign included, which is
 * finer than the bf16 that other processors take. Numbers of 8 bits are for weights that have
 * no more: rounding x then costs about what rounding the weights did.
 *
 * As in words_simd.h rows of x are transposed to stand side by side in the lanes. A word
 * is two or four neighbours along k, and a word of w is spread over all lanes.
 *
 * The multiplication of bytes is one of unsigned numbers by signed ones. So weights are
 * raised until none is negative, and each block's sum begins at what that will add, negated:
 * a multiple of the sum of its x.
 *
 * Each instruction set's file defines the vector and includes this. Beside what
 * integers_lanes_simd.h asks for:
 *
 *   WEIGHT_ROWS      sums that, with what they need, fill the registers; a multiple of each
 *                    number of vectors. As many rows of w are packed at a time
 *
 *   Sums     add_product(Sums sum, Sums a, Sums b)
 *   Integers add_words(Integers sums, Integers x, Integers w)   the products of each word;
 *            in this order and in place: left to itself, the compiler reorders until registers
 *            do not suffice
 *   Integers spread(int word)                           over all lanes
 *   Sums     to_floats(Integers sums)
 *   Integers negate(Integers sums)                      for RAISED alone
 *   Sums     widen_bf16(const uint16_t *w)              w[LANES]; not for BYTES
 *   void     take_bytes(const uint8_t *q, Integers *to)       integers of Q8: q[BLOCK]
 *   void     take_nibbles(const uint8_t *q, Integers *to)     of two blocks of Q4: q[BLOCK / 2]
 *            as Weight, which is raised if RAISED, by RAISED_Q8 and RAISED_Q4
 */
#include "kernels/integers_lanes_simd.h"
#include "kernels/weights_ahead.h"

#if BYTES
typedef uint8_t Weight;
#else
#define W_MOST 8191 /* see X_MOST */
typedef int16_t Weight;
#endif

/* Rows of weights, as integers. */
typedef struct PackedWeights {
    Weight w[WEIGHT_ROWS][DEPTH];
    float scales[WEIGHT_ROWS][2 * BLOCKS];
} PackedWeights;

/* ---- weights to integers ---- */

/* BLOCK quantized weights, of which `count` are there; what is made of the others meets zeros. */
INLINE void pack_quantized(const uint8_t *w, int count, WeightType type, Weight *to) {
    uint8_t part[BLOCK];
    w = fill_up(w, stored_bytes(type, count), part, weight_bytes(type, BLOCK));
    if (type == WEIGHT_Q8)
        take_bytes(w, (Integers *)to);
    else
        take_nibbles(w, (Integers *)to);
}

#if !BYTES
/* The same of bf16; returns the scale. */
INLINE float pack_bf16(const uint16_t *w, int count, int16_t *to) {
    uint16_t part[BLOCK];
    Sums block[BLOCK / LANES];
    w = fill_up(w, (size_t)count * sizeof *w, part, sizeof part);
    UNROLL for (int i = 0; i < BLOCK / LANES; i++) {
        block[i] = widen_bf16(w + i * LANES);
    }
    return quantize_block(block, W_MOST, to);
}
#endif

/* Columns k..k+count-1 of the tile's weight row n, filled up to whole blocks of x. */
INLINE void pack_weights(const Tile *tile, int n, int k, int count, Weight *to, float *scales) {
    WeightType type = tile->w->type;
    const char *w = tile_w(tile, n) + weight_bytes(type, k);
#if !BYTES
    if (type == WEIGHT_BF16) {
        for (int first = 0; first < count; first += BLOCK)
            scales[first / BLOCK] =
                pack_bf16((const uint16_t *)w + first, count - first, to + first);
        return;
    }
#endif
    int block = type == WEIGHT_Q8 ? Q8_BLOCK : Q4_BLOCK;
    const uint16_t *from = tile_scales(tile, n) + k / block;
    for (int first = 0; first < count; first += BLOCK)
        pack_quantized((const uint8_t *)w + weight_bytes(type, first), count - first, type,
                       to + first);
    scales[ceil_div(count, BLOCK) * BLOCK / block - 1] = 0; /* if the last one is not there */
    for (int b = 0; b < ceil_div(count, block); b++)
        scales[b] = bf16_to_f32(from[b]);
}

/* ---- products ---- */

/* Rows of weights that a span of so many vectors meets at once. */
#define GROUP(vectors) (WEIGHT_ROWS / (vectors))

/* One span of x by a group of rows of weights. */
typedef struct Product {
    LaneBlock *x;                  /* [blocks] */
    float (*x_scales)[SPAN];       /* [blocks] */
    Weight (*w)[DEPTH];            /* [group] */
    float (*w_scales)[2 * BLOCKS]; /* [group] */
    float (*sums)[SPAN];           /* [group] */
    int blocks;
    bool add; /* to the sums; else they begin here */
} Product;

INLINE void begin_sums(const Product *p, int vectors) {
    const int group = GROUP(vectors);
    UNROLL for (int n = 0; n < group; n++) {
        UNROLL for (int v = 0; v < vectors; v++) {
            store_lanes(p->sums[n] + v * LANES, (Sums){0});
        }
    }
}

INLINE Integers spread_word(const Weight *from) {
    int word;
    memcpy(&word, from, sizeof word);
    return spread(word);
}

/* A block's sums of products, times its scales, to what came before. */
INLINE void add_dots(const Product *p, int b, int words, int vectors, Integers (*dots)[VECTORS]) {
    const int group = GROUP(vectors);
    Sums x_scales[VECTORS];
    UNROLL for (int v = 0; v < vectors; v++) {
        x_scales[v] = load_lanes(p->x_scales[b * words / WORDS] + v * LANES);
    }
    UNROLL for (int n = 0; n < group; n++) {
        float w_scale = p->w_scales[n][b];
        UNROLL for (int v = 0; v < vectors; v++) {
            float *sum = p->sums[n] + v * LANES;
            Sums both = x_scales[v] * w_scale;
            store_lanes(sum, add_product(load_lanes(sum), to_floats(dots[n][v]), both));
        }
    }
}

/* Of block b of weights, `words` long, which is WORDS or half of it. */
INLINE void multiply_block(const Product *p, int b, int words, int vectors) {
    const int group = GROUP(vectors);
    Integers dots[WEIGHT_ROWS][VECTORS];
    const LaneBlock *x = &p->x[b * words / WORDS];
    const int first = b * words % WORDS;
    UNROLL for (int n = 0; n < group; n++) {
        UNROLL for (int v = 0; v < vectors; v++) {
#if RAISED
            dots[n][v] = *(const Integers *)(x->begin[first != 0] + v * LANES);
#else
            dots[n][v] = (Integers){0};
#endif
        }
    }
    for (int k = 0; k < words; k++) {
        Integers xs[VECTORS];
        UNROLL for (int v = 0; v < vectors; v++) {
            xs[v] = *(const Integers *)x->x[first + k][v * LANES];
        }
        UNROLL for (int n = 0; n < group; n++) {
            Integers ws = spread_word(p->w[n] + NEIGHBOURS * (b * words + k));
            UNROLL for (int v = 0; v < vectors; v++) {
                dots[n][v] = add_words(dots[n][v], xs[v], ws);
            }
        }
    }
    add_dots(p, b, words, vectors, dots);
}

/*
 * On a copy of the product: for all the compiler knows, a sum might be stored to the other one.
 * Between blocks sums are in memory: to keep them, it would take registers that there are not.
 */
INLINE void multiply_blocks(Product p, int words, int vectors) {
    if (!p.add)
        begin_sums(&p, vectors);
    for (int b = 0; b < p.blocks * WORDS / words; b++) {
        multiply_block(&p, b, words, vectors);
        __asm__ volatile("" : : : "memory");
    }
}

/* Each a function of its own: the loop takes all registers. */
#define MULTIPLY(name, words, vectors)                                                             \
    __attribute__((noinline)) TARGET static void name(const Product *p) {                          \
        multiply_blocks(*p, words, vectors);                                                       \
    }
MULTIPLY(multiply_one, WORDS, 1)
MULTIPLY(multiply_one_q4, WORDS / 2, 1)
MULTIPLY(multiply_two, WORDS, 2)
MULTIPLY(multiply_two_q4, WORDS / 2, 2)
#if VECTORS == 3
MULTIPLY(multiply_three, WORDS, 3)
MULTIPLY(multiply_three_q4, WORDS / 2, 3)
#endif

static inline void multiply_span(const Product *p, int vectors, WeightType type) {
    bool q4 = type == WEIGHT_Q4;
    if (vectors == 1)
        (q4 ? multiply_one_q4 : multiply_one)(p);
    else if (vectors == 2)
        (q4 ? multiply_two_q4 : multiply_two)(p);
#if VECTORS == 3
    else
        (q4 ? multiply_three_q4 : multiply_three)(p);
#endif
}

/* ---- a tile ---- */

/* x in lanes, and where its products go. */
typedef struct Spans {
    LaneBlock *x;                      /* [spans][stride] */
    float (*x_scales)[SPAN];           /* [spans][stride] */
    int stride;                        /* blocks */
    float (*sums)[TILE_COLUMNS][SPAN]; /* [spans] w x^T */
} Spans;

/* Vectors of the tile's rows in this span. */
static inline int span_vectors(const Tile *tile, int span) {
    return ceil_div(min_int(SPAN, tile->rows - span * SPAN), LANES);
}

/* Groups of `columns` weights for this span. */
static inline int span_groups(const Tile *tile, int span, int columns) {
    return ceil_div(columns, GROUP(span_vectors(tile, span)));
}

/* Columns k.. of all the tile's rows of x, where s->x is block k / BLOCK, by all its weights. */
INLINE void multiply_spans(const Tile *tile, const Spans *s, int k, PackedWeights *packed) {
    int count = min_int(DEPTH, tile->w->columns - k);
    int spans = ceil_div(tile->rows, SPAN);
    for (int n = 0; n < tile->columns; n += WEIGHT_ROWS) {
        int columns = min_int(WEIGHT_ROWS, tile->columns - n), rows = 0, groups = 0;
        for (int span = 0; span < spans; span++) {
            int wanted = span_groups(tile, span, columns);
            rows = max_int(rows, wanted * GROUP(span_vectors(tile, span)));
            groups += wanted;
        }
        Ahead ahead = look_ahead(tile, n + WEIGHT_ROWS, WEIGHT_ROWS, k, DEPTH, groups);
        for (int i = 0; i < rows; i++)
            pack_weights(tile, n + i, k, count, packed->w[i], packed->scales[i]);
        for (int span = 0; span < spans; span++) {
            int vectors = span_vectors(tile, span);
            for (int first = 0; first < columns; first += GROUP(vectors)) {
                Product product = {.x = s->x + span * s->stride,
                                   .x_scales = s->x_scales + span * s->stride,
                                   .w = packed->w + first,
                                   .w_scales = packed->scales + first,
                                   .sums = s->sums[span] + n + first,
                                   .blocks = ceil_div(count, BLOCK),
                                   .add = k > 0};
                fetch(&ahead);
                multiply_span(&product, vectors, tile->w->type);
            }
        }
    }
}

_Static_assert(VECTORS == 2 || VECTORS == 3, "the functions above");
_Static_assert(TILE_COLUMNS % WEIGHT_ROWS == 0 && TILE_COLUMNS % LANES == 0, "whole groups");
