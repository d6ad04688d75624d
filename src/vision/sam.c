#include "vision/sam.h"

#include "base/numbers.h"
#include "vision/attention.h"
#include "vision/mlp.h"
#include "vision/norm.h"
#include "vision/positions.h"

#include <string.h>

#define EPSILON 1e-6f  /* of every norm in this tower */
#define PATCH 16       /* pixels */
#define CHUNK_ROWS 320 /* of an intermediate of MLP, patches or convolution, alive at once */
#define PATCH_FLOATS (3 * PATCH * PATCH)

/* A feature map on its way through neck and compressor, in floats. */
static size_t map_floats(const SamConfig *config, int side) {
    size_t half = (size_t)(side + 1) / 2;
    return max_size((size_t)side * (size_t)side * (size_t)config->neck_channels,
                    half * half * (size_t)config->channels[0]);
}

/* Rows of the grid that a block is given at a time, the last time maybe fewer. */
static int band_height(const SamConfig *config, int side, int layer) {
    return config->global[layer] ? side : min_int(config->window, side);
}

static size_t most_positions(const SamConfig *config, int side) {
    int rows = 0;
    for (int layer = 0; layer < config->layers; layer++)
        rows = max_int(rows, band_height(config, side, layer));
    return (size_t)rows * (size_t)side;
}

/* The most that `wide` holds at one time or another, in floats. */
static size_t wide_floats(const SamConfig *config, int side) {
    size_t columns = 9 * max_size((size_t)config->neck_channels, (size_t)config->channels[0]);
    size_t floats = most_positions(config, side) * 3 * (size_t)config->width;
    floats = max_size(floats, CHUNK_ROWS * PATCH_FLOATS);
    floats = max_size(floats, positions_scratch_floats(config->grid, side, config->width));
    floats = max_size(floats, CHUNK_ROWS * (size_t)config->mlp_width);
    return max_size(floats, 2 * map_floats(config, side) + CHUNK_ROWS * columns);
}

void sam_layout(Sam *sam, const SamConfig *config, int max_side, Arena *arena) {
    size_t positions = (size_t)max_side * (size_t)max_side;
    int span = 2 * (max_side > config->window ? max_side : config->window) - 1;
    sam->x = ARENA_TAKE(arena, float, positions *(size_t)config->width);
    sam->y = ARENA_TAKE(arena, float, most_positions(config, max_side) * (size_t)config->width);
    sam->wide = ARENA_TAKE(arena, float, wide_floats(config, max_side));
    for (int i = 0; i < 2; i++)
        sam->rel[i] =
            ARENA_TAKE(arena, float, (size_t)span *(size_t)(config->width / config->heads));
}

size_t sam_thread_floats(const SamConfig *config, int max_side) {
    int dim = config->width / config->heads;
    return max_size(attention_scratch_floats(max_side, max_side, dim),
                    attention_scratch_floats(config->window, config->window, dim));
}

/* ---- embedding ---- */

typedef struct PatchTask {
    const uint8_t *pixels; /* [16 side][16 side][3] */
    float *columns;        /* [CHUNK_ROWS][3][16][16] */
    int side;
    int first;        /* position of columns' first row */
    float value[256]; /* of each byte */
} PatchTask;

static void patch_task(void *context, int chunk, int thread) {
    const PatchTask *task = context;
    int position = task->first + chunk;
    size_t line = (size_t)task->side * PATCH * 3;
    size_t top = (size_t)(position / task->side), left = (size_t)(position % task->side);
    float *out = task->columns + (size_t)chunk * PATCH_FLOATS;
    (void)thread;
    for (size_t c = 0; c < 3; c++)
        for (size_t y = 0; y < PATCH; y++) {
            const uint8_t *in = task->pixels + (top * PATCH + y) * line + left * PATCH * 3 + c;
            for (int x = 0; x < PATCH; x++)
                *out++ = task->value[in[3 * x]];
        }
}

static void embed(Sam *sam, const uint8_t *pixels, const Compute *compute) {
    int positions = sam->side * sam->side, width = sam->config->width;
    PatchTask task = {.pixels = pixels, .columns = sam->wide, .side = sam->side};
    for (int i = 0; i < 256; i++)
        task.value[i] = ((float)i / 255.0f - 0.5f) / 0.5f; /* spec 2.5 */
    for (; task.first < positions; task.first += CHUNK_ROWS) {
        int rows = min_int(CHUNK_ROWS, positions - task.first);
        pool_run(compute->pool, rows, patch_task, &task);
        compute_matmul(compute, (Matmul){.x = sam->wide,
                                         .rows = rows,
                                         .x_stride = PATCH_FLOATS,
                                         .w = sam->weights->patch.w,
                                         .bias = sam->weights->patch.bias,
                                         .y = sam->x + (size_t)task.first * (size_t)width,
                                         .y_stride = width});
    }
    PositionGrid grid = {&sam->weights->positions, 0, sam->config->grid, sam->side};
    positions_add(&grid, sam->x, compute, sam->wide);
    compute_trace(compute, "sam_embed", 0, sam->x, positions, width);
}

