/*
 * Many rows by AVX2, as products of 16-bit integers: an instruction multiplies 16 of
 * them and adds them in pairs, where one of f32 takes 8. With the addition that then
 * remains it is about twice as fast.
 *
 * Both x and w become integers with a scale for each block of 64 along k, as quantized
 * weights are anyway. A block's products are added as integers, exactly, and the product
 * of both scales turns their sum into f32; blocks are added in order. So that 64 products
 * fit into 32 bits, x has 16 bits where weights have 8, else x has 13 bits and w 14,
 * sign included, which is finer than the bf16 that other processors take.
 *
 * As in words_simd.h rows of x are transposed to stand side by side in the lanes. A word
 * is a pair of neighbours along k, and a word of w is spread over all lanes.
 */
#if defined(__x86_64__)
#include "kernels/matmul_kernel.h"

#include <immintrin.h>
#include <math.h>

#define TARGET __attribute__((target("avx2,fma")))
#define INLINE static inline __attribute__((always_inline)) TARGET

#define BLOCK Q8_BLOCK
#define WORDS (BLOCK / 2)
#define LANES 8
#define VECTORS 2
#define SPAN (VECTORS * LANES) /* rows of x side by side */
#define SPANS (TILE_ROWS / SPAN)
#define GROUP 6   /* rows of w: GROUP * VECTORS sums, and what they need, fill the registers */
#define DEPTH 512 /* elements of a row in work at once: a span of x stays in the first cache */
#define BLOCKS (DEPTH / BLOCK)
#define WEIGHT_ROWS 48 /* that meet all rows of x before the next ones are taken */
#define CACHE_LINE 64

#define X_MOST_BY_BYTES 32767 /* 64 * 32767 * 127 < 2^31 */
#define X_MOST 4095           /* 64 * 4095 * 8191 < 2^31 */
#define W_MOST 8191

typedef struct Scratch {
    int16_t x[SPANS][BLOCKS][WORDS][SPAN][2];
    float x_scales[SPANS][BLOCKS][SPAN];
    int16_t w[WEIGHT_ROWS][DEPTH];
    float w_scales[WEIGHT_ROWS][BLOCKS];
    float sums[SPANS][TILE_COLUMNS][SPAN]; /* w x^T */
} Scratch;

_Static_assert(sizeof(Scratch) <= KERNEL_SCRATCH_BYTES, "integers need more scratch");
_Static_assert(TILE_ROWS % SPAN == 0 && WEIGHT_ROWS % GROUP == 0, "whole spans and groups");
_Static_assert(TILE_COLUMNS % WEIGHT_ROWS == 0, "groups of weights end within the sums");

/* ---- integers ---- */

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
    float part[BLOCK] = {0};
    if (count >= BLOCK)
        return quantize_block(x, most, to);
    memcpy(part, x, (size_t)count * sizeof *x);
    return quantize_block(part, most, to);
}

/* Up to BLOCK weights from column k on, as f32 with zeros behind them. */
INLINE void weights_to_f32(const Tile *tile, int n, int k, int count, float *to) {
    const char *w = tile_w(tile, n);
    if (tile->w->type == WEIGHT_Q4) {
        memset(to, 0, BLOCK * sizeof *to);
        dequantize_q4((const uint8_t *)w, tile_scales(tile, n), k, count, to);
        return;
    }
    uint16_t bits[BLOCK] = {0};
    const uint16_t *from = (const uint16_t *)w + k;
    if (count < BLOCK) {
        memcpy(bits, from, (size_t)count * sizeof *bits);
        from = bits;
    }
    UNROLL for (int i = 0; i < BLOCK; i += LANES) {
        __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(from + i)));
        _mm256_storeu_ps(to + i, _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16)));
    }
}

INLINE void widen_bytes(const int8_t *q, int count, int16_t *to) {
    int8_t part[BLOCK] = {0};
    if (count < BLOCK) {
        memcpy(part, q, (size_t)count);
        q = part;
    }
    UNROLL for (int i = 0; i < BLOCK; i += 2 * LANES) {
        __m256i wide = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(q + i)));
        _mm256_storeu_si256((__m256i *)(to + i), wide);
    }
}

/* Columns k..k+count-1 of the tile's weight row n, filled up to whole blocks. */
INLINE void pack_weights(const Tile *tile, int n, int k, int count, int16_t *to, float *scales) {
    for (int first = 0; first < count; first += BLOCK) {
        int here = min_int(BLOCK, count - first), block = (k + first) / BLOCK;
        if (tile->w->type == WEIGHT_Q8) {
            widen_bytes((const int8_t *)tile_w(tile, n) + k + first, here, to + first);
            scales[first / BLOCK] = bf16_to_f32(tile_scales(tile, n)[block]);
        } else {
            float values[BLOCK];
            weights_to_f32(tile, n, k + first, here, values);
            scales[first / BLOCK] = quantize_block(values, W_MOST, to + first);
        }
    }
}

