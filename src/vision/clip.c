#include "vision/clip.h"

#include "vision/attention.h"
#include "vision/mlp.h"
#include "vision/norm.h"
#include "vision/positions.h"

#include <string.h>

#define EPSILON 1e-5f /* of every norm in this tower */

void clip_layout(Clip *clip, const ClipConfig *config, int max_side, Arena *arena) {
    size_t rows = (size_t)clip_most_rows(max_side), width = (size_t)config->width;
    clip->x = ARENA_TAKE(arena, float, rows *width);
    clip->y = ARENA_TAKE(arena, float, rows *width);
    clip->wide =
        ARENA_TAKE(arena, float,
                   max_size(rows * max_size(3 * width, (size_t)config->mlp_width),
                            positions_scratch_floats(config->grid, max_side, config->width)));
}

size_t clip_thread_floats(const ClipConfig *config, int max_side) {
    return attention_scratch_floats(1, 1 + max_side * max_side, config->width / config->heads);
}

static void embed(Clip *clip, const float *features, const Compute *compute) {
    int tokens = clip->side * clip->side, width = clip->config->width;
    PositionGrid grid = {&clip->weights->positions, 1, clip->config->grid, clip->side};
    size_t view_floats = (size_t)tokens * (size_t)width;
    float *x = clip->x;
    for (int v = 0; v < clip->views; v++) {
        matrix_row(&clip->weights->positions, 0, x);
        for (int i = 0; i < width; i++)
            x[i] += clip->weights->class_embedding[i];
        x += width;
        memcpy(x, features + (size_t)v * view_floats, view_floats * sizeof *x);
        positions_add(&grid, x, compute, clip->wide);
        x += view_floats;
    }
    norm_rows((NormRows){clip->x, clip->x, &clip->weights->pre_norm, clip->views * (1 + tokens),
                         width, EPSILON},
              compute);
}

static void run_block(Clip *clip, int layer, const Compute *compute) {
    const ClipBlock *block = &clip->weights->blocks[layer];
    int positions = 1 + clip->side * clip->side, rows = clip->views * positions;
    int width = clip->config->width, heads = clip->config->heads;

    norm_rows((NormRows){clip->x, clip->y, &block->norm1, rows, width, EPSILON}, compute);
    compute_matmul(compute, (Matmul){.x = clip->y,
                                     .rows = rows,
                                     .x_stride = width,
                                     .w = block->qkv.w,
                                     .bias = block->qkv.bias,
                                     .y = clip->wide,
                                     .y_stride = 3 * width});
    Attention attention = {.qkv = clip->wide,
                           .out = clip->y,
                           .height = clip->views,
                           .width = positions,
                           .window_h = 1,
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

    mlp_rows((MlpRows){.x = clip->x,
                       .y = clip->y,
                       .wide = clip->wide,
                       .rows = rows,
                       .norm = &block->norm2,
                       .epsilon = EPSILON,
                       .first = &block->fc1,
                       .second = &block->fc2,
                       .activation = ACTIVATION_QUICK_GELU},
             compute);
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
