/*
 * checkpoint_plan.c - the presets, and the tensors of a configuration in the
 * order of the files.
 */
#include "checkpoint_plan.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- presets ---- */

#define JSON(...) #__VA_ARGS__

/* clang-format off */

/* What all presets have in common. */
static const char common_config[] = JSON({
    "_name_or_path": "deepseek-ai/DeepSeek-OCR",
    "candidate_resolutions": [[1024, 1024]],
    "global_view_pos": "head",
    "architectures": ["DeepseekOCRForCausalLM"],
    "auto_map": {"AutoConfig": "modeling_deepseekocr.DeepseekOCRConfig",
                 "AutoModel": "modeling_deepseekocr.DeepseekOCRForCausalLM"},
    "model_type": "deepseek_vl_v2",
    "tile_tag": "2D",
    "transformers_version": "4.46.3"
});

static const char common_language[] = JSON({
    "bos_token_id": 0, "eos_token_id": 1, "first_k_dense_replace": 1, "kv_lora_rank": null,
    "lm_head": true, "max_position_embeddings": 8192, "n_group": 1, "q_lora_rank": null,
    "qk_nope_head_dim": 0, "qk_rope_head_dim": 0, "rm_head": false, "topk_group": 1,
    "topk_method": "greedy", "use_mla": false, "v_head_dim": 0
});

static const struct {
    const char *name, *torch_dtype, *language, *sam, *clip;
} presets[] = {
    {"nano", "bfloat16",
     JSON({"hidden_size": 96, "intermediate_size": 256, "moe_intermediate_size": 48,
           "n_routed_experts": 8, "n_shared_experts": 2, "num_attention_heads": 3,
           "num_experts_per_tok": 2, "num_hidden_layers": 3, "num_key_value_heads": 3,
           "vocab_size": 1024}),
     JSON({"downsample_channels": [64, 96], "global_attn_indexes": [1, 3], "heads": 2,
           "layers": 4, "width": 64, "out_chans": 32, "image_size": 1024}),
     JSON({"heads": 3, "image_size": 224, "layers": 3, "patch_size": 14, "width": 96,
           "intermediate_size": 384})},
    {"micro", "float32",
     JSON({"hidden_size": 90, "intermediate_size": 212, "moe_intermediate_size": 28,
           "n_routed_experts": 6, "n_shared_experts": 2, "num_attention_heads": 5,
           "num_experts_per_tok": 3, "num_hidden_layers": 4, "num_key_value_heads": 5,
           "vocab_size": 777, "rms_norm_eps": 1e-5, "rope_theta": 5000.0}),
     JSON({"downsample_channels": [44, 72], "global_attn_indexes": [0, 2], "heads": 3,
           "layers": 3, "width": 60, "out_chans": 20, "image_size": 768, "window_size": 10,
           "mlp_ratio": 3}),
     JSON({"heads": 4, "image_size": 168, "layers": 2, "patch_size": 14, "width": 72,
           "intermediate_size": 300})},
    {"full", "bfloat16",
     JSON({"hidden_size": 1280, "intermediate_size": 6848, "moe_intermediate_size": 896,
           "n_routed_experts": 64, "n_shared_experts": 2, "num_attention_heads": 10,
           "num_experts_per_tok": 6, "num_hidden_layers": 12, "num_key_value_heads": 10,
           "vocab_size": 129280}),
     JSON({"downsample_channels": [512, 1024], "global_attn_indexes": [2, 5, 8, 11],
           "heads": 12, "layers": 12, "width": 768}),
     JSON({"heads": 16, "image_size": 224, "layers": 24, "patch_size": 14, "width": 1024})},
};

/* clang-format on */

static json_t *parse(const char *text) {
    return json_loads(text, 0, NULL);
}

