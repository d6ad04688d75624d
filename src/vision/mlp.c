#include "vision/mlp.h"

#include "vision/norm.h"

void mlp_rows(MlpRows job, const Compute *compute) {
    int width = job.second->w.rows, inner = job.first->w.rows;
    Matmul products[] = {{.x = job.y,
                          .rows = job.rows,
                          .x_stride = width,
                          .w = job.first->w,
                          .bias = job.first->bias,
                          .activation = job.activation,
                          .y = job.wide,
                          .y_stride = inner},
                         {.x = job.wide,
                          .rows = job.rows,
                          .x_stride = inner,
                          .w = job.second->w,
                          .bias = job.second->bias,
                          .residual = job.x,
                          .y = job.x,
                          .y_stride = width}};
    norm_rows((NormRows){job.x, job.y, job.norm, job.rows, width, job.epsilon}, compute);
    matmul_run_two(products, compute->precision, compute->pool, compute->matmul_scratch);
}
