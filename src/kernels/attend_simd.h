/*
 * attend_simd.h - the loops of attend.h, written once over a vector. Included after
 * matmul_packed.h by the files whose Operand is a vector of f32, which define in addition
 * store_x and broadcast, as for gemm_simd.h.
 */
#include "kernels/attend.h"

#define STRIP 8 /* vectors of sums: enough to hide the latency of adding */

/* ---- a query and keys: one row of x by as many weights ---- */

INLINE void attend_keys_of(const float *q, const Matrix *keys, WeightType type, float *scores) {
    size_t row = weight_bytes(type, keys->columns);
    Lying l = {.x = {q}, .ahead = COLUMNS * row, .count = keys->columns, .stretch = 1};
    for (int n = 0; n < keys->rows; n += COLUMNS) {
        float sums[COLUMNS];
        int count = min_int(COLUMNS, keys->rows - n);
        const char *first = (const char *)keys->data + (size_t)n * row;
        for (int i = 0; i < COLUMNS; i++)
            l.w[i] = first + (size_t)min_int(i, count - 1) * row;
        multiply_lying(&l, type, 1, sums, true);
        memcpy(scores + n, sums, (size_t)count * sizeof *sums);
    }
}

/* ---- weights and values ---- */

/* out[vectors * STEP] of the columns from `column` on. */
INLINE void attend_strip(const float *weights, const Matrix *values, WeightType type, int column,
                         int vectors, float *out) {
    size_t row = weight_bytes(type, values->columns);
    const char *at = (const char *)values->data + weight_bytes(type, column);
    Sum sums[STRIP] = {0};
    for (int r = 0; r < values->rows; r++, at += row) {
        Operand weight = broadcast(weights + r);
        UNROLL for (int v = 0; v < vectors; v++) {
            sums[v] =
                multiply_add(sums[v], weight, load_w(at + weight_bytes(type, v * STEP), type));
        }
    }
    UNROLL for (int v = 0; v < vectors; v++) {
        store_x(out + v * STEP, sums[v]);
    }
}

/* The same for the last columns, less than a vector. */
INLINE void attend_rest(const float *weights, const Matrix *values, WeightType type, int column,
                        float *out) {
    int count = values->columns - column;
    size_t row = weight_bytes(type, values->columns);
    const char *at = (const char *)values->data + weight_bytes(type, column);
    Sum sum = {0};
    float sums[STEP];
    for (int r = 0; r < values->rows; r++, at += row)
        sum = multiply_add(sum, broadcast(weights + r), load_w_part(at, type, count));
    store_x(sums, sum);
    memcpy(out, sums, (size_t)count * sizeof *sums);
}

INLINE void attend_values_of(const float *weights, const Matrix *values, WeightType type,
                             float *out) {
    int column = 0;
    for (; column + STRIP * STEP <= values->columns; column += STRIP * STEP)
        attend_strip(weights, values, type, column, STRIP, out + column);
    if (column + STRIP / 2 * STEP <= values->columns) {
        attend_strip(weights, values, type, column, STRIP / 2, out + column);
        column += STRIP / 2 * STEP;
    }
    for (; column + STEP <= values->columns; column += STEP)
        attend_strip(weights, values, type, column, 1, out + column);
    if (column < values->columns)
        attend_rest(weights, values, type, column, out + column);
}

/* ---- bytes ---- */

/* Row r of a matrix of Q8. */
typedef struct ByteRow {
    const int8_t *q;
    const uint16_t *scales;
} ByteRow;

INLINE ByteRow byte_row(const Matrix *m, int r) {
    size_t row = (size_t)r;
    return (ByteRow){(const int8_t *)m->data + row * (size_t)m->columns,
                     m->scales + row * (size_t)q8_blocks(m->columns)};
}

/* Block b of a row, `count` of which is there, with zeros behind in part[Q8_BLOCK]. */
INLINE const int8_t *row_block(ByteRow row, int b, int count, int8_t *part) {
    const int8_t *q = row.q + b * Q8_BLOCK;
    if (count >= Q8_BLOCK)
        return q;
    memset(part, 0, Q8_BLOCK);
    return memcpy(part, q, (size_t)count);
}

#define SCALED_ROWS 64
#define VALUES_AHEAD 2048 /* bytes, to be fetched early */

/* out[Q8_BLOCK] of block b of all values, of which `count` columns are there. */
INLINE void attend_byte_block(const float *weights, const Matrix *values, int b, int count,
                              float *out) {
    Sum sums[Q8_BLOCK / STEP] = {0};
    for (int first = 0; first < values->rows; first += SCALED_ROWS) {
        float scaled[SCALED_ROWS]; /* weights, of integers */
        int rows = min_int(SCALED_ROWS, values->rows - first);
        for (int r = 0; r < rows; r++)
            scaled[r] = weights[first + r] * bf16_to_f32(byte_row(values, first + r).scales[b]);
        for (int r = 0; r < rows; r++) {
            int8_t part[Q8_BLOCK];
            const int8_t *q = row_block(byte_row(values, first + r), b, count, part);
            Operand weight = broadcast(scaled + r);
            __builtin_prefetch(q + VALUES_AHEAD);
            UNROLL for (int i = 0; i < Q8_BLOCK / STEP; i++) {
                sums[i] = multiply_add(sums[i], weight, widen_q8(q + i * STEP, 1));
            }
        }
    }
    UNROLL for (int i = 0; i < Q8_BLOCK / STEP; i++) {
        store_x(out + i * STEP, sums[i]);
    }
}

INLINE void attend_byte_values(const float *weights, const Matrix *values, float *out) {
    int whole = values->columns / Q8_BLOCK, rest = values->columns % Q8_BLOCK;
    float last[Q8_BLOCK];
    for (int b = 0; b < whole; b++)
        attend_byte_block(weights, values, b, Q8_BLOCK, out + b * Q8_BLOCK);
    if (rest > 0) {
        attend_byte_block(weights, values, whole, rest, last);
        memcpy(out + whole * Q8_BLOCK, last, (size_t)rest * sizeof *last);
    }
}

/* ---- of each type ---- */

TARGET void NAME(attend_keys)(const float *q, const Matrix *keys, float *scores) {
    if (keys->type == WEIGHT_BF16)
        attend_keys_of(q, keys, WEIGHT_BF16, scores);
    else
        attend_keys_of(q, keys, WEIGHT_F32, scores);
}

TARGET void NAME(attend_values)(const float *weights, const Matrix *values, float *out) {
    if (values->type == WEIGHT_Q8)
        attend_byte_values(weights, values, out);
    else if (values->type == WEIGHT_BF16)
        attend_values_of(weights, values, WEIGHT_BF16, out);
    else
        attend_values_of(weights, values, WEIGHT_F32, out);
}

TARGET void NAME(attend_widen)(const Matrix *rows, float *out) {
    int columns = rows->columns;
    for (int r = 0; r < rows->rows; r++, out += attend_stride(columns)) {
        if (rows->type == WEIGHT_Q8) {
            ByteRow row = byte_row(rows, r);
            pack_q8(row.q, row.scales, 0, columns, out);
        } else {
            const char *row = (const char *)rows->data + (size_t)r * row_bytes(rows);
            pack_w_of(row, WEIGHT_BF16, columns, out);
        }
    }
}