/* ---- blocks ---- */

/* Some rows of the grid, for the attention of one block a grid of their own. */
typedef struct Band {
    int layer;
    int top, height; /* rows of the grid */
    bool attends;    /* the block's first half; else its second */
} Band;

static int band_positions(const Sam *sam, const Band *band) {
    return band->height * sam->side;
}

/* [positions][width] */
static float *band_x(const Sam *sam, const Band *band) {
    return sam->x + (size_t)(band->top * sam->side) * (size_t)sam->config->width;
}

static void attend(Sam *sam, const Band *band, const Compute *compute) {
    const SamConfig *config = sam->config;
    const SamBlock *block = &sam->weights->blocks[band->layer];
    int positions = band_positions(sam, band), width = config->width, dim = width / config->heads;
    int window = config->global[band->layer] ? 0 : config->window;
    int span = 2 * (window ? window : sam->side) - 1;
    float *x = band_x(sam, band);

    norm_rows((NormRows){x, sam->y, &block->norm1, positions, width, EPSILON}, compute);
    compute_matmul(compute, (Matmul){.x = sam->y,
                                     .rows = positions,
                                     .x_stride = width,
                                     .w = block->qkv.w,
                                     .bias = block->qkv.bias,
                                     .y = sam->wide,
                                     .y_stride = 3 * width});
    relative_positions(block->rel_h, block->rel_length, span, dim, sam->rel[0]);
    relative_positions(block->rel_w, block->rel_length, span, dim, sam->rel[1]);
    Attention attention = {.qkv = sam->wide,
                           .out = sam->y,
                           .height = band->height,
                           .width = sam->side,
                           .heads = config->heads,
                           .dim = dim,
                           .window_h = window,
                           .window_w = window,
                           .pad = block->qkv.bias,
                           .rel_h = sam->rel[0],
                           .rel_w = sam->rel[1]};
    attention_run(&attention, compute);
    compute_matmul(compute, (Matmul){.x = sam->y,
                                     .rows = positions,
                                     .x_stride = width,
                                     .w = block->proj.w,
                                     .bias = block->proj.bias,
                                     .residual = x,
                                     .y = x,
                                     .y_stride = width});
}

static void mlp(Sam *sam, const Band *band, const Compute *compute) {
    const SamBlock *block = &sam->weights->blocks[band->layer];
    int positions = band_positions(sam, band), width = sam->config->width;
    int chunk = ceil_div(positions, ceil_div(positions, CHUNK_ROWS)); /* about the same for all */
    for (int first = 0; first < positions; first += chunk) {
        int rows = min_int(chunk, positions - first);
        float *x = band_x(sam, band) + (size_t)first * (size_t)width;
        mlp_rows((MlpRows){.x = x,
                           .y = sam->y,
                           .wide = sam->wide,
                           .rows = rows,
                           .norm = &block->norm2,
                           .epsilon = EPSILON,
                           .first = &block->lin1,
                           .second = &block->lin2,
                           .activation = ACTIVATION_GELU},
                 compute);
    }
    compute_trace_part(compute, "sam_block", band->layer, band->top * sam->side, band_x(sam, band),
                       positions, width);
}

/* ---- neck and compressor ---- */

typedef struct ConvTask {
    const float *in; /* [in_side][in_side][channels] */
    int in_side, channels, stride, out_side;
    int first;      /* output position of columns' first row */
    float *columns; /* [CHUNK_ROWS][channels][3][3] */
} ConvTask;

/* The 3x3 surroundings of one output position, zeros beyond the edge. */
static void column_task(void *context, int chunk, int thread) {
    const ConvTask *task = context;
    int position = task->first + chunk;
    int top = position / task->out_side * task->stride - 1;
    int left = position % task->out_side * task->stride - 1;
    size_t channels = (size_t)task->channels;
    float *out = task->columns + (size_t)chunk * 9 * channels;
    const float *taps[9]; /* their channels; NULL beyond the edge */
    (void)thread;
    for (int k = 0; k < 9; k++) {
        int y = top + k / 3, x = left + k % 3;
        bool inside = y >= 0 && y < task->in_side && x >= 0 && x < task->in_side;
        size_t place = ((size_t)y * (size_t)task->in_side + (size_t)x) * channels;
        taps[k] = inside ? task->in + place : NULL;
    }
    for (size_t c = 0; c < channels; c++)
        for (int k = 0; k < 9; k++)
            *out++ = taps[k] ? taps[k][c] : 0.0f;
}