json_t *checkpoint_preset(const char *name) {
    size_t i = 0, count = sizeof presets / sizeof *presets;
    while (i < count && strcmp(presets[i].name, name) != 0)
        i++;
    if (i == count)
        return NULL;

    json_t *language = parse(common_language), *dims = parse(presets[i].language);
    json_t *sam = parse(presets[i].sam), *clip = parse(presets[i].clip);
    json_t *config = parse(common_config);
    json_object_update(language, dims);
    json_object_update(config, language); /* the language fields stand here and below */
    json_object_set_new(language, "architectures", json_pack("[s]", "DeepseekV2ForCausalLM"));
    json_object_set_new(language, "torch_dtype", json_string("bfloat16"));
    json_object_set_new(config, "torch_dtype", json_string(presets[i].torch_dtype));
    json_object_set_new(config, "projector_config",
                        json_pack("{s:I, s:s, s:O, s:s}", "input_dim",
                                  2 * json_integer_value(json_object_get(clip, "width")),
                                  "model_type", "mlp_projector", "n_embed",
                                  json_object_get(dims, "hidden_size"), "projector_type",
                                  "linear"));
    json_t *side = json_object_get(sam, "image_size");
    json_object_set_new(config, "vision_config",
                        json_pack("{s:o, s:f, s:s, s:s, s:{s:o, s:o}}", "image_size",
                                  side ? json_incref(side) : json_integer(1024), "mlp_ratio",
                                  3.7362, "model_name", "deeplip_b_l", "model_type", "vision",
                                  "width", "clip-l-14-224", clip, "sam_vit_b", sam));
    json_object_set_new(config, "language_config", language);
    json_decref(dims);
    return config;
}

/* ---- the list of tensors ---- */

#define SHAPE(...) ((const int64_t[MAX_DIMS + 1]){__VA_ARGS__})

static TensorPlan *add(Inventory *inventory, const int64_t *shape, const char *format, ...) {
    static TensorPlan nowhere;
    if (inventory->count == inventory->capacity) {
        int capacity = inventory->capacity ? 2 * inventory->capacity : 256;
        void *grown = realloc(inventory->tensors, (size_t)capacity * sizeof *inventory->tensors);
        if (!grown) {
            inventory->missing = "memory";
            return &nowhere;
        }
        inventory->tensors = grown;
        inventory->capacity = capacity;
    }
    TensorPlan *tensor = &inventory->tensors[inventory->count++];
    *tensor = (TensorPlan){.count = 1};
    for (int i = 0; shape[i]; i++) {
        tensor->shape[i] = shape[i];
        tensor->count *= shape[i];
    }
    va_list args;
    va_start(args, format);
    vsnprintf(tensor->name, sizeof tensor->name, format, args);
    va_end(args);
    return tensor;
}

/* NAME.weight [out, in...] and NAME.bias [out] */
static void add_with_bias(Inventory *inventory, const int64_t *shape, const char *prefix,
                          const char *name) {
    add(inventory, shape, "%s%s.weight", prefix, name);
    add(inventory, SHAPE(shape[0]), "%s%s.bias", prefix, name);
}

/* A whole number of at least 1; `otherwise`, unless it is 0, where it is absent. */
static int64_t number(Inventory *inventory, const json_t *object, const char *name,
                      int64_t otherwise) {
    const json_t *value = json_object_get(object, name);
    int64_t result = value ? (int64_t)json_number_value(value) : otherwise;
    if (result < 1 || result > 1 << 24)
        inventory->missing = name;
    return result;
}

/* Language fields stand at the top or in language_config. */
static int64_t language_number(Inventory *inventory, const json_t *config, const char *name) {
    const json_t *inner = json_object_get(config, "language_config");
    return number(inventory, json_object_get(config, name) ? config : inner, name, 0);
}

static void add_mlp(Inventory *inventory, const char *prefix, int64_t hidden, int64_t width) {
    add(inventory, SHAPE(width, hidden), "%sgate_proj.weight", prefix);
    add(inventory, SHAPE(width, hidden), "%sup_proj.weight", prefix);
    add(inventory, SHAPE(hidden, width), "%sdown_proj.weight", prefix);
}

