#include "vision/attention.h"

#include "base/numbers.h"
#include "kernels/rows.h"

#include <math.h>
#include <string.h>

/* The rectangle that attends to itself, and where its heads' vectors lie. */
typedef struct Field {
    Panel q, k, v, out; /* [positions][dim] of one head */
    int height, width;
} Field;

static Panel rows_of(Panel panel, int first, int rows) {
    panel.data += (size_t)first * (size_t)panel.stride;
    panel.rows = rows;
    return panel;
}

/*
 * Queries first..first+rows-1 of the field. scratch: scores
 * [rows][positions], then distances [rows][2h - 1] and [rows][2w - 1].
 */
static void attend_tile(const Attention *attention, const Field *field, int first, int rows,
                        float *scratch) {
    int positions = field->height * field->width;
    int span_h = 2 * field->height - 1, span_w = 2 * field->width - 1;
    Panel q = rows_of(field->q, first, rows);
    Panel scores = {scratch, rows, positions, positions};
    Panel near_h = {scratch + (size_t)rows * (size_t)positions, rows, span_h, span_h};
    Panel near_w = {near_h.data + (size_t)rows * (size_t)span_h, rows, span_w, span_w};
    float scale = 1.0f / sqrtf((float)attention->dim);

    gemm_nt(q, field->k, scores);
    if (attention->rel_h) {
        /* Of the unscaled query (spec 3.2). */
        gemm_nt(q, (Panel){(float *)attention->rel_h, span_h, attention->dim, attention->dim},
                near_h);
        gemm_nt(q, (Panel){(float *)attention->rel_w, span_w, attention->dim, attention->dim},
                near_w);
    }
    for (int r = 0; r < rows; r++) {
        float *row = scores.data + (size_t)r * (size_t)positions;
        if (!attention->rel_h) {
            for (int i = 0; i < positions; i++)
                row[i] *= scale;
        } else {
            /* Distance y - y' stands at index h - 1 - y + y' of the table. */
            int y = (first + r) / field->width, x = (first + r) % field->width;
            const float *by_row = near_h.data + (size_t)r * (size_t)span_h + field->height - 1 - y;
            const float *by_column =
                near_w.data + (size_t)r * (size_t)span_w + field->width - 1 - x;
            for (int key_y = 0; key_y < field->height; key_y++) {
                float *keys = row + (size_t)key_y * (size_t)field->width;
                float bias = by_row[key_y];
                for (int key_x = 0; key_x < field->width; key_x++)
                    keys[key_x] = keys[key_x] * scale + (bias + by_column[key_x]);
            }
        }
        softmax(row, positions);
    }
    gemm_nn(scores, field->v, rows_of(field->out, first, rows));
}

typedef struct Task {
    const Attention *attention;
    const Compute *compute;
} Task;

/* One head of the whole grid, one tile of queries: chunk = head * tiles + tile. */
static void global_task(void *context, int chunk, int thread) {
    const Task *task = context;
    const Attention *attention = task->attention;
    int positions = attention->height * attention->width;
    int tiles = (positions + ATTENTION_TILE - 1) / ATTENTION_TILE;
    int head = chunk / tiles, first = chunk % tiles * ATTENTION_TILE;
    int dim = attention->dim, width = attention->heads * dim;
    float *qkv = (float *)attention->qkv + (size_t)head * (size_t)dim;
    Field field = {
        .q = {qkv, positions, dim, 3 * width},
        .k = {qkv + width, positions, dim, 3 * width},
        .v = {qkv + 2 * width, positions, dim, 3 * width},
        .out = {attention->out + (size_t)head * (size_t)dim, positions, dim, width},
        .height = attention->height,
        .width = attention->width,
    };
    attend_tile(attention, &field, first, min_int(ATTENTION_TILE, positions - first),
                compute_scratch(task->compute, thread));
}

/*
 * One head of one window, gathered from the grid: chunk = window * heads + head.
 * Positions beyond the grid's edge take part with the bias as their q, k and v
 * (spec 3.2); their outputs are dropped.
 */
static void window_task(void *context, int chunk, int thread) {
    const Task *task = context;
    const Attention *attention = task->attention;
    int side = attention->window, dim = attention->dim, width = attention->heads * dim;
    int across = (attention->width + side - 1) / side;
    int head = chunk % attention->heads, window = chunk / attention->heads;
    int top = window / across * side, left = window % across * side;
    int positions = side * side;
    size_t plane = (size_t)positions * (size_t)dim;
    float *gathered = compute_scratch(task->compute, thread);
    Panel planes[4]; /* q, k, v, out */

    for (int i = 0; i < 4; i++)
        planes[i] = (Panel){gathered + (size_t)i * plane, positions, dim, dim};
    for (int i = 0; i < 3; i++)
        for (int p = 0; p < positions; p++) {
            int y = top + p / side, x = left + p % side;
            size_t column = (size_t)i * (size_t)width + (size_t)head * (size_t)dim;
            const float *from = attention->pad + column;
            if (y < attention->height && x < attention->width)
                from = attention->qkv +
                       ((size_t)y * (size_t)attention->width + (size_t)x) * 3 * (size_t)width +
                       column;
            memcpy(planes[i].data + (size_t)p * (size_t)dim, from, (size_t)dim * sizeof *from);
        }

    Field field = {planes[0], planes[1], planes[2], planes[3], side, side};
    for (int first = 0; first < positions; first += ATTENTION_TILE)
        attend_tile(attention, &field, first, min_int(ATTENTION_TILE, positions - first),
                    gathered + 4 * plane);

    for (int p = 0; p < positions; p++) {
        int y = top + p / side, x = left + p % side;
        if (y < attention->height && x < attention->width)
            memcpy(attention->out +
                       ((size_t)y * (size_t)attention->width + (size_t)x) * (size_t)width +
                       (size_t)head * (size_t)dim,
                   planes[3].data + (size_t)p * (size_t)dim, (size_t)dim * sizeof(float));
    }
}

size_t attention_scratch_floats(int height, int width, int dim, int window) {
    size_t h = (size_t)(window ? window : height), w = (size_t)(window ? window : width);
    size_t tile = ATTENTION_TILE * (h * w + 2 * h - 1 + 2 * w - 1);
    return window ? 4 * h * w * (size_t)dim + tile : tile;
}

void attention_run(const Attention *attention, const Compute *compute) {
    Task task = {attention, compute};
    int side = attention->window;
    if (side) {
        int windows =
            (attention->height + side - 1) / side * ((attention->width + side - 1) / side);
        pool_run(compute->pool, windows * attention->heads, window_task, &task);
    } else {
        int tiles = (attention->height * attention->width + ATTENTION_TILE - 1) / ATTENTION_TILE;
        pool_run(compute->pool, tiles * attention->heads, global_task, &task);
    }
}
