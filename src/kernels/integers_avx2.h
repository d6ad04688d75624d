/*
 * integers_avx2.h - what the kernels of 16-bit integers have in common. Private to
 * matmul_integers_avx2.c and matmul_quant_avx2.c.
 *
 * An instruction multiplies 16 pairs of such integers and adds neighbours, where one of
 * f32 takes 8. With the addition that then remains it is one and a half times as fast
 * (AMD Zen 3).
 *
 * Both x and w are integers with a scale for each block along k: of 64, or 32 for Q4. A
 * block's products are added as integers, exactly, and the product of both scales turns
 * their sum into f32; blocks are added in order. So a result does not depend on which
 * kernel made it. For 64 products to fit into 32 bits, x has 16 bits where weights have
 * 8 or 4, else x has 13 bits and w 14, sign included, which is finer than the bf16 that
 * other processors take.
 *
 * As in words_simd.h rows of x are transposed to stand side by side in the lanes. A word
 * is a pair of neighbours along k, and a word of w is spread over all lanes.
 */
#ifndef OCR_INTEGERS_AVX2_H
#define OCR_INTEGERS_AVX2_H

#include "kernels/matmul_kernel.h"

#include <immintrin.h>
#include <math.h>

#define TARGET __attribute__((target("avx2,fma")))
#define INLINE static inline __attribute__((always_inline)) TARGET

#include "kernels/matmul_avx2.h"

#define BLOCK Q8_BLOCK /* of x; of w too, but that of Q4 is half as long */
#define WORDS (BLOCK / 2)
#define LANES 8
#define VECTORS 2
#define SPAN (VECTORS * LANES) /* rows of x side by side */
#define GROUP 6   /* rows of w: GROUP * VECTORS sums, and what they need, fill the registers */
#define DEPTH 512 /* elements of a row in work at once: a span of x stays in the first cache */
#define BLOCKS (DEPTH / BLOCK)
#define WEIGHT_ROWS 12 /* packed at a time, and still in the first cache when they are used */
#define CACHE_LINE 64

#define X_MOST_QUANTIZED 32767 /* 64 * 32767 * 127 < 2^31 */
#define X_MOST 4095            /* 64 * 4095 * 8191 < 2^31 */
#define W_MOST 8191

typedef int16_t LaneBlock[WORDS][SPAN][2]; /* a block of SPAN rows of x */

/* Rows of weights, as integers. */
typedef struct PackedWeights {
    int16_t w[WEIGHT_ROWS][DEPTH];
    float scales[WEIGHT_ROWS][2 * BLOCKS];
} PackedWeights;

/* ---- to integers ---- */

/* x[BLOCK] to -most..most; returns the scale, NaN if x holds NaN or an infinity. */
INLINE float quantize_block(const float *x, int most, int16_t *to) {
    const __m256i magnitude = _mm256_set1_epi32(0x7FFFFFFF);
    __m256i top = _mm256_setzero_si256(); /* magnitudes compare as integers; NaN is above all */
    UNROLL for (int i = 0; i < BLOCK; i += LANES) {
        __m256i bits = _mm256_loadu_si256((const __m256i *)(x + i));
        top = _mm256_max_epi32(top, _mm256_and_si256(bits, magnitude));
    }
    __m128i half = _mm_max_epi32(_mm256_castsi256_si128(top), _mm256_extracti128_si256(top, 1));
    half = _mm_max_epi32(half, _mm_shuffle_epi32(half, 0x4E));
    half = _mm_max_epi32(half, _mm_shuffle_epi32(half, 0xB1));
    float largest = _mm_cvtss_f32(_mm_castsi128_ps(half));
    float inverse = largest > 0x1p-100f ? (float)most / largest : 0;
    __m256 factor = _mm256_set1_ps(inverse);
    UNROLL for (int i = 0; i < BLOCK; i += 2 * LANES) {
        __m256i a = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + i), factor));
        __m256i b = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + i + LANES), factor));
        __m256i both = _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xD8);
        _mm256_storeu_si256((__m256i *)(to + i), both);
    }
    return isfinite(largest) ? largest / (float)most : NAN;
}

