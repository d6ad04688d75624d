#include "decoder/decoder.h"

#include "base/numbers.h"
#include "kernels/attend.h"
#include "kernels/rows.h"

#include <math.h>
#include <string.h>

WeightType decoder_cache_type(const DecoderConfig *config, WeightType weights,
                              Precision precision) {
    if (precision == PRECISION_EXACT)
        return WEIGHT_F32;
    return is_quantized(weights) && config->hidden / config->heads <= ATTEND_Q8_COLUMNS
               ? WEIGHT_Q8
               : WEIGHT_BF16;
}

CacheShape decoder_cache_shape(const DecoderConfig *config, int slots, int positions,
                               WeightType type) {
    return (CacheShape){.slots = slots,
                        .layers = config->layers,
                        .heads = config->heads,
                        .dim = config->hidden / config->heads,
                        .positions = positions,
                        .type = type};
}

void decoder_layout_cache(Decoder *decoder, const DecoderConfig *config, const CacheShape *shape,
                          Arena *arena) {
    decoder->config = config;
    decoder->frequencies = ARENA_TAKE(arena, float, (size_t)(shape->dim / 2));
    cache_layout(&decoder->cache, shape, arena);
}

void decoder_layout(Decoder *decoder, const Weights *weights, Arena *arena) {
    const DecoderConfig *config = decoder->config;
    int tokens = min_int(decoder->cache.shape.slots, DECODER_TOKEN_ROWS);
    int max_rows = max_int(min_int(decoder->cache.shape.positions, DECODER_PROMPT_ROWS), tokens);
    size_t rows = (size_t)max_rows, hidden = (size_t)config->hidden;
    size_t half = hidden / (size_t)config->heads / 2;
    decoder->weights = weights;
    decoder->row = ARENA_TAKE(arena, DecoderRow, rows);
    decoder->x = ARENA_TAKE(arena, float, rows *hidden);
    decoder->cosines = ARENA_TAKE(arena, float, rows *half);
    decoder->sines = ARENA_TAKE(arena, float, rows *half);
    decoder->normed = ARENA_TAKE(arena, float, rows *hidden);
    decoder->q = ARENA_TAKE(arena, float, rows *hidden);
    decoder->k = ARENA_TAKE(arena, float, rows *hidden);
    decoder->v = ARENA_TAKE(arena, float, rows *hidden);
    decoder->inner =
        ARENA_TAKE(arena, float, config->dense_layers > 0 ? rows * (size_t)config->dense_width : 0);
    moe_layout(&decoder->moe, config, max_rows, arena);
    decoder->logits = ARENA_TAKE(arena, float, (size_t)tokens *(size_t)config->vocabulary);
}

void decoder_init(Decoder *decoder) {
    int dim = decoder->config->hidden / decoder->config->heads;
    for (int i = 0; i < dim / 2; i++)
        decoder->frequencies[i] = (float)pow(decoder->config->rope_theta, -2.0 * i / dim);
}

/* ---- batches ---- */

static void fill_rotation(Decoder *decoder) {
    int half = decoder->config->hidden / decoder->config->heads / 2;
    for (int r = 0; r < decoder->rows; r++)
        for (int i = 0; i < half; i++) {
            /* One f32 product, as in the reference. */
            float angle = (float)decoder->row[r].position * decoder->frequencies[i];
            decoder->cosines[(size_t)r * (size_t)half + (size_t)i] = cosf(angle);
            decoder->sines[(size_t)r * (size_t)half + (size_t)i] = sinf(angle);
        }
}

void decoder_begin_stretch(Decoder *decoder, int slot, int first_position, int rows) {
    decoder->rows = rows;
    decoder->one_slot = true;
    for (int r = 0; r < rows; r++)
        decoder->row[r] = (DecoderRow){slot, first_position + r};
    fill_rotation(decoder);
}

void decoder_begin_tokens(Decoder *decoder, const DecoderRow *rows, int count) {
    decoder->rows = count;
    decoder->one_slot = false;
    memcpy(decoder->row, rows, (size_t)count * sizeof *rows);
    fill_rotation(decoder);
}

/* ---- attention ---- */

/* Half rotation: the pair (i, i + dim / 2) turns by position * frequency[i]. */
static void rotate(float *x, const float *cosines, const float *sines, int half) {
    for (int i = 0; i < half; i++) {
        float a = x[i], b = x[i + half];
        x[i] = a * cosines[i] - b * sines[i];
        x[i + half] = b * cosines[i] + a * sines[i];
    }
}

typedef struct LayerTask {
    Decoder *decoder;
    int layer;
} LayerTask;

