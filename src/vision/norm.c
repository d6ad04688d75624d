#include "vision/norm.h"

#include "base/numbers.h"
#include "kernels/rows.h"

#define TASK_ROWS 64

static void norm_task(void *context, int chunk, int thread) {
    const NormRows *job = context;
    (void)thread;
    for (int r = chunk * TASK_ROWS; r < min_int(job->rows, (chunk + 1) * TASK_ROWS); r++) {
        size_t offset = (size_t)r * (size_t)job->width;
        layer_norm(job->x + offset, job->norm->weight, job->norm->bias, job->width, job->epsilon,
                   job->y + offset);
    }
}

void norm_rows(NormRows job, const Compute *compute) {
    pool_run(compute->pool, ceil_div(job.rows, TASK_ROWS), norm_task, &job);
}
