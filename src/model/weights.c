#include "model/weights.h"

#include "kernels/convert.h"
#include "kernels/quant.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define NAME_SIZE 160

/*
 * The binder walks the architecture and looks each tensor up by name. It
 * carries the first error; after one, every later call does nothing, so that
 * the walk reads as an inventory.
 */
typedef struct Binder {
    Safetensors *files;
    Arena *arena;
    OcrError *err;
    OcrCode code;
    char prefix[NAME_SIZE]; /* of the names looked up now */
} Binder;

static void __attribute__((format(printf, 2, 3))) enter(Binder *binder, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(binder->prefix, sizeof binder->prefix, format, args);
    va_end(args);
}

static void shape_text(char *out, size_t size, const int64_t *shape, int dims) {
    size_t used = (size_t)snprintf(out, size, "[");
    for (int i = 0; i < dims && used < size; i++)
        used +=
            (size_t)snprintf(out + used, size - used, i ? ", %lld" : "%lld", (long long)shape[i]);
    if (used < size)
        snprintf(out + used, size - used, "]");
}

/* The tensor prefix + name + suffix, marked as used; NULL if there is none. */
static const Tensor *look_up(Binder *binder, const char *name, const char *suffix) {
    char full[2 * NAME_SIZE];
    snprintf(full, sizeof full, "%s%s%s", binder->prefix, name, suffix);
    Tensor *tensor = safetensors_find(binder->files, full);
    if (tensor)
        tensor->used = true;
    else
        binder->code = ocr_fail(binder->err, OCR_MODEL_TENSOR, "tensor %s is missing", full);
    return tensor;
}

static bool check_shape(Binder *binder, const Tensor *tensor, int dims, const int64_t *shape) {
    char has[100], needs[100];
    if (tensor->dims == dims && memcmp(tensor->shape, shape, (size_t)dims * sizeof *shape) == 0)
        return true;
    shape_text(has, sizeof has, tensor->shape, tensor->dims);
    shape_text(needs, sizeof needs, shape, dims);
    binder->code = ocr_fail(binder->err, OCR_MODEL_TENSOR,
                            "tensor %s has the shape %s, but config.json asks for %s", tensor->name,
                            has, needs);
    return false;
}

/* The tensor prefix + name, of numbers with exactly this shape. */
static const Tensor *find(Binder *binder, const char *name, int dims, const int64_t *shape) {
    const Tensor *tensor = binder->code ? NULL : look_up(binder, name, "");
    if (!tensor || !check_shape(binder, tensor, dims, shape))
        return NULL;
    if (tensor->type > TENSOR_F16) {
        binder->code = ocr_fail(binder->err, OCR_MODEL_TENSOR, "tensor %s must not be of type %s",
                                tensor->name, tensor_type_name(tensor->type));
        return NULL;
    }
    return tensor;
}

/* A tensor of any rank seen as [rows][columns], in the mapping; its dimensions are at least 1. */
static Matrix plain_matrix(Binder *binder, const char *name, int rows, int dims,
                           const int64_t *shape) {
    const Tensor *tensor = find(binder, name, dims, shape);
    if (!tensor)
        return (Matrix){0};
    return (Matrix){.data = tensor->data,
                    .type = tensor_weight_type(tensor->type),
                    .rows = rows,
                    .columns = (int)(tensor->count / rows)};
}

static Matrix convolution(Binder *binder, const char *name, int out, int in, int kernel) {
    return plain_matrix(binder, name, out, 4, (int64_t[]){out, in, kernel, kernel});
}

/* A matrix that may be quantized: then it has a companion with the scales (quantizer.h). */
static Matrix matrix(Binder *binder, const char *name, int rows, int columns) {
    const Tensor *tensor = binder->code ? NULL : look_up(binder, name, "");
    if (!tensor)
        return (Matrix){0};
    if (tensor->type != TENSOR_I8 && tensor->type != TENSOR_U8)
        return plain_matrix(binder, name, rows, 2, (int64_t[]){rows, columns});

    bool q8 = tensor->type == TENSOR_I8;
    int64_t bytes = q8 ? columns : (int64_t)q4_row_bytes(columns);
    const Tensor *scales = look_up(binder, name, "_scale");
    if (!scales || !check_shape(binder, tensor, 2, (int64_t[]){rows, bytes}) ||
        !check_shape(binder, scales, 2,
                     (int64_t[]){rows, q8 ? q8_blocks(columns) : q4_blocks(columns)}))
        return (Matrix){0};
    if (scales->type != TENSOR_BF16) {
        binder->code =
            ocr_fail(binder->err, OCR_MODEL_TENSOR, "tensor %s must be of type BF16", scales->name);
        return (Matrix){0};
    }
    return (Matrix){tensor->data, q8 ? WEIGHT_Q8 : WEIGHT_Q4, rows, columns, scales->data};
}

