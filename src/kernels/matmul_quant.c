/* Quantized weights by plain C. */
#include "kernels/quant_rows.h"

#include "kernels/convert.h"

#include <math.h>

/* One block of activations, x [Q8_BLOCK], to integers in out; returns the scale. */
static float quantize_block(const float *x, int16_t *out) {
    const float round_bias = 0x1.8p23f; /* adding it rounds to an integer in the low bits */
    uint32_t bits, most_bits = 0;
    float most;
    for (int i = 0; i < Q8_BLOCK; i++) { /* magnitudes compare as integers; NaN is above all */
        memcpy(&bits, &x[i], sizeof bits);
        most_bits = (bits & 0x7FFFFFFF) > most_bits ? bits & 0x7FFFFFFF : most_bits;
    }
    memcpy(&most, &most_bits, sizeof most);
    float inverse = most > 0x1p-100f ? QUANT_MOST / most : 0;
    for (int i = 0; i < Q8_BLOCK; i++) {
        float shifted = x[i] * inverse + round_bias;
        memcpy(&bits, &shifted, sizeof bits);
        out[i] = (int16_t)bits;
    }
    /* NaN and infinity cannot be integers: the scale carries them, as NaN. */
    return isfinite(most) ? most / QUANT_MOST : NAN;
}

void quantize_rows_portable(const Matmul *job, const QuantRows *rows) {
    for (int r = 0; r < job->rows; r++) {
        const float *x = job_x(job, r);
        for (int b = 0; b < q8_blocks(job->w.columns); b++) {
            size_t block = (size_t)r * (size_t)rows->blocks + (size_t)b;
            int first = b * Q8_BLOCK, rest = job->w.columns - first;
            float part[Q8_BLOCK] = {0};
            if (rest < Q8_BLOCK)
                memcpy(part, x + first, (size_t)rest * sizeof *part);
            rows->scales[block] = quantize_block(rest < Q8_BLOCK ? part : x + first,
                                                 (int16_t *)rows->x + block * Q8_BLOCK);
        }
    }
}

/* Up to Q8_BLOCK weights of a row, from column k on. */
typedef struct Block {
    int16_t w[Q8_BLOCK];
    bool halved;
    float scales[2]; /* of its halves, each a block, where weights are Q4; else the first one */
} Block;

static Block load_block(const Tile *tile, int n, int k) {
    const Matrix *w = tile->w;
    const char *row = tile_w(tile, n);
    const uint16_t *scales = tile_scales(tile, n);
    int count = min_int(Q8_BLOCK, w->columns - k);
    Block out = {.halved = w->type == WEIGHT_Q4};
    if (w->type == WEIGHT_Q8) {
        for (int i = 0; i < count; i++)
            out.w[i] = (int8_t)row[k + i];
        out.scales[0] = bf16_to_f32(scales[k / Q8_BLOCK]);
        return out;
    }
    for (int b = 0; b < q4_blocks(count); b++) {
        const uint8_t *q = (const uint8_t *)row + q4_row_bytes(k + b * Q4_BLOCK);
        int16_t *to = out.w + b * Q4_BLOCK;
        for (int i = 0; i < Q4_BLOCK / 2; i++) {
            to[i] = (int16_t)((q[i] & 15) - 8);
            to[i + Q4_BLOCK / 2] = (int16_t)((q[i] >> 4) - 8);
        }
        out.scales[b] = bf16_to_f32(scales[k / Q4_BLOCK + b]);
    }
    return out;
}

static float multiply_block(float sum, const Block *w, const int16_t *x, float x_scale) {
    int halves[2] = {0};
    for (int i = 0; i < Q8_BLOCK; i++)
        halves[i / Q4_BLOCK] += w->w[i] * x[i];
    if (!w->halved)
        return sum + w->scales[0] * x_scale * (float)(halves[0] + halves[1]);
    return sum + w->scales[0] * x_scale * (float)halves[0] +
           w->scales[1] * x_scale * (float)halves[1];
}

void multiply_quant_portable(const Tile *tile, float *c, void *scratch) {
    const QuantRows *x = tile->quantized;
    (void)scratch;
    for (int n = 0; n < tile->columns; n++) {
        for (int r = 0; r < tile->rows; r++)
            c[r * TILE_COLUMNS + n] = 0;
        for (int b = 0; b < q8_blocks(tile->w->columns); b++) {
            Block w = load_block(tile, n, b * Q8_BLOCK);
            for (int r = 0; r < tile->rows; r++) {
                size_t block = (size_t)r * (size_t)x->blocks + (size_t)b;
                float *sum = &c[r * TILE_COLUMNS + n];
                *sum = multiply_block(*sum, &w, (const int16_t *)x->x + block * Q8_BLOCK,
                                      x->scales[block]);
            }
        }
    }
}
