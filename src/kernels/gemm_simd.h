/*
 * gemm_simd.h - products of two f32 panels, written once over a vector. Included
 * after matmul_simd.h by the files whose Operand is a vector of f32, which define
 * in addition:
 *
 *   GEMM_VECTORS          of columns of c side by side; GEMM_ROWS rows of them
 *                         fill the registers
 *   Sum  broadcast(const float *value)
 *   void transpose(Sum *rows)               rows[STEP], a square of numbers
 *
 * c's columns run along the vectors, each number of a is multiplied by a row of
 * b, and k is summed in one order. For a b^T, b is transposed block by block.
 */
#define GEMM_ROWS 6
#define GEMM_WIDTH (GEMM_VECTORS * STEP)
#define GEMM_DEPTH 128 /* a multiple of STEP: rows of b that stay in the first cache */

/* c (+)= a b, GEMM_WIDTH columns of rows <= GEMM_ROWS rows, that lie stride apart; count rows of b.
 */
INLINE void gemm_tile(Panel a, const float *b, int b_stride, int count, int rows, float *c,
                      int c_stride, bool first) {
    Sum sums[GEMM_ROWS][GEMM_VECTORS];
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < GEMM_VECTORS; v++)
            sums[r][v] = first ? (Sum){0} : load_x(c + (size_t)r * (size_t)c_stride + v * STEP);
    for (int k = 0; k < count; k++) {
        Sum bs[GEMM_VECTORS];
        for (int v = 0; v < GEMM_VECTORS; v++)
            bs[v] = load_x(b + (size_t)k * (size_t)b_stride + v * STEP);
        for (int r = 0; r < rows; r++) {
            Sum as = broadcast(a.data + (size_t)r * (size_t)a.stride + k);
            for (int v = 0; v < GEMM_VECTORS; v++)
                sums[r][v] = multiply_add(sums[r][v], as, bs[v]);
        }
    }
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < GEMM_VECTORS; v++)
            store_x(c + (size_t)r * (size_t)c_stride + v * STEP, sums[r][v]);
}

/* All rows of a, columns k..k+count, by a block of b; c: its GEMM_WIDTH columns, or fewer. */
INLINE void gemm_block(Panel a, int k, int count, const float *b, int b_stride, Panel c) {
    for (int r = 0, rows; r < a.rows; r += rows) {
        int left = a.rows - r;
        rows = left >= GEMM_ROWS ? GEMM_ROWS : left >= 4 ? 4 : left >= 2 ? 2 : 1;
        Panel from = {a.data + (size_t)r * (size_t)a.stride + k, rows, count, a.stride};
        float *to = c.data + (size_t)r * (size_t)c.stride;
        float edge[GEMM_ROWS * GEMM_WIDTH];
        bool whole = c.columns == GEMM_WIDTH;
        float *sums = whole ? to : edge;
        int stride = whole ? c.stride : GEMM_WIDTH;
        for (int i = 0; !whole && k > 0 && i < rows; i++)
            memcpy(edge + i * GEMM_WIDTH, to + (size_t)i * (size_t)c.stride,
                   (size_t)c.columns * sizeof *to);
        if (rows == GEMM_ROWS)
            gemm_tile(from, b, b_stride, count, GEMM_ROWS, sums, stride, k == 0);
        else if (rows == 4)
            gemm_tile(from, b, b_stride, count, 4, sums, stride, k == 0);
        else if (rows == 2)
            gemm_tile(from, b, b_stride, count, 2, sums, stride, k == 0);
        else
            gemm_tile(from, b, b_stride, count, 1, sums, stride, k == 0);
        for (int i = 0; !whole && i < rows; i++)
            memcpy(to + (size_t)i * (size_t)c.stride, edge + i * GEMM_WIDTH,
                   (size_t)c.columns * sizeof *to);
    }
}

/* to[GEMM_DEPTH][GEMM_WIDTH] = columns k.. of b's rows n.., 0 where there are none. */
INLINE void gemm_transpose(Panel b, int n, int k, int count, float *to) {
    for (int v = 0; v < GEMM_WIDTH; v += STEP)
        for (int i = 0; i < count; i += STEP) {
            Sum square[STEP];
            for (int r = 0; r < STEP; r++) {
                bool exists = n + v + r < b.rows;
                const float *row = b.data + (size_t)(exists ? n + v + r : 0) * (size_t)b.stride + k;
                square[r] = !exists             ? (Sum){0}
                            : i + STEP <= count ? load_x(row + i)
                                                : load_x_part(row + i, count - i);
            }
            transpose(square);
            for (int r = 0; r < STEP; r++)
                store_x(to + (i + r) * GEMM_WIDTH + v, square[r]);
        }
}

/* Columns n.. of a panel, GEMM_WIDTH or fewer. */
INLINE Panel gemm_columns(Panel panel, int n) {
    return (Panel){panel.data + n, panel.rows, min_int(GEMM_WIDTH, panel.columns - n),
                   panel.stride};
}

TARGET void NAME(gemm_nt)(Panel a, Panel b, Panel c) {
    float block[GEMM_DEPTH * GEMM_WIDTH] __attribute__((aligned(64)));
    for (int n = 0; n < c.columns; n += GEMM_WIDTH)
        for (int k = 0; k < a.columns; k += GEMM_DEPTH) {
            int count = min_int(GEMM_DEPTH, a.columns - k);
            gemm_transpose(b, n, k, count, block);
            gemm_block(a, k, count, block, GEMM_WIDTH, gemm_columns(c, n));
        }
}

TARGET void NAME(gemm_nn)(Panel a, Panel b, Panel c) {
    float block[GEMM_DEPTH * GEMM_WIDTH] __attribute__((aligned(64)));
    for (int n = 0; n < c.columns; n += GEMM_WIDTH)
        for (int k = 0; k < a.columns; k += GEMM_DEPTH) {
            int count = min_int(GEMM_DEPTH, a.columns - k);
            const float *from = b.data + (size_t)k * (size_t)b.stride + n;
            Panel to = gemm_columns(c, n);
            if (to.columns == GEMM_WIDTH) {
                gemm_block(a, k, count, from, b.stride, to);
                continue;
            }
            for (int i = 0; i < count; i++) {
                memcpy(block + i * GEMM_WIDTH, from + (size_t)i * (size_t)b.stride,
                       (size_t)to.columns * sizeof *block);
                memset(block + i * GEMM_WIDTH + to.columns, 0,
                       (size_t)(GEMM_WIDTH - to.columns) * sizeof *block);
            }
            gemm_block(a, k, count, block, GEMM_WIDTH, to);
        }
}

/* c = a b^T for up to ROWS rows of a: b as f32 weights. */
TARGET void NAME(gemm_nt_few)(Panel a, Panel b, Panel c) {
    float sums[ROWS * TILE_COLUMNS];
    const float *x[ROWS];
    const char *w[COLUMNS];
    for (int r = 0; r < a.rows; r++)
        x[r] = a.data + (size_t)r * (size_t)a.stride;
    for (int n = 0; n < b.rows; n += COLUMNS) {
        int columns = min_int(COLUMNS, b.rows - n);
        for (int i = 0; i < COLUMNS; i++)
            w[i] =
                (const char *)(b.data + (size_t)(n + min_int(i, columns - 1)) * (size_t)b.stride);
        multiply_rows(x, w, WEIGHT_F32, a.columns, a.rows, sums, true);
        for (int r = 0; r < a.rows; r++)
            memcpy(c.data + (size_t)r * (size_t)c.stride + n, sums + r * TILE_COLUMNS,
                   (size_t)columns * sizeof *sums);
    }
}
