#include "decoder/cache.h"

#include "base/numbers.h"
#include "kernels/attend.h"
#include "kernels/convert.h"
#include "kernels/quant.h"
#include "kernels/rows.h"

#include <math.h>
#include <string.h>

#define TILE 32 /* consecutive queries of one head that share a pass over the keys */

static int max_stretches(const CacheShape *shape) {
    return ceil_div(shape->positions, CACHE_STRETCH);
}

static size_t part_floats(const CacheShape *shape) {
    return (size_t)shape->dim + 2;
}

static size_t row_bytes(const CacheShape *shape) {
    return weight_bytes(shape->type, shape->dim);
}

static size_t row_scales(const CacheShape *shape) {
    return shape->type == WEIGHT_Q8 ? (size_t)q8_blocks(shape->dim) : 0;
}

void cache_layout(Cache *cache, const CacheShape *shape, Arena *arena) {
    size_t planes = (size_t)shape->slots * (size_t)shape->layers * 2;
    size_t plane_rows = (size_t)shape->heads * (size_t)shape->positions;
    size_t rows = (size_t)min_int(shape->slots, DECODER_TOKEN_ROWS);
    size_t parts = rows * (size_t)shape->heads * (size_t)max_stretches(shape);
    cache->shape = *shape;
    cache->data = arena_take(arena, planes, plane_rows * row_bytes(shape));
    cache->scales = arena_take(arena, planes, plane_rows * row_scales(shape) * sizeof(uint16_t));
    cache->parts = ARENA_TAKE(arena, float, parts *part_floats(shape));
}

/* A tile's scores, keys or values of a stretch as f32, and sums of values: of all and of one. */
size_t cache_thread_floats(const CacheShape *shape) {
    size_t dim = (size_t)shape->dim, stride = (size_t)attend_stride(shape->dim);
    return TILE * CACHE_STRETCH + CACHE_STRETCH * stride + 2 * TILE * dim;
}

/* Where something is kept. */
typedef struct Place {
    void *data;
    uint16_t *scales;
} Place;

/* Of keys (kind 0) or values (kind 1) of one head, from a position on. */
static Place place(const Cache *cache, int layer, int kind, int head, DecoderRow at) {
    const CacheShape *shape = &cache->shape;
    size_t plane = ((size_t)at.slot * (size_t)shape->layers + (size_t)layer) * 2 + (size_t)kind;
    size_t row = (plane * (size_t)shape->heads + (size_t)head) * (size_t)shape->positions +
                 (size_t)at.position;
    return (Place){(char *)cache->data + row * row_bytes(shape),
                   cache->scales + row * row_scales(shape)};
}

/* x [dim] to its place. */
static void put(const Cache *cache, const float *x, Place to) {
    int dim = cache->shape.dim;
    if (cache->shape.type == WEIGHT_F32)
        memcpy(to.data, x, (size_t)dim * sizeof *x);
    else if (cache->shape.type == WEIGHT_BF16)
        convert_to_bf16(x, (size_t)dim, to.data);
    else
        round_to_q8(x, dim, to.data, to.scales);
}

void cache_put(const Cache *cache, int layer, DecoderRow row, const float *k, const float *v) {
    for (int head = 0; head < cache->shape.heads; head++) {
        size_t from = (size_t)head * (size_t)cache->shape.dim;
        put(cache, k + from, place(cache, layer, 0, head, row));
        put(cache, v + from, place(cache, layer, 1, head, row));
    }
}

typedef struct AttendTask {
    const Cache *cache;
    int layer;
    const DecoderRow *rows; /* [count] */
    int count;
    float *x;      /* [count][heads * dim] */
    int stretches; /* of the longest of the rows */
    const Compute *compute;
} AttendTask;

static float *query(const AttendTask *task, int row, int head) {
    const CacheShape *shape = &task->cache->shape;
    return task->x + ((size_t)row * (size_t)shape->heads + (size_t)head) * (size_t)shape->dim;
}

/* Keys or values of `count` positions. */
static Matrix cached(const AttendTask *task, int kind, int head, DecoderRow at, int count) {
    const CacheShape *shape = &task->cache->shape;
    Place from = place(task->cache, task->layer, kind, head, at);
    return (Matrix){from.data, shape->type, count, shape->dim, from.scales};
}

/* ---- what stretches come to ---- */

/* sum exp(s - most), and sum exp(s - most) v in out, over some keys of score s and value v */
typedef struct Part {
    float most, sum;
    float *out; /* [dim] */
} Part;

/* a becomes what the keys of both come to. */
static void join(Part *a, const Part *b, int dim) {
    float most = b->most > a->most ? b->most : a->most;
    float keep = expf(a->most - most), add = expf(b->most - most);
    a->most = most;
    a->sum = a->sum * keep + b->sum * add;
    for (int i = 0; i < dim; i++)
        a->out[i] = a->out[i] * keep + b->out[i] * add;
}

static void finish(const Part *part, int dim, float *out) {
    float scale = 1.0f / part->sum;
    for (int i = 0; i < dim; i++)
        out[i] = part->out[i] * scale;
}

/* scores become the weights of values. */
static void weigh(float *scores, int count, int dim, Part *part) {
    float scale = 1.0f / sqrtf((float)dim);
    for (int i = 0; i < count; i++)
        scores[i] *= scale;
    part->most = softmax_part(scores, count, &part->sum);
}

/* ---- one token for each of several slots ---- */

