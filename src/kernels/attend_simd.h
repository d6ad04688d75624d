/*
 * attend_simd.h - the loops of attend.h, written once over a vector. Included after
 * matmul_simd.h by the files whose Operand is a vector of f32, which define in addition
 * store_x and broadcast, as for gemm_simd.h.
 */
#define STRIP 8 /* vectors of sums: enough to hide the latency of adding */

/* ---- a query and keys: one row of x by as many weights ---- */

INLINE void attend_keys_of(const float *q, const Matrix *keys, WeightType type, float *scores) {
    size_t row = weight_bytes(type, keys->columns);
    Lying l = {.x = {q}, .count = keys->columns};
    for (int n = 0; n < keys->rows; n += COLUMNS) {
        float sums[COLUMNS];
        int count = min_int(COLUMNS, keys->rows - n);
        const char *first = (const char *)keys->data + (size_t)n * row;
        for (int i = 0; i < COLUMNS; i++)
            l.w[i] = first + (size_t)min_int(i, count - 1) * row;
        l.next = first + COLUMNS * row;
        multiply_lying(&l, type, 1, sums, true);
        memcpy(scores + n, sums, (size_t)count * sizeof *sums);
    }
}

TARGET void NAME(attend_keys)(const float *q, const Matrix *keys, float *scores) {
    if (keys->type == WEIGHT_BF16)
        attend_keys_of(q, keys, WEIGHT_BF16, scores);
    else
        attend_keys_of(q, keys, WEIGHT_F32, scores);
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

TARGET void NAME(attend_values)(const float *weights, const Matrix *values, float *out) {
    if (values->type == WEIGHT_BF16)
        attend_values_of(weights, values, WEIGHT_BF16, out);
    else
        attend_values_of(weights, values, WEIGHT_F32, out);
}
