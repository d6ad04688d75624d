/*
 * quant_simd.h - the loops of quant_rows.h, written once. Each instruction set's file
 * defines the innermost ones and includes this.
 *
 *   TARGET, INLINE   as in matmul_simd.h
 *   NAME(prefix)     the name of an exported function
 *   COLUMNS          weight rows side by side
 *   Sums             of products: a vector of f32
 *   Weights          a block of weights, widened
 *
 *   Weights load_weights(const uint8_t *q, WeightType type)    a whole block of Q8_BLOCK
 *   Sums    multiply_block(Sums sum, Weights w, const int16_t *x, Scale scale)
 *   Scale   weight_scale(const uint16_t *scales, WeightType type)  of such a block
 *           (two scales of Q4); type is a constant
 *   Scale   times(Scale scale, float x_scale)
 *   void    put_columns(float *c, const Sums *sums)            sums[COLUMNS], each added up
 *   void    arrange(int16_t *x, WeightType type)  a block of x, into the order of load_weights
 */
#include <math.h>

#define X_MOST 32767

/* One block of activations, x [Q8_BLOCK], to integers in out; returns the scale. */
INLINE float quantize_block(const float *x, int16_t *out) {
    const float round_bias = 0x1.8p23f; /* adding it rounds to an integer in the low bits */
    uint32_t bits[Q8_BLOCK], most_bits = 0;
    float most;
    memcpy(bits, x, sizeof bits);
    for (int i = 0; i < Q8_BLOCK; i++)
        bits[i] &= 0x7FFFFFFF;
    for (int i = 0; i < Q8_BLOCK; i++) /* magnitudes compare as integers; NaN is above all */
        most_bits = bits[i] > most_bits ? bits[i] : most_bits;
    memcpy(&most, &most_bits, sizeof most);
    float inverse = most > 0x1p-100f ? X_MOST / most : 0;
    for (int i = 0; i < Q8_BLOCK; i++) {
        float shifted = x[i] * inverse + round_bias;
        memcpy(&bits[i], &shifted, sizeof shifted);
    }
    for (int i = 0; i < Q8_BLOCK; i++)
        out[i] = (int16_t)bits[i];
    /* NaN and infinity cannot be integers: the scale carries them, as NaN. */
    return isfinite(most) ? most / X_MOST : NAN;
}

INLINE void quantize_of(const Matmul *job, WeightType type, const QuantRows *rows) {
    for (int r = 0; r < job->rows; r++) {
        const float *x = job_x(job, r);
        for (int b = 0; b < rows->blocks; b++) {
            size_t block = (size_t)r * (size_t)rows->blocks + (size_t)b;
            int first = b * Q8_BLOCK, rest = job->w.columns - first;
            int16_t *out = rows->x + block * Q8_BLOCK;
            float part[Q8_BLOCK] = {0};
            if (rest < Q8_BLOCK)
                memcpy(part, x + first, (size_t)rest * sizeof *part);
            rows->scales[block] = quantize_block(rest < Q8_BLOCK ? part : x + first, out);
            arrange(out, type);
        }
    }
}

TARGET void NAME(quantize_rows)(const Matmul *job, const QuantRows *rows) {
    if (job->w.type == WEIGHT_Q8)
        quantize_of(job, WEIGHT_Q8, rows);
    else
        quantize_of(job, WEIGHT_Q4, rows);
}

/* COLUMNS rows of weights side by side. */
typedef struct WeightRows {
    const uint8_t *q[COLUMNS];
    const uint16_t *scales[COLUMNS]; /* bf16 */
    int columns;
    size_t ahead; /* bytes to the rows that will be wanted next, to be fetched early */
} WeightRows;

/* A last block that is not whole: weights and scales with zeros behind them. */
typedef struct LastBlock {
    uint8_t q[Q8_BLOCK];
    uint16_t scales[2];
} LastBlock;

