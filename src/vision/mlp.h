/*
 * mlp.h - the second half of a block, in both towers.
 */
#ifndef OCR_MLP_H
#define OCR_MLP_H

#include "kernels/compute.h"
#include "model/weights.h"

/* x += second(activation(first(norm of x))) */
typedef struct MlpRows {
    float *x;    /* [rows][width] */
    float *y;    /* [rows][width], overwritten */
    float *wide; /* [rows][inner], overwritten, or not */
    int rows;
    const Norm *norm;
    float epsilon;
    const Linear *first, *second; /* [inner][width], [width][inner] */
    Activation activation;
} MlpRows;

void mlp_rows(MlpRows job, const Compute *compute);

#endif
