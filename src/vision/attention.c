#include "vision/attention.h"

#include "base/numbers.h"
#include "kernels/field.h"

#define CHUNKS_PER_THREAD 8 /* wanted, so that threads end together */
#define LEAST_QUERIES 96    /* of a task: each packs all keys of its field */

typedef struct Task {
    const Attention *attention;
    const Compute *compute;
    int side_h, side_w; /* of a field */
    int across;         /* fields side by side */
    int queries;        /* of a task */
    int groups;         /* tasks of one head of one field */
} Task;

/* chunk = (field * heads + head) * groups + group: tasks of the same keys follow each other. */
static void attend_task(void *context, int chunk, int thread) {
    const Task *task = context;
    const Attention *attention = task->attention;
    int group = chunk % task->groups, head = chunk / task->groups % attention->heads;
    int index = chunk / task->groups / attention->heads;
    int top = index / task->across * task->side_h, left = index % task->across * task->side_w;
    size_t dim = (size_t)attention->dim, width = (size_t)attention->heads * dim;
    size_t first = (size_t)top * (size_t)attention->width + (size_t)left;
    const float *q = attention->qkv + first * 3 * width + (size_t)head * dim;
    Field field = {
        .q = q,
        .k = q + width,
        .v = q + 2 * width,
        .out = attention->out + first * width + (size_t)head * dim,
        .stride = (int)(3 * width),
        .out_stride = (int)width,
        .line = attention->width,
        .height = task->side_h,
        .width = task->side_w,
        .inner_height = min_int(task->side_h, attention->height - top),
        .inner_width = min_int(task->side_w, attention->width - left),
        .dim = attention->dim,
        .rel_h = attention->rel_h,
        .rel_w = attention->rel_w,
    };
    if (attention->pad) {
        field.pad_k = attention->pad + width + (size_t)head * dim;
        field.pad_v = field.pad_k + width;
    }
    int from = group * task->queries;
    int count = min_int(task->queries, field.inner_height * field.inner_width - from);
    if (count > 0)
        field_attend(&field, from, count, task->compute->precision,
                     compute_scratch(task->compute, thread));
}

size_t attention_scratch_floats(int field_h, int field_w, int dim) {
    return field_scratch_bytes(field_h, field_w, dim) / sizeof(float);
}

void attention_run(const Attention *attention, const Compute *compute) {
    int wanted = pool_threads(compute->pool) * CHUNKS_PER_THREAD;
    Task task = {.attention = attention,
                 .compute = compute,
                 .side_h = attention->window_h ? attention->window_h : attention->height,
                 .side_w = attention->window_w ? attention->window_w : attention->width,
                 .queries = FIELD_QUERIES};
    task.across = ceil_div(attention->width, task.side_w);
    int heads = ceil_div(attention->height, task.side_h) * task.across * attention->heads;
    task.groups = ceil_div(task.side_h * task.side_w, task.queries);
    while (heads * task.groups < wanted && task.queries > LEAST_QUERIES) {
        task.queries /= 2;
        task.groups = ceil_div(task.side_h * task.side_w, task.queries);
    }
    pool_run(compute->pool, heads * task.groups, attend_task, &task);
}