INLINE void copy_last(const WeightRows *w, int n, WeightType type, int rest, LastBlock *out) {
    int block = w->columns / Q8_BLOCK;
    memset(out, 0, sizeof *out);
    if (type == WEIGHT_Q8) {
        memcpy(out->q, w->q[n] + (size_t)block * Q8_BLOCK, (size_t)rest);
        out->scales[0] = w->scales[n][block];
    } else {
        int blocks = ceil_div(rest, Q4_BLOCK);
        memcpy(out->q, w->q[n] + (size_t)block * Q8_BLOCK / 2, (size_t)blocks * Q4_BLOCK / 2);
        memcpy(out->scales, w->scales[n] + 2 * block, (size_t)blocks * sizeof *out->scales);
    }
}

/* Sums of block b of `rows` rows of x, from row on, by weights of which q and scales are given. */
INLINE void add_block(const QuantRows *x, int row, int rows, int b, const uint8_t *q,
                      const uint16_t *scales, WeightType type, Sums (*sums)[COLUMNS], int n) {
    Weights weights = load_weights(q, type);
    Scale scale = weight_scale(scales, type);
    UNROLL for (int r = 0; r < rows; r++) {
        size_t block = (size_t)(row + r) * (size_t)x->blocks + (size_t)b;
        sums[r][n] = multiply_block(sums[r][n], weights, x->x + block * Q8_BLOCK,
                                    times(scale, x->scales[block]));
    }
}

/* c[rows][COLUMNS], rows TILE_COLUMNS apart, = x[row..] w^T; rows and type are constants */
INLINE void multiply_rows(const QuantRows *x, int row, int rows, const WeightRows *w,
                          WeightType type, float *c) {
    size_t block_bytes = type == WEIGHT_Q8 ? Q8_BLOCK : Q8_BLOCK / 2;
    int block_scales = type == WEIGHT_Q8 ? 1 : 2;
    int whole = w->columns / Q8_BLOCK, rest = w->columns % Q8_BLOCK;
    Sums sums[QUANT_GROUP][COLUMNS] = {0};
    for (int b = 0; b < whole; b++) {
        UNROLL for (int n = 0; n < COLUMNS; n++) {
            const uint8_t *q = w->q[n] + (size_t)b * block_bytes;
            __builtin_prefetch(q + w->ahead);
            add_block(x, row, rows, b, q, w->scales[n] + b * block_scales, type, sums, n);
        }
    }
    if (rest > 0) {
        UNROLL for (int n = 0; n < COLUMNS; n++) {
            LastBlock last;
            copy_last(w, n, type, rest, &last);
            add_block(x, row, rows, whole, last.q, last.scales, type, sums, n);
        }
    }
    UNROLL for (int r = 0; r < rows; r++) {
        put_columns(c + r * TILE_COLUMNS, sums[r]);
    }
}

INLINE void multiply_of(const Tile *tile, WeightType type, float *c) {
    const QuantRows *x = tile->quantized;
    WeightRows w = {.columns = tile->w->columns, .ahead = COLUMNS * row_bytes(tile->w)};
    for (int n = 0; n < tile->columns; n += COLUMNS) {
        for (int i = 0; i < COLUMNS; i++) {
            w.q[i] = (const uint8_t *)tile_w(tile, n + i);
            w.scales[i] = tile_scales(tile, n + i);
        }
        for (int r = 0; r < tile->rows; r += QUANT_GROUP) {
            float *to = c + r * TILE_COLUMNS + n;
            int rows = min_int(QUANT_GROUP, tile->rows - r);
            if (rows == 1)
                multiply_rows(x, r, 1, &w, type, to);
            else if (rows == 2)
                multiply_rows(x, r, 2, &w, type, to);
            else if (rows == 3)
                multiply_rows(x, r, 3, &w, type, to);
            else
                multiply_rows(x, r, QUANT_GROUP, &w, type, to);
        }
    }
}

TARGET void NAME(multiply_quant)(const Tile *tile, float *c, void *scratch) {
    (void)scratch;
    if (tile->w->type == WEIGHT_Q8)
        multiply_of(tile, WEIGHT_Q8, c);
    else
        multiply_of(tile, WEIGHT_Q4, c);
}
