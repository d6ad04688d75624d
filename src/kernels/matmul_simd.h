/*
 * matmul_simd.h - the kernels of matmul.c's design, written once over a vector.
 * Each instruction set's file defines the vector and includes this.
 *
 *   TARGET        the function attribute that allows the instructions
 *   INLINE        what makes a function part of its caller, with the same attribute
 *   NAME(prefix)  the name of an exported function
 *   COLUMNS       weight rows side by side
 *   Element       of a packed row: float or bf16 bits
 *   STEP          elements in one vector
 *   Operand       a vector of them
 *   Sum           a vector of f32 partial sums
 *   KEEP(vector)  an empty instruction with vector in a register: the compiler
 *                 shall load it here and once, not again for each use
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
#define ROWS 3 /* of x side by side: ROWS * COLUMNS sums fill the registers */
#define DEPTH ((int)(BLOCK_BYTES / sizeof(Element)))
#define BYTES_AHEAD 1024 /* of each stream of weights, to be fetched early */

/* ---- rows as they lie ---- */

typedef struct Lying {
    const float *x[ROWS];
    const char *w[COLUMNS];
    size_t ahead; /* of each row of weights, in bytes, to be fetched early */
    int count;    /* columns */
    int stretch;  /* from one of the rows' results in c to the next */
} Lying;

/* c[rows], TILE_COLUMNS apart, (+)= x[rows] w[COLUMNS]^T */
INLINE void multiply_lying(const Lying *l, WeightType type, int rows, float *c, bool first) {
    size_t element = weight_bytes(type, 1);
    Sum sums[ROWS][COLUMNS] = {0};
    Operand xs[ROWS];
    int k = 0, rest = l->count % STEP;
    for (; k < l->count - rest; k += STEP) {
        UNROLL for (int r = 0; r < rows; r++) {
            xs[r] = load_x(l->x[r] + k);
        }
        UNROLL for (int n = 0; n < COLUMNS; n++) {
            Operand ws = load_w(l->w[n] + (size_t)k * element, type);
            if (STEP * element >= CACHE_LINE || (size_t)k * element % CACHE_LINE == 0)
                __builtin_prefetch(l->w[n] + (size_t)k * element + l->ahead);
            UNROLL for (int r = 0; r < rows; r++) {
                sums[r][n] = multiply_add(sums[r][n], xs[r], ws);
            }
        }
    }
    if (rest > 0) {
        UNROLL for (int r = 0; r < rows; r++) {
            xs[r] = load_x_part(l->x[r] + k, rest);
        }
        UNROLL for (int n = 0; n < COLUMNS; n++) {
            Operand ws = load_w_part(l->w[n] + (size_t)k * element, type, rest);
            UNROLL for (int r = 0; r < rows; r++) {
                sums[r][n] = multiply_add(sums[r][n], xs[r], ws);
            }
        }
    }
    UNROLL for (int r = 0; r < rows; r++) {
        float columns[COLUMNS], *to = c + r * TILE_COLUMNS;
        put_sums(columns, sums[r], true);
        for (int n = 0; n < COLUMNS; n++)
            to[n * l->stretch] = first ? columns[n] : to[n * l->stretch] + columns[n];
    }
}

/* The same with a number of rows that is no constant. */
INLINE void multiply_rows(const Lying *l, WeightType type, int rows, float *c, bool first) {
    if (rows == 1)
        multiply_lying(l, type, 1, c, first);
    else if (rows == 2)
        multiply_lying(l, type, 2, c, first);
    else
        multiply_lying(l, type, ROWS, c, first);
}

_Static_assert(TILE_COLUMNS % COLUMNS == 0, "stretches end within c");

/* Rows of weights are taken from as many stretches of the tile: memory is read in streams. */
INLINE void multiply_few_of(const Tile *tile, WeightType type, float *c) {
    size_t element = weight_bytes(type, 1);
    int stretch = ceil_div(tile->columns, COLUMNS);
    for (int n = 0; n < stretch; n++)
        for (int k = 0; k < tile->w->columns; k += DEPTH) {
            Lying l = {.count = min_int(DEPTH, tile->w->columns - k),
                       .ahead = BYTES_AHEAD,
                       .stretch = stretch};
            for (int i = 0; i < COLUMNS; i++)
                l.w[i] = tile_w(tile, n + i * stretch) + (size_t)k * element;
            for (int r = 0; r < tile->rows; r += ROWS) {
                int rows = min_int(ROWS, tile->rows - r);
                for (int i = 0; i < rows; i++)
                    l.x[i] = tile_x(tile, r + i) + k;
                multiply_rows(&l, type, rows, c + r * TILE_COLUMNS + n, k == 0);
            }
        }
}

TARGET void NAME(multiply_few)(const Tile *tile, float *c, void *scratch) {
    (void)scratch;
    if (tile->w->type == WEIGHT_BF16)
        multiply_few_of(tile, WEIGHT_BF16, c);
    else if (tile->w->type == WEIGHT_F16)
        multiply_few_of(tile, WEIGHT_F16, c);
    else
        multiply_few_of(tile, WEIGHT_F32, c);
}

/* ---- packed rows: DEPTH elements apart, filled up with 0 to a multiple of STEP ---- */

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
        store_packed(to + k, load_w(w + weight_bytes(type, k), type));
    if (k < count)
        store_packed(to + k, load_w_part(w + weight_bytes(type, k), type, count - k));
}