/* Squares of 1, then 2 by 2 words within the halves of a vector, then the halves. */
INLINE void transpose(__m256i *rows) {
    __m256i ones[LANES], twos[LANES];
    UNROLL for (int i = 0; i < LANES; i += 2) {
        ones[i] = _mm256_unpacklo_epi32(rows[i], rows[i + 1]);
        ones[i + 1] = _mm256_unpackhi_epi32(rows[i], rows[i + 1]);
    }
    UNROLL for (int i = 0; i < LANES; i += 4) {
        UNROLL for (int j = 0; j < 2; j++) {
            twos[i + 2 * j] = _mm256_unpacklo_epi64(ones[i + j], ones[i + j + 2]);
            twos[i + 2 * j + 1] = _mm256_unpackhi_epi64(ones[i + j], ones[i + j + 2]);
        }
    }
    UNROLL for (int j = 0; j < 4; j++) {
        rows[j] = _mm256_permute2x128_si256(twos[j], twos[j + 4], 0x20);
        rows[j + 4] = _mm256_permute2x128_si256(twos[j], twos[j + 4], 0x31);
    }
}

/* A block of LANES rows, integers[LANES][BLOCK], to a column of lanes of to[WORDS][SPAN]. */
INLINE void to_lanes(const int16_t *integers, int16_t (*to)[SPAN][2]) {
    for (int word = 0; word < WORDS; word += LANES) {
        __m256i square[LANES];
        UNROLL for (int i = 0; i < LANES; i++) {
            square[i] = _mm256_loadu_si256((const __m256i *)(integers + i * BLOCK + word * 2));
        }
        transpose(square);
        UNROLL for (int i = 0; i < LANES; i++) {
            _mm256_store_si256((__m256i *)to[word + i], square[i]);
        }
    }
}

/* Elements k..k+count-1 of the tile's rows, along the lanes; the last row again beyond it. */
INLINE void pack_x(const Tile *tile, int k, int count, Scratch *scratch) {
    int most = tile->w->type == WEIGHT_Q8 ? X_MOST_BY_BYTES : X_MOST;
    for (int row = 0; row < tile->rows; row += LANES) {
        int span = row / SPAN, lane = row % SPAN;
        for (int b = 0; b < ceil_div(count, BLOCK); b++) {
            int16_t integers[LANES][BLOCK];
            for (int i = 0; i < LANES; i++) {
                const float *x = tile_x(tile, min_int(row + i, tile->rows - 1)) + k + b * BLOCK;
                scratch->x_scales[span][b][lane + i] =
                    quantize_part(x, count - b * BLOCK, most, integers[i]);
            }
            to_lanes(integers[0], (int16_t(*)[SPAN][2])scratch->x[span][b][0][lane]);
        }
    }
}

/* ---- products ---- */

