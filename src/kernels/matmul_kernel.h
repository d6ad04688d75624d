/*
 * matmul_kernel.h - what the front in matmul.c asks of each instruction set.
 * Private to src/kernels and its tests.
 */
#ifndef OCR_MATMUL_KERNEL_H
#define OCR_MATMUL_KERNEL_H

#include "kernels/matmul.h"

/* The largest tile, and the scratch that a kernel may use for one. */
#define TILE_ROWS 96
#define TILE_COLUMNS 256
#define DEPTH 512 /* columns of x and w in work at once */
#define KERNEL_FLOATS ((TILE_ROWS + TILE_COLUMNS) * DEPTH)

/* A rectangle of a job's output, and the matrix whose product is wanted. */
typedef struct Tile {
    const Matmul *job;
    const Matrix *w;     /* job->w or job->up */
    int row, rows;       /* rows <= TILE_ROWS */
    int column, columns; /* columns <= TILE_COLUMNS */
} Tile;

/* Row r of the tile's x. */
static inline const float *tile_x(const Tile *tile, int r) {
    const Matmul *job = tile->job;
    int row = job->x_rows ? job->x_rows[tile->row + r] : tile->row + r;
    return job->x + (size_t)row * (size_t)job->x_stride;
}

/* Weight row of the tile's column c, from w column k on. */
const void *tile_w(const Tile *tile, int c, int k);

/* c = x w^T; c: [rows][TILE_COLUMNS], scratch: [KERNEL_FLOATS] */
void kernel_multiply_portable(const Tile *tile, float *c, float *scratch);

/* The plain loops that define a job's result, summed in double. */
void matmul_reference(const Matmul *job);

#endif