/* The same of the first `count` elements, as if zeros followed. */
INLINE float quantize_part(const float *x, int count, int most, int16_t *to) {
    if (count >= BLOCK)
        return quantize_block(x, most, to);
    float part[BLOCK] = {0};
    memcpy(part, x, (size_t)count * sizeof *x);
    return quantize_block(part, most, to);
}

/*
 * A block of up to LANES rows of x, `count` elements of which are there, to the lanes from
 * `lane` on; the last row again beyond them. Scales likewise, scales[SPAN].
 */
INLINE void pack_lanes(const float *const *x, int rows, int count, int most, LaneBlock *to,
                       float *scales, int lane) {
    int16_t integers[LANES][BLOCK];
    for (int i = 0; i < LANES; i++)
        scales[lane + i] = quantize_part(x[min_int(i, rows - 1)], count, most, integers[i]);
    for (int word = 0; word < WORDS; word += LANES) {
        __m256 square[LANES];
        UNROLL for (int i = 0; i < LANES; i++) {
            __m256i words = _mm256_loadu_si256((const __m256i *)(integers[i] + 2 * word));
            square[i] = _mm256_castsi256_ps(words);
        }
        transpose(square);
        UNROLL for (int i = 0; i < LANES; i++) {
            _mm256_store_si256((__m256i *)(*to)[word + i][lane], _mm256_castps_si256(square[i]));
        }
    }
}

/* Integers of Q8: q[BLOCK]. */
INLINE void widen_bytes(const uint8_t *q, __m256i *to) {
    UNROLL for (int i = 0; i < BLOCK / 16; i++) {
        to[i] = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)q + i));
    }
}

/* Integers of Q4: q[BLOCK / 2], two blocks. */
INLINE void widen_nibbles(const uint8_t *q, __m256i *to) {
    const __m256i nibble = _mm256_set1_epi16(15), eight = _mm256_set1_epi16(8);
    UNROLL for (int i = 0; i < 2; i++) {
        __m256i pairs = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)q + i));
        to[2 * i] = _mm256_sub_epi16(_mm256_and_si256(pairs, nibble), eight);
        to[2 * i + 1] = _mm256_sub_epi16(_mm256_srli_epi16(pairs, 4), eight);
    }
}

/* BLOCK quantized weights, of which `count` are there; what is made of the others meets zeros. */
INLINE void pack_quantized(const uint8_t *w, int count, WeightType type, int16_t *to) {
    uint8_t part[BLOCK];
    if (count < BLOCK) {
        int blocks = ceil_div(count, Q4_BLOCK);
        memset(part, 0, sizeof part);
        memcpy(part, w, (size_t)(type == WEIGHT_Q8 ? count : blocks * Q4_BLOCK / 2));
        w = part;
    }
    if (type == WEIGHT_Q8)
        widen_bytes(w, (__m256i *)to);
    else
        widen_nibbles(w, (__m256i *)to);
}

/* The same of bf16; returns the scale. */
INLINE float pack_bf16(const uint16_t *w, int count, int16_t *to) {
    float values[BLOCK];
    uint16_t part[BLOCK];
    if (count < BLOCK) {
        memset(part, 0, sizeof part);
        memcpy(part, w, (size_t)count * sizeof *w);
        w = part;
    }
    UNROLL for (int i = 0; i < BLOCK; i += LANES) {
        __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(w + i)));
        _mm256_storeu_ps(values + i, _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16)));
    }
    return quantize_block(values, W_MOST, to);
}

