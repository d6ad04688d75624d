#include "vision/encoder.h"

#include <string.h>

void encoder_layout(Encoder *encoder, const ModelConfig *config, const Weights *weights,
                    int view_size, Arena *arena) {
    int side = view_size / 16, tokens = view_side_tokens(view_size) * view_side_tokens(view_size);
    encoder->weights = weights;
    encoder->sam.config = &config->sam;
    encoder->sam.weights = &weights->sam;
    encoder->clip.config = &config->clip;
    encoder->clip.weights = &weights->clip;
    sam_layout(&encoder->sam, &config->sam, side, arena);
    clip_layout(&encoder->clip, &config->clip, view_side_tokens(view_size), arena);
    encoder->features = ARENA_TAKE(arena, float, (size_t)tokens * 2 * (size_t)config->clip.width);
    encoder->projected = ARENA_TAKE(arena, float, (size_t)tokens *(size_t)config->decoder.hidden);
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
    encoder->view = 0;
    encoder->step = 0;
}

/* Concatenate the towers, CLIP first and without its class token (spec 3.5), and project. */
static void project(Encoder *encoder, const Compute *compute) {
    const Linear *projector = &encoder->weights->projector;
    int tokens = encoder->clip.side * encoder->clip.side, hidden = projector->w.rows;
    size_t width = (size_t)encoder->clip.config->width;
    for (int t = 0; t < tokens; t++) {
        float *feature = encoder->features + (size_t)t * 2 * width;
        memcpy(feature, encoder->clip.x + (size_t)(t + 1) * width, width * sizeof *feature);
        memcpy(feature + width, encoder->sam.out + (size_t)t * width, width * sizeof *feature);
    }
    compute_matmul(compute, (Matmul){.x = encoder->features,
                                     .rows = tokens,
                                     .x_stride = projector->w.columns,
                                     .w = projector->w,
                                     .bias = projector->bias,
                                     .y = encoder->projected,
                                     .y_stride = hidden});
    compute_trace(compute, "proj", 0, encoder->projected, tokens, hidden);
}

/*
 * Place the view's tokens (spec 3.6). Tiles form one canvas of merged rows, each
 * closed by a newline; the global view follows, then the separator.
 */
static void assemble(Encoder *encoder) {
    const ViewPlan *plan = &encoder->plan;
    const Weights *weights = encoder->weights;
    size_t hidden = (size_t)weights->projector.w.rows, bytes = hidden * sizeof(float);
    int tiles = view_tiles(plan), side = encoder->clip.side;
    bool is_tile = encoder->view < tiles;
    int tile_side = view_side_tokens(plan->tile_size);
    int columns = is_tile ? plan->columns : 1;
    int canvas_row = columns * side + 1; /* slots, with the newline */
    float *canvas = encoder->rows;
    if (!is_tile && tiles > 0)
        canvas += (size_t)(plan->rows * tile_side * (plan->columns * tile_side + 1)) * hidden;

    int column = is_tile ? encoder->view % columns : 0, row = is_tile ? encoder->view / columns : 0;
    for (int y = 0; y < side; y++) {
        float *line = canvas + (size_t)((row * side + y) * canvas_row) * hidden;
        memcpy(line + (size_t)(column * side) * hidden,
               encoder->projected + (size_t)(y * side) * hidden, (size_t)side * bytes);
        if (column == columns - 1)
            memcpy(line + (size_t)(columns * side) * hidden, weights->newline, bytes);
    }
    if (!is_tile)
        memcpy(canvas + (size_t)(side * canvas_row) * hidden, weights->separator, bytes);
}

bool encoder_step(Encoder *encoder, const Compute *compute) {
    int sam_end = sam_steps(encoder->sam.config),
        clip_end = sam_end + clip_steps(encoder->clip.config);
    int size;
    const uint8_t *pixels = views_at(&encoder->plan, encoder->views, encoder->view, &size);

    if (encoder->step == 0) {
        compute_trace(compute, "view", encoder->view, NULL, 0, 0);
        encoder->sam.side = size / 16;
        encoder->clip.side = view_side_tokens(size);
    }
    if (encoder->step < sam_end) {
        sam_step(&encoder->sam, encoder->step, pixels, compute);
    } else if (encoder->step < clip_end) {
        clip_step(&encoder->clip, encoder->step - sam_end, encoder->sam.out, compute);
    } else {
        project(encoder, compute);
        assemble(encoder);
        encoder->view++;
        encoder->step = 0;
        return encoder->view <= view_tiles(&encoder->plan);
    }
    encoder->step++;
    return true;
}
