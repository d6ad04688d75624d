/*
 * integers_lanes_simd.h - rows of x as integers, side by side in the lanes: what integers_simd.h
 * and matmul_bytes_amx.c have in common. Written once over a vector.
 *
 *   TARGET, INLINE   as in matmul_simd.h
 *   BYTES            numbers have 8 bits, and weights are quantized; else 16
 *   RAISED           weights are unsigned, see integers_simd.h; for BYTES alone
 *   Number           of x: int8_t or int16_t
 *   LANES            words of a vector
 *   VECTORS          of x, side by side
 *   DEPTH            elements of a row in work at once: a span of x stays near
 *   Integers         a vector of words, or of 32-bit sums
 *   Sums             one of f32
 *
 *   Sums     load_lanes(const float *x), void store_lanes(float *to, Sums values)
 *   void     transpose(Sums *rows)                      rows[LANES], a square of words
 *   void     put_numbers(const Sums *x, Number *to)     rounded: x[BLOCK / LANES], to[BLOCK]
 *   Integers higher(Integers top, Sums x)               the larger of top and x's magnitude, as
 *                                                       bits, so that NaN is above all
 *   float    highest(Integers top)
 *   Integers to_integers(Sums x)                        rounded to 32 bits
 * and add_words, spread and negate of integers_simd.h, for RAISED alone.
 */
#include <math.h>

#define BLOCK Q8_BLOCK /* of x; of w too, but that of Q4 is half as long */
#define NEIGHBOURS ((int)(sizeof(int) / sizeof(Number)))
#define WORDS (BLOCK / NEIGHBOURS)
#define SPAN (VECTORS * LANES) /* rows of x side by side */
#define BLOCKS (DEPTH / BLOCK)

#if BYTES
#define X_MOST_QUANTIZED 127
#else
#define X_MOST_QUANTIZED 32639 /* as QUANT_MOST; 64 * 32639 * 127 < 2^31 */
#define X_MOST 4095            /* 64 * 4095 * 8191 < 2^31 */
#endif
#define RAISED_Q8 128u
#define RAISED_Q4 8u

typedef int Words __attribute__((vector_size(sizeof(Sums)))); /* a vector's, one by one */

/* A block of SPAN rows of x. */
typedef struct LaneBlock {
    Number x[WORDS][SPAN][NEIGHBOURS];
#if RAISED
    int begin[2][SPAN]; /* of the block's sums; if weights are Q4, of its halves' */
#endif
} LaneBlock;

/* ---- to integers ---- */

/* What stands at from, if that is `size` bytes; else the `there` bytes in part, with zeros behind.
 */
INLINE const void *fill_up(const void *from, size_t there, void *part, size_t size) {
    if (there >= size)
        return from;
    memset(part, 0, size);
    return memcpy(part, from, there);
}

/* A block to -most..most; returns the scale, NaN if x holds NaN or an infinity. */
INLINE float quantize_block(const Sums *x, int most, Number *to) {
    Integers top = {0};
    Sums scaled[BLOCK / LANES];
    UNROLL for (int i = 0; i < BLOCK / LANES; i++) {
        top = higher(top, x[i]);
    }
    float largest = highest(top);
    float inverse = largest > 0x1p-100f ? (float)most / largest : 0;
    UNROLL for (int i = 0; i < BLOCK / LANES; i++) {
        scaled[i] = x[i] * inverse;
    }
    put_numbers(scaled, to);
    return isfinite(largest) ? largest / (float)most : NAN;
}

/* The same of x's first `count` elements, as if zeros followed. */
INLINE float quantize_part(const float *x, int count, int most, Number *to) {
    float part[BLOCK];
    Sums block[BLOCK / LANES];
    x = fill_up(x, (size_t)count * sizeof *x, part, sizeof part);
    UNROLL for (int i = 0; i < BLOCK / LANES; i++) {
        block[i] = load_lanes(x + i * LANES);
    }
    return quantize_block(block, most, to);
}

/* Rows' scales, from their largest magnitudes; returns what their numbers are multiplied by. */
INLINE Sums lane_scales(Sums largest, int most, float *scales) {
    Sums inverse = (float)most / largest;
    store_lanes(scales, largest / (float)most + (largest - largest)); /* NaN for an infinity */
    return (Sums)((Integers)inverse & (Integers)(largest > 0x1p-100f));
}

