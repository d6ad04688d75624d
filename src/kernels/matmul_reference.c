#include "kernels/convert.h"
#include "kernels/matmul_kernel.h"

#include <math.h>

static float weight(const Matrix *w, int row, int column) {
    size_t i = (size_t)row * (size_t)w->columns + (size_t)column;
    switch (w->type) {
    case WEIGHT_BF16:
        return bf16_to_f32(((const uint16_t *)w->data)[i]);
    case WEIGHT_F16:
        return f16_to_f32(((const uint16_t *)w->data)[i]);
    default:
        return ((const float *)w->data)[i];
    }
}

static double dot(const float *x, const Matrix *w, int row) {
    double sum = 0;
    for (int k = 0; k < w->columns; k++)
        sum += (double)x[k] * weight(w, row, k);
    return sum;
}

void matmul_reference(const Matmul *job) {
    for (int r = 0; r < job->rows; r++) {
        const float *x = job_x(job, r);
        for (int n = 0; n < job->w.rows; n++) {
            size_t at = (size_t)r * (size_t)job->y_stride + (size_t)n;
            double v = dot(x, &job->w, n);
            if (job->bias)
                v += job->bias[n];
            switch (job->activation) {
            case ACTIVATION_NONE:
                break;
            case ACTIVATION_GELU:
                v = 0.5 * v * erfc(-v * 0.70710678118654752440);
                break;
            case ACTIVATION_QUICK_GELU:
                v = v / (1 + exp(-1.702 * v));
                break;
            case ACTIVATION_SWIGLU:
                v = v / (1 + exp(-v)) * dot(x, &job->up, n);
                break;
            }
            job->y[at] = (float)(v + (job->residual ? job->residual[at] : 0));
        }
    }
}