/* Columns k..k+count-1 of the tile's weight row n, filled up to whole blocks of x. */
INLINE void pack_weights(const Tile *tile, int n, int k, int count, int16_t *to, float *scales) {
    WeightType type = tile->w->type;
    const char *w = tile_w(tile, n) + weight_bytes(type, k);
    if (type == WEIGHT_BF16) {
        for (int first = 0; first < count; first += BLOCK)
            scales[first / BLOCK] =
                pack_bf16((const uint16_t *)w + first, count - first, to + first);
        return;
    }
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

/* One span of x by GROUP rows of weights. */
typedef struct Product {
    LaneBlock *x;                  /* [blocks] */
    float (*x_scales)[SPAN];       /* [blocks] */
    int16_t (*w)[DEPTH];           /* [GROUP] */
    float (*w_scales)[2 * BLOCKS]; /* [GROUP] */
    float (*sums)[SPAN];           /* [GROUP] */
    int blocks;
    bool add; /* to the sums; else they begin here */
} Product;

INLINE __m256i spread_word(const int16_t *word) {
    int pair;
    memcpy(&pair, word, sizeof pair);
    return _mm256_set1_epi32(pair);
}

/*
 * sums += words, in this order and in place: left to itself, the compiler reorders until
 * registers do not suffice.
 */
INLINE __m256i add_words(__m256i sums, __m256i words) {
    __asm__ volatile("vpaddd %1, %0, %0" : "+x"(sums) : "x"(words));
    return sums;
}

/* Of block b of weights, `words` long, which is WORDS or half of it. */
INLINE void multiply_block(const Product *p, int b, int words, int vectors) {
    __m256i dots[GROUP][VECTORS];
    const int16_t(*x)[SPAN][2] = p->x[0] + b * words;
    const float *x_scales = p->x_scales[b * words / WORDS];
    UNROLL for (int n = 0; n < GROUP; n++) {
        UNROLL for (int v = 0; v < vectors; v++) {
            dots[n][v] = _mm256_setzero_si256();
        }
    }
    for (int k = 0; k < words; k++) {
        __m256i xs[VECTORS];
        UNROLL for (int v = 0; v < vectors; v++) {
            xs[v] = _mm256_load_si256((const __m256i *)x[k][v * LANES]);
        }
        UNROLL for (int n = 0; n < GROUP; n++) {
            __m256i ws = spread_word(p->w[n] + 2 * (b * words + k));
            UNROLL for (int v = 0; v < vectors; v++) {
                dots[n][v] = add_words(dots[n][v], _mm256_madd_epi16(xs[v], ws));
            }
        }
    }
    __m256 keep = _mm256_castsi256_ps(_mm256_set1_epi32(p->add || b > 0 ? -1 : 0));
    UNROLL for (int n = 0; n < GROUP; n++) {
        __m256 scale = _mm256_broadcast_ss(&p->w_scales[n][b]);
        UNROLL for (int v = 0; v < vectors; v++) {
            float *sum = p->sums[n] + v * LANES;
            __m256 both = _mm256_mul_ps(scale, _mm256_loadu_ps(x_scales + v * LANES));
            __m256 before = _mm256_and_ps(keep, _mm256_load_ps(sum));
            _mm256_store_ps(sum, _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots[n][v]), both, before));
        }
    }
}

/* Each a function of its own: the loop takes all registers. */
#define MULTIPLY(name, words, vectors)                                                             \
    __attribute__((noinline)) TARGET static void name(const Product *p) {                          \
        for (int b = 0; b < p->blocks * WORDS / (words); b++)                                      \
            multiply_block(p, b, words, vectors);                                                  \
    }
MULTIPLY(multiply_whole, WORDS, VECTORS)
MULTIPLY(multiply_half, WORDS, 1)
MULTIPLY(multiply_whole_q4, WORDS / 2, VECTORS)
MULTIPLY(multiply_half_q4, WORDS / 2, 1)

/* rows: of x in the span */
static inline void multiply_span(const Product *p, int rows, WeightType type) {
    if (type == WEIGHT_Q4)
        (rows > LANES ? multiply_whole_q4 : multiply_half_q4)(p);
    else
        (rows > LANES ? multiply_whole : multiply_half)(p);
}