static void add_decoder(Inventory *inventory, const json_t *config) {
    int64_t hidden = language_number(inventory, config, "hidden_size");
    int64_t vocabulary = language_number(inventory, config, "vocab_size");
    int64_t layers = language_number(inventory, config, "num_hidden_layers");
    int64_t dense = language_number(inventory, config, "first_k_dense_replace");
    int64_t dense_width = language_number(inventory, config, "intermediate_size");
    int64_t experts = language_number(inventory, config, "n_routed_experts");
    int64_t width = language_number(inventory, config, "moe_intermediate_size");
    int64_t shared = language_number(inventory, config, "n_shared_experts");
    char prefix[MAX_NAME];
    if (inventory->missing)
        return;

    add(inventory, SHAPE(vocabulary, hidden), "model.embed_tokens.weight");
    for (int i = 0; i < layers; i++) {
        for (const char *which = "qkvo"; *which; which++)
            add(inventory, SHAPE(hidden, hidden), "model.layers.%d.self_attn.%c_proj.weight", i,
                *which);
        snprintf(prefix, sizeof prefix, "model.layers.%d.mlp.", i);
        if (i < dense) {
            add_mlp(inventory, prefix, hidden, dense_width);
        } else {
            for (int expert = 0; expert < experts; expert++) {
                snprintf(prefix, sizeof prefix, "model.layers.%d.mlp.experts.%d.", i, expert);
                add_mlp(inventory, prefix, hidden, width);
            }
            add(inventory, SHAPE(experts, hidden), "model.layers.%d.mlp.gate.weight", i);
            snprintf(prefix, sizeof prefix, "model.layers.%d.mlp.shared_experts.", i);
            add_mlp(inventory, prefix, hidden, shared * width);
        }
        add(inventory, SHAPE(hidden), "model.layers.%d.input_layernorm.weight", i);
        add(inventory, SHAPE(hidden), "model.layers.%d.post_attention_layernorm.weight", i);
    }
    add(inventory, SHAPE(hidden), "model.norm.weight");
}

static bool is_global(const json_t *sam, int block) {
    const json_t *indexes = json_object_get(sam, "global_attn_indexes"), *index;
    size_t i;
    json_array_foreach(indexes, i, index) if (json_integer_value(index) == block) return true;
    return false;
}

static void add_sam(Inventory *inventory, const json_t *vision, const json_t *sam) {
    const json_t *channels = json_object_get(sam, "downsample_channels");
    const json_t *ratio = json_object_get(sam, "mlp_ratio");
    int64_t width = number(inventory, sam, "width", 0), heads = number(inventory, sam, "heads", 0);
    int64_t layers = number(inventory, sam, "layers", 0);
    int64_t patch = number(inventory, sam, "patch_size", 16);
    int64_t window = number(inventory, sam, "window_size", 14);
    int64_t neck = number(inventory, sam, "out_chans", 256);
    int64_t side =
        number(inventory, sam, "image_size", number(inventory, vision, "image_size", 1024));
    int64_t first = json_integer_value(json_array_get(channels, 0));
    int64_t second = json_integer_value(json_array_get(channels, 1));
    if (first < 1 || second < 1)
        inventory->missing = "downsample_channels";
    if (inventory->missing)
        return;
    int64_t mlp = (int64_t)((double)width * (ratio ? json_number_value(ratio) : 4));
    int64_t grid = side / patch, head = width / heads;

    add(inventory, SHAPE(1, grid, grid, width), "model.sam_model.pos_embed");
    add_with_bias(inventory, SHAPE(width, 3, patch, patch), "model.sam_model.", "patch_embed.proj");
    for (int i = 0; i < layers; i++) {
        char prefix[MAX_NAME];
        int64_t offsets = 2 * (is_global(sam, i) ? grid : window) - 1;
        snprintf(prefix, sizeof prefix, "model.sam_model.blocks.%d.", i);
        add_with_bias(inventory, SHAPE(width), prefix, "norm1");
        add(inventory, SHAPE(offsets, head), "%sattn.rel_pos_h", prefix);
        add(inventory, SHAPE(offsets, head), "%sattn.rel_pos_w", prefix);
        add_with_bias(inventory, SHAPE(3 * width, width), prefix, "attn.qkv");
        add_with_bias(inventory, SHAPE(width, width), prefix, "attn.proj");
        add_with_bias(inventory, SHAPE(width), prefix, "norm2");
        add_with_bias(inventory, SHAPE(mlp, width), prefix, "mlp.lin1");
        add_with_bias(inventory, SHAPE(width, mlp), prefix, "mlp.lin2");
    }
    add(inventory, SHAPE(neck, width, 1, 1), "model.sam_model.neck.0.weight");
    add_with_bias(inventory, SHAPE(neck), "model.sam_model.", "neck.1");
    add(inventory, SHAPE(neck, neck, 3, 3), "model.sam_model.neck.2.weight");
    add_with_bias(inventory, SHAPE(neck), "model.sam_model.", "neck.3");
    add(inventory, SHAPE(first, neck, 3, 3), "model.sam_model.net_2.weight");
    add(inventory, SHAPE(second, first, 3, 3), "model.sam_model.net_3.weight");
}