/* A small tensor as f32 in the arena. */
static const float *floats(Binder *binder, const char *name, int dims, const int64_t *shape) {
    const Tensor *tensor = find(binder, name, dims, shape);
    if (!tensor)
        return NULL;
    float *values = ARENA_TAKE(binder->arena, float, (size_t)tensor->count);
    if (!values)
        return NULL;
    convert_to_f32(tensor->data, tensor_weight_type(tensor->type), (size_t)tensor->count, values);
    for (int64_t i = 0; i < tensor->count; i++)
        if (!isfinite(values[i])) {
            binder->code = ocr_fail(binder->err, OCR_MODEL_NOT_FINITE,
                                    "tensor %s holds a value that is not finite", tensor->name);
            return NULL;
        }
    return values;
}

static const float *vector(Binder *binder, const char *name, int width) {
    return floats(binder, name, 1, (int64_t[]){width});
}

static Norm layer_norm(Binder *binder, const char *name, int width) {
    char weight[NAME_SIZE], bias[NAME_SIZE];
    snprintf(weight, sizeof weight, "%s.weight", name);
    snprintf(bias, sizeof bias, "%s.bias", name);
    Norm norm = {vector(binder, weight, width), NULL};
    norm.bias = vector(binder, bias, width);
    return norm;
}

static Norm rms_norm(Binder *binder, const char *name, int width) {
    return (Norm){vector(binder, name, width), NULL};
}

static Linear linear(Binder *binder, const char *name, int rows, int columns) {
    char weight[NAME_SIZE], bias[NAME_SIZE];
    snprintf(weight, sizeof weight, "%s.weight", name);
    snprintf(bias, sizeof bias, "%s.bias", name);
    Linear out = {matrix(binder, weight, rows, columns), NULL};
    out.bias = vector(binder, bias, rows);
    return out;
}

static void bind_sam_block(Binder *binder, const SamConfig *config, int layer, SamBlock *block) {
    int width = config->width;
    int side = config->global[layer] ? config->grid : config->window;
    int64_t relative[] = {2 * side - 1, width / config->heads};
    enter(binder, "model.sam_model.blocks.%d.", layer);
    block->norm1 = layer_norm(binder, "norm1", width);
    block->norm2 = layer_norm(binder, "norm2", width);
    block->qkv = linear(binder, "attn.qkv", 3 * width, width);
    block->proj = linear(binder, "attn.proj", width, width);
    block->lin1 = linear(binder, "mlp.lin1", config->mlp_width, width);
    block->lin2 = linear(binder, "mlp.lin2", width, config->mlp_width);
    block->rel_length = 2 * side - 1;
    block->rel_h = floats(binder, "attn.rel_pos_h", 2, relative);
    block->rel_w = floats(binder, "attn.rel_pos_w", 2, relative);
}

static void bind_sam(Binder *binder, const SamConfig *config, SamWeights *sam) {
    int neck = config->neck_channels;
    SamBlock unkept;
    sam->blocks = ARENA_TAKE(binder->arena, SamBlock, (size_t)config->layers);
    for (int i = 0; i < config->layers; i++)
        bind_sam_block(binder, config, i, sam->blocks ? &sam->blocks[i] : &unkept);
    enter(binder, "model.sam_model.");
    sam->patch.w = convolution(binder, "patch_embed.proj.weight", config->width, 3, config->patch);
    sam->patch.bias = vector(binder, "patch_embed.proj.bias", config->width);
    sam->positions = plain_matrix(binder, "pos_embed", config->grid * config->grid, 4,
                                  (int64_t[]){1, config->grid, config->grid, config->width});
    sam->neck1x1 = convolution(binder, "neck.0.weight", neck, config->width, 1);
    sam->neck_norm1 = layer_norm(binder, "neck.1", neck);
    sam->neck3x3 = convolution(binder, "neck.2.weight", neck, neck, 3);
    sam->neck_norm2 = layer_norm(binder, "neck.3", neck);
    sam->down[0] = convolution(binder, "net_2.weight", config->channels[0], neck, 3);
    sam->down[1] = convolution(binder, "net_3.weight", config->channels[1], config->channels[0], 3);
}

static void bind_clip_block(Binder *binder, const ClipConfig *config, int layer, ClipBlock *block) {
    int width = config->width;
    enter(binder, "model.vision_model.transformer.layers.%d.", layer);
    block->norm1 = layer_norm(binder, "layer_norm1", width);
    block->norm2 = layer_norm(binder, "layer_norm2", width);
    block->qkv = linear(binder, "self_attn.qkv_proj", 3 * width, width);
    block->out = linear(binder, "self_attn.out_proj", width, width);
    block->fc1 = linear(binder, "mlp.fc1", config->mlp_width, width);
    block->fc2 = linear(binder, "mlp.fc2", width, config->mlp_width);
}

static void bind_clip(Binder *binder, const ClipConfig *config, ClipWeights *clip) {
    ClipBlock unkept;
    clip->blocks = ARENA_TAKE(binder->arena, ClipBlock, (size_t)config->layers);
    for (int i = 0; i < config->layers; i++)
        bind_clip_block(binder, config, i, clip->blocks ? &clip->blocks[i] : &unkept);
    enter(binder, "model.vision_model.");
    clip->class_embedding = vector(binder, "embeddings.class_embedding", config->width);
    int positions = 1 + config->grid * config->grid;
    clip->positions = plain_matrix(binder, "embeddings.position_embedding.weight", positions, 2,
                                   (int64_t[]){positions, config->width});
    clip->pre_norm = layer_norm(binder, "pre_layrnorm", config->width);
}

