#include "vision/encoder.h"

#include "base/numbers.h"

#include <string.h>

void encoder_layout(Encoder *encoder, const ModelConfig *config, const Weights *weights,
                    int view_size, Arena *arena) {
    int side = view_side_tokens(view_size);
    size_t tokens = (size_t)clip_most_rows(side), width = (size_t)config->clip.width;
    encoder->weights = weights;
    encoder->sam.config = &config->sam;
    encoder->sam.weights = &weights->sam;
    encoder->clip.config = &config->clip;
    encoder->clip.weights = &weights->clip;
    encoder->compressed = ARENA_TAKE(arena, float, tokens *width);
    /* What comes after the first tower takes its place. */
    Arena sam = *arena, rest = *arena;
    sam_layout(&encoder->sam, &config->sam, view_size / 16, &sam);
    clip_layout(&encoder->clip, &config->clip, side, &rest);
    encoder->features = ARENA_TAKE(&rest, float, tokens * 2 * width);
    encoder->projected = ARENA_TAKE(&rest, float, tokens *(size_t)config->decoder.hidden);
    arena->used = max_size(sam.used, rest.used);
}

size_t encoder_thread_floats(const ModelConfig *config, int view_size) {
    size_t sam = sam_thread_floats(&config->sam, view_size / 16);
    size_t clip = clip_thread_floats(&config->clip, view_side_tokens(view_size));
    return sam > clip ? sam : clip;
}

void encoder_start(Encoder *encoder, const ViewPlan *plan, const uint8_t *views, float *rows) {
    encoder->plan = *plan;
    encoder->views = views;
    encoder->rows = rows;
    encoder->first = 0;
    encoder->view = 0;
    encoder->step = 0;
}

/* Show a tensor of each view of the batch: data is [batch][rows][columns]. */
static void trace_views(const Encoder *encoder, const char *name, int index, const float *data,
                        int rows, int columns, const Compute *compute) {
    for (int v = 0; v < encoder->batch; v++) {
        compute_trace(compute, "view", encoder->first + v, NULL, 0, 0);
        compute_trace(compute, name, index, data + (size_t)v * (size_t)rows * (size_t)columns, rows,
                      columns);
    }
}

/* Concatenate the towers, CLIP first and without its class token (spec 3.5), and project. */
static void project(Encoder *encoder, const Compute *compute) {
    const Linear *projector = &encoder->weights->projector;
    int tokens = encoder->clip.side * encoder->clip.side, hidden = projector->w.rows;
    size_t width = (size_t)encoder->clip.config->width;
    const float *clip = encoder->clip.x, *sam = encoder->compressed;
    float *feature = encoder->features;
    for (int v = 0; v < encoder->batch; v++) {
        clip += width;
        for (int t = 0; t < tokens; t++, clip += width, sam += width, feature += 2 * width) {
            memcpy(feature, clip, width * sizeof *feature);
            memcpy(feature + width, sam, width * sizeof *feature);
        }
    }
    compute_matmul(compute, (Matmul){.x = encoder->features,
                                     .rows = encoder->batch * tokens,
                                     .x_stride = projector->w.columns,
                                     .w = projector->w,
                                     .bias = projector->bias,
                                     .y = encoder->projected,
                                     .y_stride = hidden});
    trace_views(encoder, "proj", 0, encoder->projected, tokens, hidden, compute);
}

/*
 * Place the tokens of a view of the batch (spec 3.6). Tiles form one canvas of merged rows, each
 * closed by a newline; the global view follows, then the separator.
 */
static void assemble(Encoder *encoder, int index) {
    const ViewPlan *plan = &encoder->plan;
    const Weights *weights = encoder->weights;
    size_t hidden = (size_t)weights->projector.w.rows, bytes = hidden * sizeof(float);
    int tiles = view_tiles(plan), side = encoder->clip.side;
    int view = encoder->first + index;
    bool is_tile = view < tiles;
    const float *projected = encoder->projected + (size_t)(index * side * side) * hidden;
    int tile_side = view_side_tokens(plan->tile_size);
    int columns = is_tile ? plan->columns : 1;
    int canvas_row = columns * side + 1; /* slots, with the newline */
    float *canvas = encoder->rows;
    if (!is_tile && tiles > 0)
        canvas += (size_t)(plan->rows * tile_side * (plan->columns * tile_side + 1)) * hidden;

    int column = is_tile ? view % columns : 0, row = is_tile ? view / columns : 0;
    for (int y = 0; y < side; y++) {
        float *line = canvas + (size_t)((row * side + y) * canvas_row) * hidden;
        memcpy(line + (size_t)(column * side) * hidden, projected + (size_t)(y * side) * hidden,
               (size_t)side * bytes);
        if (column == columns - 1)
            memcpy(line + (size_t)(columns * side) * hidden, weights->newline, bytes);
    }
    if (!is_tile)
        memcpy(canvas + (size_t)(side * canvas_row) * hidden, weights->separator, bytes);
}

/* As many tiles as go together, or the global view. */
static void begin_batch(Encoder *encoder) {
    int tiles = view_tiles(&encoder->plan), size;
    views_at(&encoder->plan, encoder->views, encoder->first, &size);
    int side = view_side_tokens(size);
    encoder->batch = max_int(1, min_int(clip_most_views(side), tiles - encoder->first));
    encoder->sam.side = size / 16;
    encoder->clip.side = side;
    encoder->clip.views = encoder->batch;
}

/* A step of the first tower. */
static void compress_step(Encoder *encoder, const Compute *compute) {
    int view = encoder->first + encoder->view, tokens = encoder->clip.side * encoder->clip.side;
    int size;
    const uint8_t *pixels = views_at(&encoder->plan, encoder->views, view, &size);
    if (encoder->step == 0) {
        compute_trace(compute, "view", view, NULL, 0, 0);
        encoder->sam.out = encoder->compressed +
                           (size_t)(encoder->view * tokens) * (size_t)encoder->clip.config->width;
    }
    sam_step(&encoder->sam, encoder->step++, pixels, compute);
    if (encoder->step == sam_steps(&encoder->sam)) {
        encoder->view++;
        encoder->step = 0;
    }
}

bool encoder_step(Encoder *encoder, const Compute *compute) {
    if (encoder->view == 0 && encoder->step == 0)
        begin_batch(encoder);
    if (encoder->view < encoder->batch) {
        compress_step(encoder, compute);
        return true;
    }
    if (encoder->step < clip_steps(encoder->clip.config)) {
        int layer = encoder->step - 1;
        clip_step(&encoder->clip, encoder->step++, encoder->compressed, compute);
        if (layer >= 0)
            trace_views(encoder, "clip_block", layer, encoder->clip.x,
                        1 + encoder->clip.side * encoder->clip.side, encoder->clip.config->width,
                        compute);
        return true;
    }
    project(encoder, compute);
    for (int i = 0; i < encoder->batch; i++)
        assemble(encoder, i);
    encoder->first += encoder->batch;
    encoder->view = 0;
    encoder->step = 0;
    return encoder->first <= view_tiles(&encoder->plan);
}
