#include "vision/clip.h"

#include "base/numbers.h"
#include "kernels/rows.h"
#include "vision/attention.h"
#include "vision/positions.h"

#include <string.h>

#define EPSILON 1e-5f /* of every norm in this tower */

void clip_layout(Clip *clip, const ClipConfig *config, int max_side, Arena *arena) {
    size_t rows = 1 + (size_t)max_side * (size_t)max_side, width = (size_t)config->width;
    clip->x = ARENA_TAKE(arena, float, rows *width);
    clip->y = ARENA_TAKE(arena, float, rows *width);
    clip->wide =
        ARENA_TAKE(arena, float,
                   max_size(rows * max_size(3 * width, (size_t)config->mlp_width),
                            positions_scratch_floats(config->grid, max_side, config->width)));
}

size_t clip_thread_floats(const ClipConfig *config, int max_side) {
    return attention_scratch_floats(1, 1 + max_side * max_side, config->width / config->heads, 0);
}

/* A few hundred rows: not worth the threads. */
static void norm_rows(const float *x, float *y, const Norm *norm, int rows, int width) {
    for (int r = 0; r < rows; r++) {
        size_t offset = (size_t)r * (size_t)width;
        layer_norm(x + offset, norm->weight, norm->bias, width, EPSILON, y + offset);
    }
}

static void embed(Clip *clip, const float *features, const Compute *compute) {
    int rows = 1 + clip->side * clip->side, width = clip->config->width;
    float *tokens = clip->x + width;
    matrix_row(&clip->weights->positions, 0, clip->x);
    for (int i = 0; i < width; i++)
        clip->x[i] += clip->weights->class_embedding[i];
    memcpy(tokens, features, (size_t)(rows - 1) * (size_t)width * sizeof *tokens);
    PositionGrid grid = {&clip->weights->positions, 1, clip->config->grid, clip->side};
    positions_add(&grid, tokens, compute, clip->wide);
    norm_rows(clip->x, clip->x, &clip->weights->pre_norm, rows, width);
}

static void run_block(Clip *clip, int layer, const Compute *compute) {
    const ClipBlock *block = &clip->weights->blocks[layer];
    int rows = 1 + clip->side * clip->side, width = clip->config->width;
    int heads = clip->config->heads, inner = clip->config->mlp_width;

    norm_rows(clip->x, clip->y, &block->norm1, rows, width);
    compute_matmul(compute, (Matmul){.x = clip->y,
                                     .rows = rows,
                                     .x_stride = width,
                                     .w = block->qkv.w,
                                     .bias = block->qkv.bias,
                                     .y = clip->wide,
                                     .y_stride = 3 * width});
    Attention attention = {.qkv = clip->wide,
                           .out = clip->y,
                           .height = 1,
                           .width = rows,
                           .heads = heads,
                           .dim = width / heads};
    attention_run(&attention, compute);
    compute_matmul(compute, (Matmul){.x = clip->y,
                                     .rows = rows,
                                     .x_stride = width,
                                     .w = block->out.w,
                                     .bias = block->out.bias,
                                     .residual = clip->x,
                                     .y = clip->x,
                                     .y_stride = width});

    norm_rows(clip->x, clip->y, &block->norm2, rows, width);
    compute_matmul(compute, (Matmul){.x = clip->y,
                                     .rows = rows,
                                     .x_stride = width,
                                     .w = block->fc1.w,
                                     .bias = block->fc1.bias,
                                     .activation = ACTIVATION_QUICK_GELU,
                                     .y = clip->wide,
                                     .y_stride = inner});
    compute_matmul(compute, (Matmul){.x = clip->wide,
                                     .rows = rows,
                                     .x_stride = inner,
                                     .w = block->fc2.w,
                                     .bias = block->fc2.bias,
                                     .residual = clip->x,
                                     .y = clip->x,
                                     .y_stride = width});
    compute_trace(compute, "clip_block", layer, clip->x, rows, width);
}

int clip_steps(const ClipConfig *config) {
    return 1 + config->layers;
}

void clip_step(Clip *clip, int step, const float *features, const Compute *compute) {
    if (step == 0)
        embed(clip, features, compute);
    else
        run_block(clip, step - 1, compute);
}