static void bind_mlp(Binder *binder, int hidden, int width, Mlp *mlp) {
    mlp->gate = matrix(binder, "gate_proj.weight", width, hidden);
    mlp->up = matrix(binder, "up_proj.weight", width, hidden);
    mlp->down = matrix(binder, "down_proj.weight", hidden, width);
    /* One product takes both (Matmul.up), by one kernel. */
    if (!binder->code && mlp->gate.type != mlp->up.type)
        binder->code = ocr_fail(binder->err, OCR_MODEL_TENSOR,
                                "tensors %sgate_proj.weight and %sup_proj.weight differ in type",
                                binder->prefix, binder->prefix);
}

static void bind_decoder_layer(Binder *binder, const DecoderConfig *config, int i,
                               DecoderLayer *layer) {
    int hidden = config->hidden;
    Mlp unkept;
    enter(binder, "model.layers.%d.", i);
    layer->input_norm = rms_norm(binder, "input_layernorm.weight", hidden);
    layer->post_norm = rms_norm(binder, "post_attention_layernorm.weight", hidden);
    layer->q = matrix(binder, "self_attn.q_proj.weight", hidden, hidden);
    layer->k = matrix(binder, "self_attn.k_proj.weight", hidden, hidden);
    layer->v = matrix(binder, "self_attn.v_proj.weight", hidden, hidden);
    layer->o = matrix(binder, "self_attn.o_proj.weight", hidden, hidden);
    layer->router = (Matrix){0};
    layer->experts = NULL;
    if (i < config->dense_layers) {
        enter(binder, "model.layers.%d.mlp.", i);
        bind_mlp(binder, hidden, config->dense_width, &layer->mlp);
        return;
    }
    layer->router = matrix(binder, "mlp.gate.weight", config->experts, hidden);
    layer->experts = ARENA_TAKE(binder->arena, Mlp, (size_t)config->experts);
    for (int e = 0; e < config->experts; e++) {
        enter(binder, "model.layers.%d.mlp.experts.%d.", i, e);
        bind_mlp(binder, hidden, config->expert_width,
                 layer->experts ? &layer->experts[e] : &unkept);
    }
    enter(binder, "model.layers.%d.mlp.shared_experts.", i);
    bind_mlp(binder, hidden, config->shared_width, &layer->mlp);
}

/* Two tensors of the released files that inference never reads (spec 1.4). */
static void mark_unused(Safetensors *files) {
    static const char *const names[] = {"model.vision_model.embeddings.patch_embedding.weight",
                                        "model.vision_model.embeddings.position_ids"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        Tensor *tensor = safetensors_find(files, names[i]);
        if (tensor)
            tensor->used = true;
    }
}

OcrCode weights_bind(Safetensors *files, const ModelConfig *config, Arena *arena, Weights *out,
                     OcrError *err) {
    Binder binder = {.files = files, .arena = arena, .err = err};
    const DecoderConfig *decoder = &config->decoder;
    DecoderLayer unkept;

    bind_sam(&binder, &config->sam, &out->sam);
    bind_clip(&binder, &config->clip, &out->clip);
    out->layers = ARENA_TAKE(arena, DecoderLayer, (size_t)decoder->layers);
    for (int i = 0; i < decoder->layers; i++)
        bind_decoder_layer(&binder, decoder, i, out->layers ? &out->layers[i] : &unkept);
    enter(&binder, "model.");
    out->projector = linear(&binder, "projector.layers", decoder->hidden, 2 * config->clip.width);
    out->newline = vector(&binder, "image_newline", decoder->hidden);
    out->separator = vector(&binder, "view_seperator", decoder->hidden);
    out->embedding = plain_matrix(&binder, "embed_tokens.weight", decoder->vocabulary, 2,
                                  (int64_t[]){decoder->vocabulary, decoder->hidden});
    out->final_norm = rms_norm(&binder, "norm.weight", decoder->hidden);
    enter(&binder, "%s", "");
    out->lm_head = matrix(&binder, "lm_head.weight", decoder->vocabulary, decoder->hidden);
    if (binder.code)
        return binder.code;

    mark_unused(files);
    for (int i = 0; i < files->count; i++)
        if (!files->tensors[i].used)
            return ocr_fail(err, OCR_MODEL_TENSOR,
                            "tensor %.200s has no place in the model that config.json describes",
                            files->tensors[i].name);
    return OCR_OK;
}

void matrix_row(const Matrix *matrix, int row, float *out) {
    size_t offset = (size_t)row * (size_t)matrix->columns;
    size_t size = matrix->type == WEIGHT_F32 ? 4 : 2;
    convert_to_f32((const char *)matrix->data + offset * size, matrix->type,
                   (size_t)matrix->columns, out);
}
