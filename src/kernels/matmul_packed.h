/*
 * matmul_packed.h - the form for many rows, of f32. Included after matmul_simd.h; in addition
 *
 *   Operand widen_q8(const int8_t *q, float scale)   q[STEP] of one block, times scale
 */
/* Columns first..first+count-1 of a row, first a multiple of the block. */
INLINE void pack_q8(const int8_t *q, const uint16_t *scales, int first, int count, Element *to) {
    int k = 0;
    for (; k + Q8_BLOCK <= count; k += Q8_BLOCK) {
        float scale = bf16_to_f32(scales[(first + k) / Q8_BLOCK]);
        UNROLL for (int i = 0; i < Q8_BLOCK; i += STEP) {
            store_packed(to + k + i, widen_q8(q + first + k + i, scale));
        }
    }
    if (k < count) {
        float values[Q8_BLOCK];
        dequantize_q8(q, scales, first + k, count - k, values);
        pack_x(values, count - k, to + k);
    }
}

INLINE void pack_q4(const uint8_t *q, const uint16_t *scales, int first, int count, Element *to) {
    float values[DEPTH];
    dequantize_q4(q, scales, first, count, values);
    pack_x(values, count, to);
}

/* Columns k..k+count-1 of the tile's weight row n. */
INLINE void pack_w(const Tile *tile, int n, int k, int count, Element *to) {
    WeightType type = tile->w->type;
    const char *w = tile_w(tile, n);
    if (type == WEIGHT_Q8) {
        pack_q8((const int8_t *)w, tile_scales(tile, n), k, count, to);
    } else if (type == WEIGHT_Q4) {
        pack_q4((const uint8_t *)w, tile_scales(tile, n), k, count, to);
    } else if (type == WEIGHT_BF16) {
        pack_w_of(w + weight_bytes(type, k), WEIGHT_BF16, count, to);
    } else if (type == WEIGHT_F16) {
        pack_w_of(w + weight_bytes(type, k), WEIGHT_F16, count, to);
    } else {
        pack_w_of(w + weight_bytes(type, k), WEIGHT_F32, count, to);
    }
}

/* c[rows][COLUMNS], rows TILE_COLUMNS apart, (+)= x[rows] w[COLUMNS]^T */
INLINE void multiply_packed(const Element *x, const Element *w, int count, int rows, float *c,
                            bool first) {
    Sum sums[ROWS][COLUMNS] = {0};
    for (int k = 0; k < count; k += STEP) {
        Operand xs[ROWS];
        UNROLL for (int r = 0; r < rows; r++) {
            xs[r] = load_packed(x + r * DEPTH + k);
        }
        UNROLL for (int n = 0; n < COLUMNS; n++) {
            Operand ws = load_packed(w + n * DEPTH + k);
            KEEP(ws);
            UNROLL for (int r = 0; r < rows; r++) {
                sums[r][n] = multiply_add(sums[r][n], xs[r], ws);
            }
        }
    }
    UNROLL for (int r = 0; r < rows; r++) {
        put_sums(c + r * TILE_COLUMNS, sums[r], first);
    }
}

/*
 * All rows of the tile by COLUMNS packed weights. Between them the weights that
 * are packed next, at w_next[COLUMNS], are fetched, so that memory and
 * arithmetic are busy at the same time.
 */
INLINE void multiply_panel(const Tile *tile, const Element *x, const Element *w, int count,
                           const char *const *w_next, float *c, bool first) {
    int lines = (int)weight_bytes(tile->w->type, count) / CACHE_LINE * COLUMNS, fetched = 0;
    for (int r = 0; r < tile->rows; r += ROWS) {
        for (int wanted = lines * (r + ROWS) / tile->rows; fetched < wanted; fetched++)
            __builtin_prefetch(w_next[fetched % COLUMNS] + fetched / COLUMNS * CACHE_LINE);
        if (tile->rows - r == 1)
            multiply_packed(x + r * DEPTH, w, count, 1, c + r * TILE_COLUMNS, first);
        else if (tile->rows - r == 2)
            multiply_packed(x + r * DEPTH, w, count, 2, c + r * TILE_COLUMNS, first);
        else
            multiply_packed(x + r * DEPTH, w, count, ROWS, c + r * TILE_COLUMNS, first);
    }
}

TARGET void NAME(multiply_many)(const Tile *tile, float *c, void *scratch) {
    Element *x = scratch, *w = x + TILE_ROWS * DEPTH;
    WeightType type = tile->w->type;
    for (int k = 0; k < tile->w->columns; k += DEPTH) {
        int count = min_int(DEPTH, tile->w->columns - k);
        for (int r = 0; r < tile->rows; r++)
            pack_x(tile_x(tile, r) + k, count, x + r * DEPTH);
        for (int n = 0; n < tile->columns; n += COLUMNS) {
            bool last = n + COLUMNS >= tile->columns;
            const char *w_next[COLUMNS];
            for (int i = 0; i < COLUMNS; i++) {
                pack_w(tile, n + i, k, count, w + i * DEPTH);
                w_next[i] = last ? tile_w(tile, i) + weight_bytes(type, k + DEPTH)
                                 : tile_w(tile, n + COLUMNS + i) + weight_bytes(type, k);
            }
            multiply_panel(tile, x, w, count, w_next, c + n, k == 0);
        }
    }
}
