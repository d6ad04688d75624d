/*
 * integers_many_simd.h - matmul.c's form for many rows, of integers. Included after
 * integers_simd.h; in addition NAME(prefix), the name of an exported function, and X_DEPTH of
 * integers_rows_simd.h.
 */
#include "kernels/integers_rows_simd.h"

typedef struct Scratch {
    RowsScratch rows;
    PackedWeights w;
} Scratch;

_Static_assert(sizeof(Scratch) <= KERNEL_SCRATCH_BYTES, "integers need more scratch");
_Static_assert(X_DEPTH % DEPTH == 0, "whole depths");

const RowsForm NAME(rows) = {pack_block, X_DEPTH, sizeof(TileLanes), pass_sums};

TARGET void NAME(multiply_many)(const Tile *tile, float *c, void *memory) {
    Scratch *scratch = memory;
    for (int k = 0; k < tile->w->columns; k += DEPTH) {
        int b = k % X_DEPTH / BLOCK;
        TileLanes *x = find_columns(tile, k, &scratch->rows.x);
        Spans spans = {x->x[0] + b, x->scales[0] + b, X_BLOCKS, scratch->rows.sums};
        multiply_spans(tile, &spans, k, &scratch->w);
    }
    if (c)
        put_tile(tile, scratch->rows.sums, c);
}