static Part token_part(const AttendTask *task, int row, int head, int stretch) {
    const CacheShape *shape = &task->cache->shape;
    size_t heads = (size_t)shape->heads, index = (size_t)row * heads + (size_t)head;
    float *at = task->cache->parts +
                (index * (size_t)max_stretches(shape) + (size_t)stretch) * part_floats(shape);
    return (Part){at[0], at[1], at + 2};
}

/* chunk = (row * heads + head) * stretches + stretch */
static void token_task(void *context, int chunk, int thread) {
    const AttendTask *task = context;
    const CacheShape *shape = &task->cache->shape;
    int stretch = chunk % task->stretches, head = chunk / task->stretches % shape->heads;
    int r = chunk / task->stretches / shape->heads, first = stretch * CACHE_STRETCH;
    int count = min_int(CACHE_STRETCH, task->rows[r].position + 1 - first);
    if (count <= 0)
        return;
    DecoderRow at = {task->rows[r].slot, first};
    float *scores = compute_scratch(task->compute, thread), *q = query(task, r, head);
    Matrix keys = cached(task, 0, head, at, count);
    Matrix values = cached(task, 1, head, at, count);
    Part part = token_part(task, r, head, stretch);

    attend_keys(q, keys, scores);
    weigh(scores, count, shape->dim, &part);
    attend_values(scores, values, part.out);
    part.out[-2] = part.most;
    part.out[-1] = part.sum;
    if (task->stretches == 1)
        finish(&part, shape->dim, q);
}

/* chunk = row */
static void join_task(void *context, int r, int thread) {
    const AttendTask *task = context;
    const CacheShape *shape = &task->cache->shape;
    int stretches = ceil_div(task->rows[r].position + 1, CACHE_STRETCH);
    (void)thread;
    for (int head = 0; head < shape->heads; head++) {
        Part all = token_part(task, r, head, 0);
        for (int s = 1; s < stretches; s++) {
            Part part = token_part(task, r, head, s);
            join(&all, &part, shape->dim);
        }
        finish(&all, shape->dim, query(task, r, head));
    }
}

void cache_attend_tokens(const Cache *cache, int layer, const DecoderRow *rows, int count, float *x,
                         const Compute *compute) {
    AttendTask task = {cache, layer, rows, count, x, 1, compute};
    for (int r = 0; r < count; r++)
        task.stretches = max_int(task.stretches, ceil_div(rows[r].position + 1, CACHE_STRETCH));
    pool_run(compute->pool, count * cache->shape.heads * task.stretches, token_task, &task);
    if (task.stretches > 1)
        pool_run(compute->pool, count, join_task, &task);
}

/* ---- many positions of one slot ---- */

/* Keys or values of a stretch as f32: where they lie, or else a copy. */
static Panel panel(Matrix rows, float *copy) {
    int dim = rows.columns, stride = attend_stride(dim);
    if (rows.type == WEIGHT_F32)
        return (Panel){(float *)rows.data, rows.rows, dim, dim};
    attend_widen(rows, copy);
    return (Panel){copy, rows.rows, dim, stride};
}

/* Scores of a tile's queries [rows][count], weighted: parts[rows] get their sums, but not out. */
static void weigh_tile(const AttendTask *task, int first_row, DecoderRow at, Panel scores,
                       Part *parts) {
    for (int r = 0; r < scores.rows; r++) {
        float *row = scores.data + (size_t)r * (size_t)scores.stride;
        int seen = min_int(scores.columns, task->rows[first_row + r].position + 1 - at.position);
        parts[r].most = -INFINITY;
        parts[r].sum = 0;
        if (seen > 0)
            weigh(row, seen, task->cache->shape.dim, &parts[r]);
        seen = max_int(seen, 0);
        memset(row + seen, 0, (size_t)(scores.columns - seen) * sizeof *row);
    }
}

/* chunk = tile * heads + head */
static void tile_task(void *context, int chunk, int thread) {
    const AttendTask *task = context;
    const CacheShape *shape = &task->cache->shape;
    int head = chunk % shape->heads, first = chunk / shape->heads * TILE, dim = shape->dim;
    int rows = min_int(TILE, task->count - first);
    int keys = task->rows[first + rows - 1].position + 1;
    Panel q = {query(task, first, head), rows, dim, shape->heads * dim};
    float *scratch = compute_scratch(task->compute, thread);
    float *copy = scratch + TILE * CACHE_STRETCH, *out = copy + CACHE_STRETCH * attend_stride(dim);
    Part all[TILE], parts[TILE];
    for (int r = 0; r < rows; r++) {
        all[r].out = out + (size_t)r * (size_t)dim;
        parts[r].out = all[r].out + TILE * (size_t)dim;
    }
    for (int k = 0; k < keys; k += CACHE_STRETCH) {
        int count = min_int(CACHE_STRETCH, keys - k);
        DecoderRow at = {task->rows[first].slot, k};
        Panel scores = {scratch, rows, count, count};
        Part *here = k == 0 ? all : parts;
        gemm_nt(q, panel(cached(task, 0, head, at, count), copy), scores);
        weigh_tile(task, first, at, scores, here);
        gemm_nn(scores, panel(cached(task, 1, head, at, count), copy),
                (Panel){here[0].out, rows, dim, dim});
        for (int r = 0; k > 0 && r < rows; r++)
            join(&all[r], &parts[r], dim);
    }
    for (int r = 0; r < rows; r++)
        finish(&all[r], dim, query(task, first + r, head));
}

void cache_attend_stretch(const Cache *cache, int layer, const DecoderRow *rows, int count,
                          float *x, const Compute *compute) {
    AttendTask task = {cache, layer, rows, count, x, 1, compute};
    pool_run(compute->pool, ceil_div(count, TILE) * cache->shape.heads, tile_task, &task);
}