static void add_clip(Inventory *inventory, const json_t *clip) {
    int64_t width = number(inventory, clip, "width", 0);
    int64_t layers = number(inventory, clip, "layers", 0);
    int64_t side = number(inventory, clip, "image_size", 0);
    int64_t patch = number(inventory, clip, "patch_size", 0);
    int64_t mlp = number(inventory, clip, "intermediate_size", 4 * width);
    if (inventory->missing)
        return;
    int64_t positions = (side / patch) * (side / patch) + 1;
    char prefix[MAX_NAME] = "model.vision_model.embeddings.";

    add(inventory, SHAPE(width), "%sclass_embedding", prefix);
    add(inventory, SHAPE(width, 3, patch, patch), "%spatch_embedding.weight", prefix);
    add(inventory, SHAPE(positions, width), "%sposition_embedding.weight", prefix);
    add(inventory, SHAPE(1, positions), "%sposition_ids", prefix)->positions = true;
    add_with_bias(inventory, SHAPE(width), "model.vision_model.", "pre_layrnorm");
    for (int i = 0; i < layers; i++) {
        snprintf(prefix, sizeof prefix, "model.vision_model.transformer.layers.%d.", i);
        add_with_bias(inventory, SHAPE(3 * width, width), prefix, "self_attn.qkv_proj");
        add_with_bias(inventory, SHAPE(width, width), prefix, "self_attn.out_proj");
        add_with_bias(inventory, SHAPE(mlp, width), prefix, "mlp.fc1");
        add_with_bias(inventory, SHAPE(width, mlp), prefix, "mlp.fc2");
        add_with_bias(inventory, SHAPE(width), prefix, "layer_norm1");
        add_with_bias(inventory, SHAPE(width), prefix, "layer_norm2");
    }
}

static void add_rest(Inventory *inventory, const json_t *config) {
    const json_t *projector = json_object_get(config, "projector_config");
    int64_t hidden = language_number(inventory, config, "hidden_size");
    int64_t vocabulary = language_number(inventory, config, "vocab_size");
    int64_t input = number(inventory, projector, "input_dim", 0);
    int64_t output = number(inventory, projector, "n_embed", 0);
    if (inventory->missing)
        return;
    add_with_bias(inventory, SHAPE(output, input), "model.", "projector.layers");
    add(inventory, SHAPE(hidden), "model.image_newline");
    add(inventory, SHAPE(hidden), "model.view_seperator");
    add(inventory, SHAPE(vocabulary, hidden), "lm_head.weight");
}

OcrCode list_tensors(const json_t *config, Inventory *inventory, OcrError *err) {
    const json_t *vision = json_object_get(config, "vision_config");
    const json_t *width = json_object_get(vision, "width");
    add_decoder(inventory, config);
    add_sam(inventory, vision, json_object_get(width, "sam_vit_b"));
    add_clip(inventory, json_object_get(width, "clip-l-14-224"));
    add_rest(inventory, config);
    if (inventory->missing)
        return ocr_fail(err, OCR_MODEL_CONFIG, "config.json: %s is missing or out of range",
                        inventory->missing);
    return OCR_OK;
}
