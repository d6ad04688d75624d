/*
 * gemm_simd.h - products of two f32 panels, written once over a vector. Included
 * after matmul_simd.h by the files whose Operand is a vector of f32, which define
 * in addition:
 *
 *   GEMM_VECTORS   of columns of c side by side; GEMM_ROWS rows of them fill the
 *                  registers
 *   void store_x(float *to, Operand values)
 *   Sum  broadcast(const float *value)
 *   void transpose(Sum *rows)               rows[STEP], a square of numbers
 *
 * c's columns run along the vectors, each number of a is multiplied by a row of
 * b, and k is summed in one order. For a b^T, b is transposed block by block.
 */
#define GEMM_ROWS 6
#define GEMM_WIDTH (GEMM_VECTORS * STEP)
#define GEMM_DEPTH 128 /* a multiple of STEP: rows of b that stay in the first cache */

/* c[rows][vectors * STEP] (+)= a b, where a has `rows` rows and b a.columns. */
INLINE void gemm_tile(Panel a, Panel b, int rows, int vectors, float *c, int c_stride, bool first) {
    Sum sums[GEMM_ROWS][GEMM_VECTORS];
    UNROLL for (int r = 0; r < rows; r++) {
        UNROLL for (int v = 0; v < vectors; v++) {
            sums[r][v] = first ? (Sum){0} : load_x(c + (size_t)r * (size_t)c_stride + v * STEP);
        }
    }
    for (int k = 0; k < a.columns; k++) {
        Sum bs[GEMM_VECTORS];
        UNROLL for (int v = 0; v < vectors; v++) {
            bs[v] = load_x(b.data + (size_t)k * (size_t)b.stride + v * STEP);
        }
        UNROLL for (int r = 0; r < rows; r++) {
            Sum as = broadcast(a.data + (size_t)r * (size_t)a.stride + k);
            UNROLL for (int v = 0; v < vectors; v++) {
                sums[r][v] = multiply_add(sums[r][v], as, bs[v]);
            }
        }
    }
    UNROLL for (int r = 0; r < rows; r++) {
        UNROLL for (int v = 0; v < vectors; v++) {
            store_x(c + (size_t)r * (size_t)c_stride + v * STEP, sums[r][v]);
        }
    }
}

/* As above, into the first columns of c's first rows, by way of a copy if they are narrower. */
INLINE void gemm_rows(Panel a, Panel b, int rows, int vectors, Panel c, bool first) {
    float narrow[GEMM_ROWS * GEMM_WIDTH];
    size_t bytes = (size_t)c.columns * sizeof *c.data;
    if (c.columns == vectors * STEP) {
        gemm_tile(a, b, rows, vectors, c.data, c.stride, first);
        return;
    }
    for (int r = 0; !first && r < rows; r++)
        memcpy(narrow + r * GEMM_WIDTH, c.data + (size_t)r * (size_t)c.stride, bytes);
    gemm_tile(a, b, rows, vectors, narrow, GEMM_WIDTH, first);
    for (int r = 0; r < rows; r++)
        memcpy(c.data + (size_t)r * (size_t)c.stride, narrow + r * GEMM_WIDTH, bytes);
}

/* All rows of a. b may be read up to vectors * STEP columns. */
INLINE void gemm_block(Panel a, Panel b, int vectors, Panel c, bool first) {
    for (int left = a.rows; left > 0;) {
        int rows = left >= GEMM_ROWS ? GEMM_ROWS : left >= 4 ? 4 : left >= 2 ? 2 : 1;
        if (rows == GEMM_ROWS)
            gemm_rows(a, b, GEMM_ROWS, vectors, c, first);
        else if (rows == 4)
            gemm_rows(a, b, 4, vectors, c, first);
        else if (rows == 2)
            gemm_rows(a, b, 2, vectors, c, first);
        else
            gemm_rows(a, b, 1, vectors, c, first);
        a.data += (size_t)rows * (size_t)a.stride;
        c.data += (size_t)rows * (size_t)c.stride;
        left -= rows;
    }
}

/* to[b.columns][GEMM_WIDTH] = b^T, 0 beyond its rows, for a multiple of STEP of them. */
INLINE void gemm_transpose(Panel b, float *to) {
    for (int n = 0; n < b.rows; n += STEP)
        for (int k = 0; k < b.columns; k += STEP) {
            Sum square[STEP];
            UNROLL for (int r = 0; r < STEP; r++) {
                const float *row =
                    b.data + (size_t)min_int(n + r, b.rows - 1) * (size_t)b.stride + k;
                square[r] = n + r >= b.rows         ? (Sum){0}
                            : k + STEP <= b.columns ? load_x(row)
                                                    : load_x_part(row, b.columns - k);
            }
            transpose(square);
            UNROLL for (int r = 0; r < STEP; r++) {
                store_x(to + (k + r) * GEMM_WIDTH + n, square[r]);
            }
        }
}

/* to[b.rows][GEMM_WIDTH] = b, which is narrower than STEP, filled up with 0. */
INLINE void gemm_widen(Panel b, float *to) {
    for (int k = 0; k < b.rows; k++)
        store_x(to + k * GEMM_WIDTH, load_x_part(b.data + (size_t)k * (size_t)b.stride, b.columns));
}

INLINE Panel gemm_part(Panel panel, int row, int rows, int column, int columns) {
    return (Panel){panel.data + (size_t)row * (size_t)panel.stride + column, rows, columns,
                   panel.stride};
}

/* Columns n.. of c; b is [n][k] if transposed, else [k][n]. Returns how many were made. */
INLINE int gemm_columns(Panel a, Panel b, bool transposed, Panel c, int n) {
    float block[GEMM_DEPTH * GEMM_WIDTH] __attribute__((aligned(64)));
    bool wide = c.columns - n >= GEMM_WIDTH;
    int width = min_int(wide ? GEMM_WIDTH : STEP, c.columns - n);
    for (int k = 0; k < a.columns; k += GEMM_DEPTH) {
        int depth = min_int(GEMM_DEPTH, a.columns - k);
        Panel left = gemm_part(a, 0, a.rows, k, depth), out = gemm_part(c, 0, c.rows, n, width);
        Panel right = {block, depth, width, GEMM_WIDTH};
        if (transposed)
            gemm_transpose(gemm_part(b, n, width, k, depth), block);
        else if (width < STEP)
            gemm_widen(gemm_part(b, k, depth, n, width), block);
        else
            right = gemm_part(b, k, depth, n, width);
        if (wide)
            gemm_block(left, right, GEMM_VECTORS, out, k == 0);
        else
            gemm_block(left, right, 1, out, k == 0);
    }
    return width;
}

TARGET void NAME(gemm_nt)(Panel a, Panel b, Panel c) {
    for (int n = 0; n < c.columns;)
        n += gemm_columns(a, b, true, c, n);
}

TARGET void NAME(gemm_nn)(Panel a, Panel b, Panel c) {
    for (int n = 0; n < c.columns;)
        n += gemm_columns(a, b, false, c, n);
}
