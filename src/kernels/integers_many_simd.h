/*
 * integers_many_simd.h - matmul.c's form for many rows, of integers. Included after
 * integers_simd.h; in addition
 *
 *   NAME(prefix)   the name of an exported function
 *   X_DEPTH        elements of a row of x that are packed at once: rows that are no longer
 *                  are packed once for all tiles of the same rows
 */
#define SPANS (TILE_ROWS / SPAN)
#define X_BLOCKS (X_DEPTH / BLOCK)

typedef struct Scratch {
    LaneBlock x[SPANS][X_BLOCKS];
    float x_scales[SPANS][X_BLOCKS][SPAN];
    float sums[SPANS][TILE_COLUMNS][SPAN];
    PackedWeights w;
} Scratch;

_Static_assert(sizeof(Scratch) <= KERNEL_SCRATCH_BYTES, "integers need more scratch");
_Static_assert(TILE_ROWS % SPAN == 0 && X_DEPTH % DEPTH == 0, "whole spans and depths");

/* A block of a row of x, or what is there of it. */
static inline void fetch_block(const float *x) {
    for (int i = 0; i < BLOCK; i += CACHE_LINE / (int)sizeof *x)
        __builtin_prefetch(x + i);
}

/* Columns k..k+count-1 of the tile's rows of x; what comes next is fetched early. */
INLINE void pack_x(const Tile *tile, int k, int count, Scratch *scratch) {
    int most = X_MOST_QUANTIZED;
#if !BYTES
    if (!is_quantized(tile->w->type))
        most = X_MOST;
#endif
    for (int row = 0; row < tile->rows; row += LANES) {
        int rows = min_int(LANES, tile->rows - row), span = row / SPAN;
        for (int b = 0; b < ceil_div(count, BLOCK); b++) {
            const float *x[LANES];
            bool last = (b + 1) * BLOCK >= count;
            for (int i = 0; i < rows; i++) {
                int next_row = min_int(row + i + LANES, tile->rows - 1);
                x[i] = tile_x(tile, row + i) + k + b * BLOCK;
                fetch_block(last ? tile_x(tile, next_row) + k : x[i] + BLOCK);
            }
            pack_lanes(x, rows, count - b * BLOCK, most, &scratch->x[span][b],
                       scratch->x_scales[span][b], row % SPAN);
#if BYTES
            begin_lanes(&scratch->x[span][b], row % SPAN, tile->w->type);
#endif
        }
    }
}

TARGET void NAME(multiply_many)(const Tile *tile, float *c, void *memory) {
    Scratch *scratch = memory;
    int columns = tile->w->columns;
    for (int k = 0; k < columns; k += DEPTH) {
        int b = k % X_DEPTH / BLOCK;
        if (b == 0 && (!tile->copied || columns > X_DEPTH))
            pack_x(tile, k, min_int(X_DEPTH, columns - k), scratch);
        Spans spans = {scratch->x[0] + b, scratch->x_scales[0] + b, X_BLOCKS, scratch->sums};
        multiply_spans(tile, &spans, k, &scratch->w);
    }
    for (int row = 0; row < tile->rows; row += SPAN)
        put_span(scratch->sums[row / SPAN], min_int(SPAN, tile->rows - row), tile->columns,
                 c + row * TILE_COLUMNS);
}