/* Rotate q and k of one row and put k and v into the cache. */
static void cache_task(void *context, int r, int thread) {
    const LayerTask *task = context;
    Decoder *decoder = task->decoder;
    int heads = decoder->config->heads, dim = decoder->config->hidden / heads, half = dim / 2;
    size_t row = (size_t)r * (size_t)decoder->config->hidden;
    const float *cosines = decoder->cosines + (size_t)r * (size_t)half;
    const float *sines = decoder->sines + (size_t)r * (size_t)half;
    (void)thread;
    for (int head = 0; head < heads; head++) {
        size_t at = row + (size_t)(head * dim);
        rotate(decoder->q + at, cosines, sines, half);
        rotate(decoder->k + at, cosines, sines, half);
    }
    cache_put(&decoder->cache, task->layer, decoder->row[r], decoder->k + row, decoder->v + row);
}

/* ---- layers ---- */

static void norm_rows(const float *x, float *y, const Norm *norm, int rows,
                      const DecoderConfig *config) {
    for (int r = 0; r < rows; r++)
        rms_norm(x + (size_t)r * (size_t)config->hidden, norm->weight, config->hidden,
                 config->norm_epsilon, y + (size_t)r * (size_t)config->hidden);
}

static void attend(Decoder *decoder, int index, const Compute *compute) {
    const DecoderLayer *layer = &decoder->weights->layers[index];
    int rows = decoder->rows, hidden = decoder->config->hidden;
    Matmul in = {.x = decoder->normed, .rows = rows, .x_stride = hidden, .y_stride = hidden};
    Matmul q = in, k = in, v = in;
    q.w = layer->q, q.y = decoder->q;
    k.w = layer->k, k.y = decoder->k;
    v.w = layer->v, v.y = decoder->v;
    matmul_run((Matmul[]){q, k, v}, 3, compute->precision, compute->pool, compute->matmul_scratch);

    LayerTask task = {decoder, index};
    pool_run(compute->pool, rows, cache_task, &task);
    if (decoder->one_slot)
        cache_attend_stretch(&decoder->cache, index, decoder->row, rows, decoder->q, compute);
    else
        cache_attend_tokens(&decoder->cache, index, decoder->row, rows, decoder->q, compute);
    compute_matmul(compute, (Matmul){.x = decoder->q,
                                     .rows = rows,
                                     .x_stride = hidden,
                                     .w = layer->o,
                                     .residual = decoder->x,
                                     .y = decoder->x,
                                     .y_stride = hidden});
}

static void run_mlp(Decoder *decoder, const Mlp *mlp, const Compute *compute) {
    int hidden = decoder->config->hidden, inner = decoder->config->dense_width;
    compute_matmul(compute, (Matmul){.x = decoder->normed,
                                     .rows = decoder->rows,
                                     .x_stride = hidden,
                                     .w = mlp->gate,
                                     .up = mlp->up,
                                     .activation = ACTIVATION_SWIGLU,
                                     .y = decoder->inner,
                                     .y_stride = inner});
    compute_matmul(compute, (Matmul){.x = decoder->inner,
                                     .rows = decoder->rows,
                                     .x_stride = inner,
                                     .w = mlp->down,
                                     .residual = decoder->x,
                                     .y = decoder->x,
                                     .y_stride = hidden});
}

void decoder_layer(Decoder *decoder, int index, const Compute *compute) {
    const DecoderLayer *layer = &decoder->weights->layers[index];
    int rows = decoder->rows;
    norm_rows(decoder->x, decoder->normed, &layer->input_norm, rows, decoder->config);
    attend(decoder, index, compute);
    norm_rows(decoder->x, decoder->normed, &layer->post_norm, rows, decoder->config);
    if (layer->experts)
        moe_run(&decoder->moe, layer, decoder->normed, decoder->x, rows, compute);
    else
        run_mlp(decoder, &layer->mlp, compute);
    compute_trace_part(compute, "layer", index, decoder->row[0].position, decoder->x, rows,
                       decoder->config->hidden);
}

void decoder_logits(Decoder *decoder, int count, const Compute *compute) {
    int hidden = decoder->config->hidden, first = decoder->rows - count;
    norm_rows(decoder->x + (size_t)first * (size_t)hidden, decoder->normed,
              &decoder->weights->final_norm, count, decoder->config);
    compute_matmul(compute, (Matmul){.x = decoder->normed,
                                     .rows = count,
                                     .x_stride = hidden,
                                     .w = decoder->weights->lm_head,
                                     .y = decoder->logits,
                                     .y_stride = decoder->config->vocabulary});
}
