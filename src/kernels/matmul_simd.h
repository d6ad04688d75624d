/*
 * matmul_simd.h - the kernels of matmul.c's design, written once over a vector.
 * Each instruction set's file defines the vector and includes this.
 *
 *   TARGET        the function attribute that allows the instructions
 *   NAME(suffix)  the name of an exported function
 *   COLUMNS       weight rows side by side: one vector of results
 *   Element       of a packed row: float or bf16 bits
 *   STEP          elements in one vector
 *   Operand       a vector of them
 *   Sum           a vector of f32 partial sums
 *
 *   Operand load_x(const float *x)
 *   Operand load_w(const void *w, WeightType type)        type is a constant
 *   Operand load_x_part(const float *x, int count)        count < STEP, reads no more;
 *   Operand load_w_part(const void *w, WeightType type, int count)   the rest is 0
 *   Operand load_packed(const Element *from)              aligned
 *   void    store_packed(Element *to, Operand values)
 *   Sum     multiply_add(Sum sum, Operand x, Operand w)
 *   void    put_sums(float *c, const Sum *sums, bool first)
 *           sums[COLUMNS], each added up, to or into c[COLUMNS]
 */
#include <stdbool.h>
#include <string.h>

#define ROWS 3 /* of x side by side: ROWS * COLUMNS sums fill the registers */
#define DEPTH ((int)(BLOCK_BYTES / sizeof(Element)))

/* One row's block as the packed kernel wants it; elements up to a multiple of STEP. */
INLINE void pack_x(const float *x, int count, Element *to) {
    int k = 0;
    for (; k + STEP <= count; k += STEP)
        store_packed(to + k, load_x(x + k));
    if (k < count)
        store_packed(to + k, load_x_part(x + k, count - k));
}

INLINE void pack_w_of(const char *w, WeightType type, int count, Element *to) {
    int k = 0;
    for (; k + STEP <= count; k += STEP)
        store_packed(to + k, load_w(w + (size_t)k * weight_bytes(type), type));
    if (k < count)
        store_packed(to + k, load_w_part(w + (size_t)k * weight_bytes(type), type, count - k));
}

INLINE void pack_w(const char *w, WeightType type, int count, Element *to) {
    if (type == WEIGHT_BF16)
        pack_w_of(w, WEIGHT_BF16, count, to);
    else if (type == WEIGHT_F16)
        pack_w_of(w, WEIGHT_F16, count, to);
    else
        pack_w_of(w, WEIGHT_F32, count, to);
}

/* x: rows <= ROWS packed rows, w: COLUMNS packed rows, both DEPTH apart. c: rows TILE_COLUMNS
 * apart. */
INLINE void multiply_packed(const Element *x, const Element *w, int count, int rows, float *c,
                            bool first) {
    Sum sums[ROWS][COLUMNS] = {0};
    for (int k = 0; k < count; k += STEP) {
        Operand xs[ROWS];
        for (int r = 0; r < rows; r++)
            xs[r] = load_packed(x + r * DEPTH + k);
        for (int n = 0; n < COLUMNS; n++) {
            Operand ws = load_packed(w + n * DEPTH + k);
            for (int r = 0; r < rows; r++)
                sums[r][n] = multiply_add(sums[r][n], xs[r], ws);
        }
    }
    for (int r = 0; r < rows; r++)
        put_sums(c + r * TILE_COLUMNS, sums[r], first);
}

TARGET void NAME(multiply_many)(const Tile *tile, float *c, void *scratch) {
    Element *x = scratch, *w = x + TILE_ROWS * DEPTH;
    size_t element = weight_bytes(tile->w->type);
    for (int k = 0; k < tile->w->columns; k += DEPTH) {
        int count = min_int(DEPTH, tile->w->columns - k);
        for (int r = 0; r < tile->rows; r++)
            pack_x(tile_x(tile, r) + k, count, x + r * DEPTH);
        for (int n = 0; n < tile->columns; n += COLUMNS) {
            for (int i = 0; i < COLUMNS; i++)
                pack_w(tile_w(tile, n + i) + (size_t)k * element, tile->w->type, count,
                       w + i * DEPTH);
            int r = 0;
            for (; r + ROWS <= tile->rows; r += ROWS)
                multiply_packed(x + r * DEPTH, w, count, ROWS, c + r * TILE_COLUMNS + n, k == 0);
            if (tile->rows - r == 2)
                multiply_packed(x + r * DEPTH, w, count, 2, c + r * TILE_COLUMNS + n, k == 0);
            else if (tile->rows - r == 1)
                multiply_packed(x + r * DEPTH, w, count, 1, c + r * TILE_COLUMNS + n, k == 0);
        }
    }
}

/* As multiply_packed, on rows as they lie: x[rows], w[COLUMNS]. */
INLINE void multiply_lying(const float *const *x, const char *const *w, WeightType type, int count,
                           int rows, float *c, bool first) {
    Sum sums[ROWS][COLUMNS] = {0};
    int k = 0;
    for (; k + STEP <= count; k += STEP) {
        Operand xs[ROWS];
        for (int r = 0; r < rows; r++)
            xs[r] = load_x(x[r] + k);
        for (int n = 0; n < COLUMNS; n++) {
            Operand ws = load_w(w[n] + (size_t)k * weight_bytes(type), type);
            for (int r = 0; r < rows; r++)
                sums[r][n] = multiply_add(sums[r][n], xs[r], ws);
        }
    }
    if (k < count) {
        Operand xs[ROWS];
        for (int r = 0; r < rows; r++)
            xs[r] = load_x_part(x[r] + k, count - k);
        for (int n = 0; n < COLUMNS; n++) {
            Operand ws = load_w_part(w[n] + (size_t)k * weight_bytes(type), type, count - k);
            for (int r = 0; r < rows; r++)
                sums[r][n] = multiply_add(sums[r][n], xs[r], ws);
        }
    }
    for (int r = 0; r < rows; r++)
        put_sums(c + r * TILE_COLUMNS, sums[r], first);
}

INLINE void multiply_rows(const float *const *x, const char *const *w, WeightType type, int count,
                          int rows, float *c, bool first) {
    if (rows == 1)
        multiply_lying(x, w, type, count, 1, c, first);
    else if (rows == 2)
        multiply_lying(x, w, type, count, 2, c, first);
    else
        multiply_lying(x, w, type, count, ROWS, c, first);
}

INLINE void few_of(const Tile *tile, WeightType type, float *c) {
    for (int n = 0; n < tile->columns; n += COLUMNS)
        for (int k = 0; k < tile->w->columns; k += DEPTH) {
            int count = min_int(DEPTH, tile->w->columns - k);
            const char *w[COLUMNS];
            for (int i = 0; i < COLUMNS; i++)
                w[i] = tile_w(tile, n + i) + (size_t)k * weight_bytes(type);
            for (int r = 0; r < tile->rows; r += ROWS) {
                const float *x[ROWS];
                int rows = min_int(ROWS, tile->rows - r);
                for (int i = 0; i < rows; i++)
                    x[i] = tile_x(tile, r + i) + k;
                multiply_rows(x, w, type, count, rows, c + r * TILE_COLUMNS + n, k == 0);
            }
        }
}

TARGET void NAME(multiply_few)(const Tile *tile, float *c, void *scratch) {
    (void)scratch;
    if (tile->w->type == WEIGHT_BF16)
        few_of(tile, WEIGHT_BF16, c);
    else if (tile->w->type == WEIGHT_F16)
        few_of(tile, WEIGHT_F16, c);
    else
        few_of(tile, WEIGHT_F32, c);
}
