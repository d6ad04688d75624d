#include "kernels/matmul.h"

#include <cblas.h>

void gemm_nt(Panel a, Panel b, Panel c) {
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, a.rows, b.rows, a.columns, 1.0f, a.data,
                a.stride, b.data, b.stride, 0.0f, c.data, c.stride);
}

void gemm_nn(Panel a, Panel b, Panel c) {
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, a.rows, b.columns, a.columns, 1.0f,
                a.data, a.stride, b.data, b.stride, 0.0f, c.data, c.stride);
}
