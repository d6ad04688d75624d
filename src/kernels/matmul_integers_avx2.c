/* Many rows by AVX2, as integers of 16 bits: see integers_avx2.h. */
#if defined(__x86_64__)
#include "kernels/integers_avx2.h"

#define SPANS (TILE_ROWS / SPAN)

typedef struct Scratch {
    LaneBlock x[SPANS][BLOCKS];
    float x_scales[SPANS][BLOCKS][SPAN];
    float sums[SPANS][TILE_COLUMNS][SPAN];
    PackedWeights w;
} Scratch;

_Static_assert(sizeof(Scratch) <= KERNEL_SCRATCH_BYTES, "integers need more scratch");
_Static_assert(TILE_ROWS % SPAN == 0, "whole spans");

/* Columns k..k+count-1 of the tile's rows of x. */
INLINE void pack_x(const Tile *tile, int k, int count, Scratch *scratch) {
    int most = is_quantized(tile->w->type) ? X_MOST_QUANTIZED : X_MOST;
    for (int row = 0; row < tile->rows; row += LANES) {
        int rows = min_int(LANES, tile->rows - row), span = row / SPAN;
        for (int b = 0; b < ceil_div(count, BLOCK); b++) {
            const float *x[LANES];
            for (int i = 0; i < rows; i++)
                x[i] = tile_x(tile, row + i) + k + b * BLOCK;
            pack_lanes(x, rows, count - b * BLOCK, most, &scratch->x[span][b],
                       scratch->x_scales[span][b], row % SPAN);
        }
    }
}

TARGET void multiply_many_integers(const Tile *tile, float *c, void *memory) {
    Scratch *scratch = memory;
    Spans spans = {scratch->x[0], scratch->x_scales[0], BLOCKS, scratch->sums};
    for (int k = 0; k < tile->w->columns; k += DEPTH) {
        if (!tile->copied || tile->w->columns > DEPTH)
            pack_x(tile, k, min_int(DEPTH, tile->w->columns - k), scratch);
        multiply_spans(tile, &spans, k, &scratch->w);
    }
    for (int row = 0; row < tile->rows; row += SPAN)
        put_span(scratch->sums[row / SPAN], min_int(SPAN, tile->rows - row), tile->columns,
                 c + row * TILE_COLUMNS);
}
#endif