/* 3x3, padding 1. out: [out_side * out_side][w.rows] with out_side = ceil(in_side / stride). */
static void convolve(const float *in, int in_side, int stride, const Matrix *w, float *columns,
                     float *out, const Compute *compute) {
    int out_side = (in_side + stride - 1) / stride;
    ConvTask task = {in, in_side, w->columns / 9, stride, out_side, 0, columns};
    for (; task.first < out_side * out_side; task.first += CHUNK_ROWS) {
        int rows = min_int(CHUNK_ROWS, out_side * out_side - task.first);
        pool_run(compute->pool, rows, column_task, &task);
        compute_matmul(compute, (Matmul){.x = columns,
                                         .rows = rows,
                                         .x_stride = w->columns,
                                         .w = *w,
                                         .y = out + (size_t)task.first * (size_t)w->rows,
                                         .y_stride = w->rows});
    }
}

static void compress(Sam *sam, const Compute *compute) {
    const SamWeights *weights = sam->weights;
    int side = sam->side, positions = side * side, channels = sam->config->neck_channels;
    int half = (side + 1) / 2;
    size_t map = map_floats(sam->config, side);
    float *a = sam->wide, *b = a + map, *columns = b + map;

    compute_matmul(compute, (Matmul){.x = sam->x,
                                     .rows = positions,
                                     .x_stride = sam->config->width,
                                     .w = weights->neck1x1,
                                     .y = a,
                                     .y_stride = channels});
    norm_rows((NormRows){a, a, &weights->neck_norm1, positions, channels, EPSILON}, compute);
    convolve(a, side, 1, &weights->neck3x3, columns, b, compute);
    norm_rows((NormRows){b, b, &weights->neck_norm2, positions, channels, EPSILON}, compute);
    compute_trace(compute, "sam_neck", 0, b, positions, channels);
    convolve(b, side, 2, &weights->down[0], columns, a, compute);
    convolve(a, half, 2, &weights->down[1], columns, sam->out, compute);
    int tokens = ((half + 1) / 2) * ((half + 1) / 2);
    compute_trace(compute, "sam", 0, sam->out, tokens, sam->config->channels[1]);
}

/* ---- steps: the embedding, half a block of a band at a time, the compressor ---- */

/* The end of the run of blocks that begins with `first`: of one, if it attends to all of the view.
 */
static int run_end(const SamConfig *config, int first) {
    int end = first + 1;
    if (!config->global[first])
        while (end < config->layers && !config->global[end])
            end++;
    return end;
}

/* Steps of a run of blocks for one band, and how many bands there are. */
static int run_steps(const Sam *sam, int first, int end, int *bands) {
    *bands = ceil_div(sam->side, band_height(sam->config, sam->side, first));
    return 2 * (end - first);
}

int sam_steps(const Sam *sam) {
    int steps = 2;
    for (int first = 0, end, bands; first < sam->config->layers; first = end) {
        end = run_end(sam->config, first);
        steps += run_steps(sam, first, end, &bands) * bands;
    }
    return steps;
}

/* Step number `step` of those between the embedding and the compressor. */
static Band find_band(const Sam *sam, int step) {
    int first = 0, end = run_end(sam->config, 0), bands, steps;
    while (step >= (steps = run_steps(sam, first, end, &bands)) * bands) {
        step -= steps * bands;
        first = end;
        end = run_end(sam->config, first);
    }
    int height = band_height(sam->config, sam->side, first), top = step / steps * height;
    return (Band){.layer = first + step % steps / 2,
                  .top = top,
                  .height = min_int(height, sam->side - top),
                  .attends = step % 2 == 0};
}

void sam_step(Sam *sam, int step, const uint8_t *pixels, const Compute *compute) {
    if (step == 0) {
        embed(sam, pixels, compute);
    } else if (step == sam_steps(sam) - 1) {
        compress(sam, compute);
    } else {
        Band band = find_band(sam, step - 1);
        if (band.attends)
            attend(sam, &band, compute);
        else
            mlp(sam, &band, compute);
    }
}
