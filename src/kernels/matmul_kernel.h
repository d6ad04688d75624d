/*
 * matmul_kernel.h - between the front in matmul.c and the kernels of each
 * instruction set. Private to src/kernels and its tests.
 */
#ifndef OCR_MATMUL_KERNEL_H
#define OCR_MATMUL_KERNEL_H

#include "base/numbers.h"
#include "kernels/matmul.h"
#include "kernels/quant.h"

#include <stdbool.h>
#include <string.h>

#define TILE_ROWS 144
#define TILE_COLUMNS 384
#define BLOCK_BYTES 2048 /* of a row of x or w that is multiplied at one go */
#define CACHE_LINE 64    /* bytes */

/* Room for a block of all rows of a tile, of a few rows of weights, and for a copy of c. */
#define KERNEL_SCRATCH_BYTES                                                                       \
    ((TILE_ROWS + 32) * BLOCK_BYTES + TILE_ROWS * TILE_COLUMNS * (int)sizeof(float))

/* Before a loop of up to 24 rounds whose arrays shall be registers, at any level of optimisation.
 */
#define UNROLL _Pragma("GCC unroll 24")

/* A rectangle of a job's output, to be multiplied by one of its matrices. */
typedef struct Tile {
    const Matmul *job;
    const Matrix *w;                   /* job->w or job->up */
    const struct QuantRows *quantized; /* the job's x, for the kernels of quant_rows.h */
    int row, rows;                     /* 1..TILE_ROWS rows from row on */
    int column, columns;               /* 1..TILE_COLUMNS columns from column on */
    bool copied;             /* the kernel's scratch is as it was left by a tile of the same rows */
    const char *packed;      /* its rows of x, see RowsForm; NULL: the kernel packs them itself */
    const struct Tile *next; /* whose weights the thread will probably want next; or NULL */
} Tile;

/*
 * c = x w^T for one tile. c: [tile->rows][TILE_COLUMNS], of which columns beyond
 * tile->columns may be overwritten; scratch: KERNEL_SCRATCH_BYTES, aligned to 64.
 * NULL for c leaves the sums in scratch, for RowsForm.pass, where the kernel has one.
 */
typedef void MultiplyTile(const Tile *tile, float *c, void *scratch);

/* `few` reads each weight from the mapping, `many` first copies blocks into scratch, see matmul.c.
 */
MultiplyTile multiply_few_portable, multiply_many_portable;
MultiplyTile multiply_few_avx2, multiply_many_avx2;
MultiplyTile multiply_few_avx512, multiply_many_avx512;
MultiplyTile multiply_few_bf16, multiply_many_bf16; /* of bf16 weights, x rounded to bf16 */
MultiplyTile multiply_many_amx;                     /* likewise */
/* Of bf16 or quantized weights, both rounded to integers. */
MultiplyTile multiply_many_integers_avx2, multiply_many_integers_vnni;
MultiplyTile multiply_many_bytes_vnni, multiply_many_bytes_amx; /* of quantized weights */

/*
 * What such a kernel makes of a tile's rows of x, so that it is made once for all tiles of the same
 * rows: `depth` columns at a time, the last time maybe fewer, to blocks of so many bytes.
 */
typedef struct RowsForm {
    void (*pack)(const Tile *tile, int k, void *to); /* columns from k on; to: aligned to 64 */
    int depth;
    size_t bytes; /* whole cache lines */

    /*
     * What the tile's sums, which the kernel has left in its scratch, become as x of a product that
     * follows: finished, and packed to the blocks of its rows. The columns are whole blocks of x,
     * and the next weights of the same type.
     */
    void (*pass)(const Tile *tile, void *scratch, void *to);
} RowsForm;

/* Columns are passed in multiples of it: whole blocks of x in any form. */
#define PASSED_COLUMNS Q8_BLOCK

extern const RowsForm rows_amx, rows_bytes_amx;
extern const RowsForm rows_integers_avx2, rows_integers_vnni, rows_bytes_vnni;

/* As gemm_nt and gemm_nn. */
typedef void MultiplyPanels(Panel a, Panel b, Panel c);
MultiplyPanels gemm_nt_portable, gemm_nn_portable;
MultiplyPanels gemm_nt_avx2, gemm_nn_avx2;
MultiplyPanels gemm_nt_avx512, gemm_nn_avx512;

/* As attend_keys and attend_values. */
typedef void AttendRows(const float *x, const Matrix *rows, float *y);
AttendRows attend_keys_portable, attend_keys_avx2, attend_keys_avx512;
AttendRows attend_values_portable, attend_values_avx2, attend_values_avx512;
typedef void WidenRows(const Matrix *rows, float *out);
WidenRows attend_widen_portable, attend_widen_avx2, attend_widen_avx512;

/* bias, activation, residual: c and up [tile->rows][TILE_COLUMNS] to the job's y. Overwrites c. */
void matmul_finish(const Tile *tile, float *c, const float *up);

/*
 * bias, activation of a tile that stands with its rows side by side: of sums[count], of the tile's
 * columns from n on, `stride` apart, the first `rows` numbers.
 */
void matmul_finish_lanes(const Tile *tile, int n, int count, float *sums, int stride, int rows);

/* The loops that define a job's result, summed in double. */
void matmul_reference(const Matmul *job);

/* Of the first or last `count` weights of one row, with a whole last block of Q4. */
static inline size_t stored_bytes(WeightType type, int count) {
    return type == WEIGHT_Q4 ? q4_row_bytes(count) : weight_bytes(type, count);
}

static inline size_t row_bytes(const Matrix *w) {
    return stored_bytes(w->type, w->columns);
}

/* Row r of the job's x, and of the tile's. */
static inline const float *job_x(const Matmul *job, int r) {
    return job->x + (size_t)(job->x_rows ? job->x_rows[r] : r) * (size_t)job->x_stride;
}

static inline const float *tile_x(const Tile *tile, int r) {
    return job_x(tile->job, tile->row + r);
}

/*
 * The weights of the tile's column c. Kernels work on several columns at a time:
 * beyond the last one they are given the last one again.
 */
static inline const char *tile_w(const Tile *tile, int c) {
    int row = tile->column + min_int(c, tile->columns - 1);
    return (const char *)tile->w->data + (size_t)row * row_bytes(tile->w);
}

/* Of a row of quantized weights. */
static inline int row_scales(const Matrix *w) {
    return w->type == WEIGHT_Q8 ? q8_blocks(w->columns) : q4_blocks(w->columns);
}

/* The scales of the same row, if it is quantized. */
static inline const uint16_t *tile_scales(const Tile *tile, int c) {
    int row = tile->column + min_int(c, tile->columns - 1);
    return tile->w->scales + (size_t)row * (size_t)row_scales(tile->w);
}

#endif