/* The sums to rows of c. */
INLINE void put_span(float (*sums)[SPAN], int rows, int columns, float *c) {
    for (int row = 0; row < rows; row += LANES)
        for (int n = 0; n < columns; n += LANES) {
            __m256 square[LANES];
            UNROLL for (int i = 0; i < LANES; i++) {
                square[i] = _mm256_load_ps(sums[n + i] + row);
            }
            transpose(square);
            UNROLL for (int r = 0; r < LANES; r++) {
                if (row + r < rows)
                    _mm256_storeu_ps(c + (row + r) * TILE_COLUMNS + n, square[r]);
            }
        }
}

/* ---- weights that will be wanted next ---- */

/* Rows of weights, of which each call fetches a share. */
typedef struct Ahead {
    const char *row;
    size_t stride, bytes; /* from row to row; of a row */
    size_t at;            /* in the row */
    int rows, lines;      /* that are left; for each call */
} Ahead;

/* Rows n.. of the tile from column k on, to be fetched in so many calls. */
static inline Ahead look_ahead(const Tile *tile, int n, int k, int calls) {
    const Matrix *w = tile->w;
    if (n >= tile->columns) {
        n = 0;
        k += DEPTH;
    }
    if (k >= w->columns)
        return (Ahead){0};
    Ahead ahead = {.row = tile_w(tile, n) + weight_bytes(w->type, k),
                   .stride = row_bytes(w),
                   .bytes = weight_bytes(w->type, min_int(DEPTH, w->columns - k)),
                   .rows = min_int(WEIGHT_ROWS, tile->columns - n)};
    ahead.lines = ceil_div(ahead.rows * ceil_div((int)ahead.bytes, CACHE_LINE), calls);
    return ahead;
}

/* One of the calls. */
static inline void fetch(Ahead *ahead) {
    for (int i = 0; i < ahead->lines && ahead->rows > 0; i++) {
        __builtin_prefetch(ahead->row + ahead->at);
        ahead->at += CACHE_LINE;
        if (ahead->at >= ahead->bytes) {
            ahead->at = 0;
            ahead->row += ahead->stride;
            ahead->rows--;
        }
    }
}

/* ---- a tile ---- */

/* x in lanes, and where its products go. */
typedef struct Spans {
    LaneBlock *x;                      /* [spans][stride] */
    float (*x_scales)[SPAN];           /* [spans][stride] */
    int stride;                        /* blocks */
    float (*sums)[TILE_COLUMNS][SPAN]; /* [spans] w x^T */
} Spans;

/* Columns k.. of all the tile's rows of x, where s->x is block k / BLOCK, by all its weights. */
INLINE void multiply_spans(const Tile *tile, const Spans *s, int k, PackedWeights *packed) {
    int count = min_int(DEPTH, tile->w->columns - k);
    int spans = ceil_div(tile->rows, SPAN);
    for (int n = 0; n < tile->columns; n += WEIGHT_ROWS) {
        int groups = ceil_div(min_int(WEIGHT_ROWS, tile->columns - n), GROUP);
        Ahead ahead = look_ahead(tile, n + WEIGHT_ROWS, k, spans * groups);
        for (int i = 0; i < groups * GROUP; i++)
            pack_weights(tile, n + i, k, count, packed->w[i], packed->scales[i]);
        for (int i = 0; i < spans * groups; i++) {
            int span = i / groups, first = i % groups * GROUP;
            Product product = {.x = s->x + span * s->stride,
                               .x_scales = s->x_scales + span * s->stride,
                               .w = packed->w + first,
                               .w_scales = packed->scales + first,
                               .sums = s->sums[span] + n + first,
                               .blocks = ceil_div(count, BLOCK),
                               .add = k > 0};
            fetch(&ahead);
            multiply_span(&product, tile->rows - span * SPAN, tile->w->type);
        }
    }
}

_Static_assert(WEIGHT_ROWS % GROUP == 0 && TILE_COLUMNS % GROUP == 0, "whole groups");

#endif
