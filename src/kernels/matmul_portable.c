#include "kernels/convert.h"
#include "kernels/matmul_kernel.h"

#include <cblas.h>
#include <string.h>

#define DEPTH ((int)(BLOCK_BYTES / sizeof(float)))
#define GROUP 16 /* weight rows that stay in the first cache while all rows of x pass */

/* Weight rows first.. of the tile, columns k..k+depth, as f32. w: [rows][DEPTH] */
static void widen(const Tile *tile, int first, int rows, int k, int depth, float *w) {
    WeightType type = tile->w->type;
    for (int n = 0; n < rows; n++)
        convert_to_f32(tile_w(tile, first + n) + (size_t)k * weight_bytes(type), type,
                       (size_t)depth, w + n * DEPTH);
}

/* Row by row, so that a row's sums do not depend on how many there are. */
void multiply_portable_few(const Tile *tile, float *c, void *scratch) {
    float *w = scratch;
    for (int n = 0; n < tile->columns; n += GROUP) {
        int group = min_int(GROUP, tile->columns - n);
        for (int k = 0; k < tile->w->columns; k += DEPTH) {
            int depth = min_int(DEPTH, tile->w->columns - k);
            widen(tile, n, group, k, depth, w);
            for (int r = 0; r < tile->rows; r++)
                cblas_sgemv(CblasRowMajor, CblasNoTrans, group, depth, 1.0f, w, DEPTH,
                            tile_x(tile, r) + k, 1, k ? 1.0f : 0.0f, c + r * TILE_COLUMNS + n, 1);
        }
    }
}

void multiply_portable_many(const Tile *tile, float *c, void *scratch) {
    float *x = scratch, *w = x + TILE_ROWS * DEPTH;
    for (int k = 0; k < tile->w->columns; k += DEPTH) {
        int depth = min_int(DEPTH, tile->w->columns - k);
        for (int r = 0; r < tile->rows; r++)
            memcpy(x + r * DEPTH, tile_x(tile, r) + k, (size_t)depth * sizeof *x);
        widen(tile, 0, tile->columns, k, depth, w);
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, tile->rows, tile->columns, depth, 1.0f,
                    x, DEPTH, w, DEPTH, k ? 1.0f : 0.0f, c, TILE_COLUMNS);
    }
}