/* One span of x by GROUP rows of weights. */
typedef struct Product {
    int16_t (*x)[WORDS][SPAN][2]; /* [blocks] */
    float (*x_scales)[SPAN];      /* [blocks] */
    int16_t (*w)[DEPTH];          /* [GROUP] */
    float (*w_scales)[BLOCKS];    /* [GROUP] */
    float (*sums)[SPAN];          /* [GROUP] */
    int blocks;
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
INLINE void add_words(__m256i *sums, __m256i words) {
    __asm__ volatile("vpaddd %1, %0, %0" : "+x"(*sums) : "x"(words));
}

/* Of one block, added to the sums. */
INLINE void multiply_block(const Product *p, int b, int vectors) {
    __m256i dots[GROUP][VECTORS];
    UNROLL for (int n = 0; n < GROUP; n++) {
        UNROLL for (int v = 0; v < vectors; v++) {
            dots[n][v] = _mm256_setzero_si256();
        }
    }
    for (int k = 0; k < WORDS; k++) {
        __m256i xs[VECTORS];
        UNROLL for (int v = 0; v < vectors; v++) {
            xs[v] = _mm256_load_si256((const __m256i *)p->x[b][k][v * LANES]);
        }
        UNROLL for (int n = 0; n < GROUP; n++) {
            __m256i ws = spread_word(p->w[n] + b * BLOCK + 2 * k);
            UNROLL for (int v = 0; v < vectors; v++) {
                add_words(&dots[n][v], _mm256_madd_epi16(xs[v], ws));
            }
        }
    }
    UNROLL for (int n = 0; n < GROUP; n++) {
        __m256 scale = _mm256_broadcast_ss(&p->w_scales[n][b]);
        UNROLL for (int v = 0; v < vectors; v++) {
            float *sum = p->sums[n] + v * LANES;
            __m256 both = _mm256_mul_ps(scale, _mm256_load_ps(p->x_scales[b] + v * LANES));
            __m256 dot = _mm256_cvtepi32_ps(dots[n][v]);
            _mm256_store_ps(sum, _mm256_fmadd_ps(dot, both, _mm256_load_ps(sum)));
        }
    }
}

TARGET static void multiply_whole(const Product *p) {
    for (int b = 0; b < p->blocks; b++)
        multiply_block(p, b, VECTORS);
}

/* Of a span that holds no more than LANES rows. */
TARGET static void multiply_half(const Product *p) {
    for (int b = 0; b < p->blocks; b++)
        multiply_block(p, b, 1);
}

/* Weights that will be wanted next: rows n.. of the tile, some bytes from column k on. */
typedef struct Ahead {
    int n, rows, lines; /* of each row */
    size_t offset;
} Ahead;

static Ahead look_ahead(const Tile *tile, int n, int k) {
    const Matrix *w = tile->w;
    if (n >= tile->columns) {
        n = 0;
        k += DEPTH;
    }
    Ahead ahead = {.n = n};
    if (k >= w->columns)
        return ahead;
    size_t bytes = weight_bytes(w->type, min_int(DEPTH, w->columns - k));
    ahead.rows = min_int(WEIGHT_ROWS, tile->columns - n);
    ahead.lines = (int)(bytes + CACHE_LINE - 1) / CACHE_LINE;
    ahead.offset = weight_bytes(w->type, k);
    return ahead;
}

/* Part `part` of `parts` of them. */
static void fetch(const Tile *tile, const Ahead *ahead, int part, int parts) {
    int total = ahead->rows * ahead->lines;
    for (int i = total * part / parts; i < total * (part + 1) / parts; i++) {
        int row = ahead->n + i / ahead->lines, line = i % ahead->lines;
        __builtin_prefetch(tile_w(tile, row) + ahead->offset + line * CACHE_LINE);
    }
}

/* All rows of x by `rows` packed weights, whose first is column n of the tile. */
static void multiply_weights(const Tile *tile, int n, int rows, int blocks, const Ahead *ahead,
                             Scratch *scratch) {
    int spans = ceil_div(tile->rows, SPAN), groups = ceil_div(rows, GROUP);
    for (int s = 0; s < spans; s++)
        for (int g = 0; g < groups; g++) {
            Product product = {.x = scratch->x[s],
                               .x_scales = scratch->x_scales[s],
                               .w = scratch->w + g * GROUP,
                               .w_scales = scratch->w_scales + g * GROUP,
                               .sums = scratch->sums[s] + n + g * GROUP,
                               .blocks = blocks};
            fetch(tile, ahead, s * groups + g, spans * groups);
            if (tile->rows - s * SPAN > LANES)
                multiply_whole(&product);
            else
                multiply_half(&product);
        }
}

/* The sums to rows of c. */
INLINE void put_rows(const Tile *tile, const Scratch *scratch, float *c) {
    for (int row = 0; row < tile->rows; row += LANES)
        for (int n = 0; n < tile->columns; n += LANES) {
            __m256i square[LANES];
            UNROLL for (int i = 0; i < LANES; i++) {
                const float *from = scratch->sums[row / SPAN][n + i] + row % SPAN;
                square[i] = _mm256_load_si256((const __m256i *)from);
            }
            transpose(square);
            UNROLL for (int r = 0; r < LANES; r++) {
                float *to = c + (row + r) * TILE_COLUMNS + n;
                if (row + r < tile->rows)
                    _mm256_storeu_si256((__m256i *)to, square[r]);
            }
        }
}

TARGET void multiply_many_integers(const Tile *tile, float *c, void *memory) {
    Scratch *scratch = memory;
    int columns = ceil_div(tile->columns, GROUP) * GROUP;
    for (int s = 0; s < ceil_div(tile->rows, SPAN); s++)
        memset(scratch->sums[s], 0, (size_t)columns * sizeof *scratch->sums[s]);
    for (int k = 0; k < tile->w->columns; k += DEPTH) {
        int count = min_int(DEPTH, tile->w->columns - k), blocks = ceil_div(count, BLOCK);
        if (!tile->copied || tile->w->columns > DEPTH)
            pack_x(tile, k, count, scratch);
        for (int n = 0; n < tile->columns; n += WEIGHT_ROWS) {
            int rows = ceil_div(min_int(WEIGHT_ROWS, tile->columns - n), GROUP) * GROUP;
            Ahead ahead = look_ahead(tile, n + WEIGHT_ROWS, k);
            for (int i = 0; i < rows; i++)
                pack_weights(tile, n + i, k, count, scratch->w[i], scratch->w_scales[i]);
            multiply_weights(tile, n, rows, blocks, &ahead, scratch);
        }
    }
    put_rows(tile, scratch, c);
}
#endif
