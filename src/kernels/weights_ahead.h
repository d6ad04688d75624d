/*
 * weights_ahead.h - weights that a kernel for many rows will want next are fetched while it
 * multiplies, so that memory and arithmetic are busy at the same time.
 */
#ifndef OCR_WEIGHTS_AHEAD_H
#define OCR_WEIGHTS_AHEAD_H

#include "kernels/matmul_kernel.h"

/* Rows of weights, of which each call fetches a share. */
typedef struct Ahead {
    const char *row;
    size_t stride, bytes; /* from row to row; of a row */
    size_t at;            /* in the row */
    int rows, lines;      /* that are left; for each call */
} Ahead;

/*
 * Up to `rows` of them from the tile's row n on, `depth` columns from k on, to be fetched in so
 * many calls; behind the last row, the first ones' next columns.
 */
static inline Ahead look_ahead(const Tile *tile, int n, int rows, int k, int depth, int calls) {
    const Matrix *w = tile->w;
    if (n >= tile->columns) {
        n = 0;
        k += depth;
    }
    if (k >= w->columns)
        return (Ahead){0};
    Ahead ahead = {.row = tile_w(tile, n) + weight_bytes(w->type, k),
                   .stride = row_bytes(w),
                   .bytes = weight_bytes(w->type, min_int(depth, w->columns - k)),
                   .rows = min_int(rows, tile->columns - n)};
    ahead.lines = ceil_div(ahead.rows * ceil_div((int)ahead.bytes, CACHE_LINE), calls);
    return ahead;
}

/* One of the calls. */
static inline void fetch(Ahead *ahead) {
    for (int i = 0; i < ahead->lines && ahead->rows > 0; i++) {
        __builtin_prefetch(ahead->row + ahead->at);
        ahead->at += CACHE_LINE;
        if (ahead->at >= ahead->bytes) {
            ahead->at = 0;
            ahead->row += ahead->stride;
            ahead->rows--;
        }
    }
}

#endif
