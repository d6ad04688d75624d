/*
 * norm.h - the layer norm of all positions, for both towers.
 */
#ifndef OCR_NORM_H
#define OCR_NORM_H

#include "kernels/compute.h"
#include "model/weights.h"

/* y = the norm of each row of x; y may be x. Both [rows][norm's width]. */
typedef struct NormRows {
    const float *x;
    float *y;
    const Norm *norm;
    int rows, width;
    float epsilon;
} NormRows;

void norm_rows(NormRows job, const Compute *compute);

#endif
