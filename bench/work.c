#include "work.h"

#include "decoder/decoder.h"
#include "kernels/quant.h"

#include <math.h>

/* ---- operations ---- */

static double product(double rows, const Matrix *w) {
    return 2 * rows * w->rows * w->columns;
}

/* Scores, their bias by row and column distance, and values. */
static double attend(double queries, double keys, double width, double bias_keys) {
    return 2 * queries * (2 * keys + bias_keys) * width;
}

static double sam_work(const OcrModel *model, int size) {
    const SamConfig *config = &model->config.sam;
    const SamWeights *weights = &model->weights.sam;
    double side = size / 16, n = side * side, total = product(n, &weights->patch.w);
    for (int i = 0; i < config->layers; i++) {
        const SamBlock *block = &weights->blocks[i];
        double reach = config->global[i] ? side : config->window;
        total += product(n, &block->qkv.w) + product(n, &block->proj.w) +
                 product(n, &block->lin1.w) + product(n, &block->lin2.w) +
                 attend(n, reach * reach, config->width, 2 * reach);
    }
    double half = ceil(side / 2), quarter = ceil(half / 2);
    return total + product(n, &weights->neck1x1) + product(n, &weights->neck3x3) +
           product(half * half, &weights->down[0]) + product(quarter * quarter, &weights->down[1]);
}

static double clip_work(const OcrModel *model, int size) {
    const ClipConfig *config = &model->config.clip;
    double side = view_side_tokens(size), n = 1 + side * side, total = 0;
    for (int i = 0; i < config->layers; i++) {
        const ClipBlock *block = &model->weights.clip.blocks[i];
        total += product(n, &block->qkv.w) + product(n, &block->out.w) + product(n, &block->fc1.w) +
                 product(n, &block->fc2.w) + attend(n, n, config->width, 0);
    }
    return total;
}

static double mlp_work(double rows, const Mlp *mlp) {
    return product(rows, &mlp->gate) + product(rows, &mlp->up) + product(rows, &mlp->down);
}

static double prefill_work(const OcrModel *model, double n) {
    const DecoderConfig *config = &model->config.decoder;
    double total = product(1, &model->weights.lm_head);
    for (int i = 0; i < config->layers; i++) {
        const DecoderLayer *layer = &model->weights.layers[i];
        /* Causal: a position sees half of them on average. */
        total += product(n, &layer->q) + product(n, &layer->k) + product(n, &layer->v) +
                 product(n, &layer->o) + attend(n, (n + 1) / 2, config->hidden, 0) +
                 mlp_work(n, &layer->mlp);
        if (layer->experts)
            total += product(n, &layer->router) +
                     config->experts_per_token * mlp_work(n, &layer->experts[0]);
    }
    return total;
}

PageWork work_of_page(const OcrModel *model, const ViewPlan *views, int prompt_positions) {
    PageWork work = {.prefill = prefill_work(model, prompt_positions)};
    for (int i = 0; i <= view_tiles(views); i++) {
        int size;
        views_at(views, NULL, i, &size);
        double side = view_side_tokens(size);
        work.sam += sam_work(model, size);
        work.clip += clip_work(model, size);
        work.project += product(side * side, &model->weights.projector.w);
    }
    return work;
}

/* ---- bytes ---- */

static double matrix_bytes(const Matrix *w) {
    double rows = w->rows, columns = w->columns;
    switch (w->type) {
    case WEIGHT_F32:
        return rows * columns * 4;
    case WEIGHT_BF16:
    case WEIGHT_F16:
        return rows * columns * 2;
    case WEIGHT_Q8:
        return rows * (columns + 2 * q8_blocks(w->columns));
    case WEIGHT_Q4:
        return rows * ((double)q4_row_bytes(w->columns) + 2 * q4_blocks(w->columns));
    }
    return 0;
}

static double mlp_bytes(const Mlp *mlp) {
    return matrix_bytes(&mlp->gate) + matrix_bytes(&mlp->up) + matrix_bytes(&mlp->down);
}

/* Of a head's keys and values at a position. */
static double cache_bytes(const OcrModel *model, Precision precision) {
    const DecoderConfig *config = &model->config.decoder;
    WeightType type = decoder_cache_type(config, model->weights.layers[0].q.type, precision);
    Matrix row = {.type = type, .rows = 2, .columns = config->hidden / config->heads};
    return matrix_bytes(&row);
}

double work_token_bytes(const OcrModel *model, int pages, int positions, Precision precision) {
    const DecoderConfig *config = &model->config.decoder;
    double head = cache_bytes(model, precision);
    double unchosen = 1 - (double)config->experts_per_token / config->experts;
    double visited = config->experts * (1 - pow(unchosen, pages));
    double total = matrix_bytes(&model->weights.lm_head);
    for (int i = 0; i < config->layers; i++) {
        const DecoderLayer *layer = &model->weights.layers[i];
        total += matrix_bytes(&layer->q) + matrix_bytes(&layer->k) + matrix_bytes(&layer->v) +
                 matrix_bytes(&layer->o) + mlp_bytes(&layer->mlp) +
                 (double)pages * positions * config->heads * head;
        if (layer->experts)
            total += matrix_bytes(&layer->router) + visited * mlp_bytes(&layer->experts[0]);
    }
    return total;
}