/* As quantize_block, of a block of each of LANES rows: x[LANES], numbers[LANES], scales[LANES]. */
INLINE void quantize_blocks(const float *const *x, int most, Number (*numbers)[BLOCK],
                            float *scales) {
    Sums tops[LANES];
    Integers top = {0};
    float inverses[LANES];
    for (int i = 0; i < LANES; i++) {
        Integers of_row = {0};
        UNROLL for (int k = 0; k < BLOCK; k += LANES) {
            of_row = higher(of_row, load_lanes(x[i] + k));
        }
        tops[i] = (Sums)of_row;
    }
    transpose(tops);
    UNROLL for (int i = 0; i < LANES; i++) {
        top = higher(top, tops[i]);
    }
    store_lanes(inverses, lane_scales((Sums)top, most, scales));
    for (int i = 0; i < LANES; i++) {
        Sums scaled[BLOCK / LANES];
        UNROLL for (int k = 0; k < BLOCK / LANES; k++) {
            scaled[k] = load_lanes(x[i] + k * LANES) * inverses[i];
        }
        put_numbers(scaled, numbers[i]);
    }
}

/*
 * A block of up to LANES rows of x, `count` elements of which are there, to the lanes from
 * `lane` on; the last row again beyond them. Scales likewise, scales[SPAN].
 */
INLINE void pack_lanes(const float *const *x, int rows, int count, int most, LaneBlock *to,
                       float *scales, int lane) {
    Number numbers[LANES][BLOCK];
    float parts[LANES][BLOCK];
    const float *blocks[LANES];
    for (int i = 0; i < LANES; i++)
        blocks[i] =
            fill_up(x[min_int(i, rows - 1)], (size_t)count * sizeof **x, parts[i], sizeof parts[i]);
    quantize_blocks(blocks, most, numbers, scales + lane);
    for (int word = 0; word < WORDS; word += LANES) {
        Sums square[LANES];
        UNROLL for (int i = 0; i < LANES; i++) {
            memcpy(&square[i], numbers[i] + NEIGHBOURS * word, sizeof square[i]);
        }
        transpose(square);
        UNROLL for (int i = 0; i < LANES; i++) {
            *(Sums *)to->x[word + i][lane] = square[i];
        }
    }
}

/* The same of x that stands in lanes already: x[BLOCK][SPAN]. */
INLINE void pass_lanes(float (*x)[SPAN], int most, LaneBlock *to, float *scales, int lane) {
    const int bits = 32 / NEIGHBOURS;
    const Words mask = (Words){0} + (int)(0xFFFFFFFFu >> (32 - bits));
    Integers top = {0};
    for (int k = 0; k < BLOCK; k++)
        top = higher(top, load_lanes(x[k] + lane));
    Sums inverse = lane_scales((Sums)top, most, scales + lane);
    for (int word = 0; word < WORDS; word++) {
        Words joined = {0};
        UNROLL for (int i = 0; i < NEIGHBOURS; i++) {
            Sums scaled = load_lanes(x[word * NEIGHBOURS + i] + lane) * inverse;
            joined |= ((Words)to_integers(scaled) & mask) << (i * bits);
        }
        *(Integers *)to->x[word][lane] = (Integers)joined;
    }
}

#if RAISED
/* Where the sums of LANES rows of a block begin, by weights of this type. */
INLINE void begin_lanes(LaneBlock *block, int lane, WeightType type) {
    Integers sums[2] = {{0}}; /* of x, each word's numbers times the raise */
    Integers raised = spread((int)(0x01010101u * (type == WEIGHT_Q8 ? RAISED_Q8 : RAISED_Q4)));
    UNROLL for (int word = 0; word < WORDS; word++) {
        int half = type == WEIGHT_Q4 && word >= WORDS / 2;
        sums[half] = add_words(sums[half], *(Integers *)block->x[word][lane], raised);
    }
    for (int half = 0; half < 2; half++)
        *(Integers *)(block->begin[half] + lane) = negate(sums[half]);
}
#endif

/* The sums to rows of c. */
INLINE void put_span(float (*sums)[SPAN], int rows, int columns, float *c) {
    for (int row = 0; row < rows; row += LANES)
        for (int n = 0; n < columns; n += LANES) {
            Sums square[LANES];
            UNROLL for (int i = 0; i < LANES; i++) {
                square[i] = load_lanes(sums[n + i] + row);
            }
            transpose(square);
            UNROLL for (int r = 0; r < LANES; r++) {
                if (row + r < rows)
                    store_lanes(c + (row + r) * TILE_COLUMNS + n, square[r]);
            }
        }
}
