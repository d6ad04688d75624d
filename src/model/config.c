#include "model/config.h"

#include "base/numbers.h"
#include "model/json.h"
#include "model/tokenizer.h"

#include <math.h>
#include <string.h>

#define CONFIG_MAX_BYTES (1 << 20)
#define CONFIG_MAX_WINDOW 128 /* attention within it is computed without a look at interrupts */
#define CONFIG_MAX_CHOSEN 64  /* experts of a token; choosing may compare each with all experts */

/*
 * A reader carries the first error: after one, every later call is a no-op that
 * returns zero, so that a list of fields reads as a list.
 */
typedef struct Reader {
    const json_t *top;      /* config.json */
    const json_t *language; /* its language_config, or NULL */
    OcrError *err;
    OcrCode code;
} Reader;

#define REFUSE(reader, ...)                                                                        \
    ((reader)->code = ocr_fail((reader)->err, OCR_MODEL_CONFIG, __VA_ARGS__))

/* JSON null means absent. */
static const json_t *member(const json_t *object, const char *name) {
    const json_t *value = json_object_get(object, name);
    return json_is_null(value) ? NULL : value;
}

/* A language field stands at the top level, in language_config, or in both alike. */
static const json_t *language_field(Reader *reader, const char *name) {
    const json_t *top = member(reader->top, name);
    const json_t *inner = member(reader->language, name);
    if (top && inner && !json_equal(top, inner) &&
        !(json_is_number(top) && json_is_number(inner) &&
          json_number_value(top) == json_number_value(inner)))
        REFUSE(reader, "config.json: %s differs between the top level and language_config", name);
    return top ? top : inner;
}

static int check_integer(Reader *reader, const char *name, const json_t *value, int low, int high) {
    if (!json_is_integer(value)) {
        REFUSE(reader, "config.json: %s must be an integer", name);
        return low;
    }
    json_int_t number = json_integer_value(value);
    if (number < low || number > high) {
        REFUSE(reader, "config.json: %s is %lld, but must lie in %d..%d", name, (long long)number,
               low, high);
        return low;
    }
    return (int)number;
}

/* An integer field of an object; `missing` stands in for an absent one, -1 makes it required. */
static int integer_in(Reader *reader, const json_t *object, const char *name, int missing,
                      int high) {
    if (reader->code)
        return 1;
    const json_t *value = member(object, name);
    if (!value) {
        if (missing < 0)
            REFUSE(reader, "config.json: %s is missing", name);
        return missing < 0 ? 1 : missing;
    }
    return check_integer(reader, name, value, 1, high);
}

static int language_integer(Reader *reader, const char *name, int missing, int low, int high) {
    if (reader->code)
        return low;
    const json_t *value = language_field(reader, name);
    if (reader->code)
        return low;
    if (!value) {
        if (missing < 0)
            REFUSE(reader, "config.json: %s is missing", name);
        return missing < 0 ? low : missing;
    }
    return check_integer(reader, name, value, low, high);
}

static double language_number(Reader *reader, const char *name, double missing) {
    if (reader->code)
        return missing;
    const json_t *value = language_field(reader, name);
    if (reader->code || !value)
        return missing;
    double number = json_number_value(value);
    if (!json_is_number(value) || !isfinite((float)number) || number <= 0) {
        REFUSE(reader, "config.json: %s must be a positive number", name);
        return missing;
    }
    return number;
}

static bool language_bool(Reader *reader, const char *name, bool missing) {
    if (reader->code)
        return missing;
    const json_t *value = language_field(reader, name);
    if (reader->code || !value)
        return missing;
    if (!json_is_boolean(value)) {
        REFUSE(reader, "config.json: %s must be true or false", name);
        return missing;
    }
    return json_is_true(value);
}

/* A field that this architecture fixes: exactly this, or absent where that means the same. */
static void require_bool(Reader *reader, const char *name, bool missing, bool expected) {
    if (language_bool(reader, name, missing) != expected && !reader->code)
        REFUSE(reader, "config.json: %s must be %s%s: other models are not supported", name,
               missing == expected ? "" : "present and ", expected ? "true" : "false");
}

static void require_string(Reader *reader, const json_t *value, const char *name,
                           const char *expected) {
    if (reader->code || !value)
        return;
    if (!json_is_string(value) || strcmp(json_string_value(value), expected) != 0)
        REFUSE(reader, "config.json: %s must be \"%s\": other models are not supported", name,
               expected);
}

static const json_t *object_in(Reader *reader, const json_t *object, const char *name) {
    if (reader->code)
        return NULL;
    const json_t *value = member(object, name);
    if (!json_is_object(value))
        REFUSE(reader, "config.json: %s is missing or not an object", name);
    return value;
}

static void read_decoder(Reader *reader, DecoderConfig *decoder) {
    static const char *const expected_strings[][2] = {
        {"scoring_func", "softmax"}, {"topk_method", "greedy"}, {"hidden_act", "silu"}};

    decoder->hidden = language_integer(reader, "hidden_size", -1, 2, 1 << 16);
    decoder->layers = language_integer(reader, "num_hidden_layers", -1, 1, CONFIG_MAX_LAYERS);
    decoder->heads = language_integer(reader, "num_attention_heads", -1, 1, 1 << 10);
    decoder->vocabulary = language_integer(reader, "vocab_size", -1, 3, 1 << 24);
    decoder->context = language_integer(reader, "max_position_embeddings", 2048, 1, 1 << 20);
    decoder->dense_layers =
        language_integer(reader, "first_k_dense_replace", 0, 0, decoder->layers);
    bool any_dense = decoder->dense_layers > 0;
    bool any_moe = decoder->dense_layers < decoder->layers;
    decoder->dense_width =
        language_integer(reader, "intermediate_size", any_dense ? -1 : 1, 1, 1 << 20);
    decoder->experts = language_integer(reader, "n_routed_experts", any_moe ? -1 : 1, 1, 1 << 12);
    decoder->experts_per_token = language_integer(reader, "num_experts_per_tok", any_moe ? -1 : 1,
                                                  1, min_int(decoder->experts, CONFIG_MAX_CHOSEN));
    decoder->expert_width =
        language_integer(reader, "moe_intermediate_size", any_moe ? -1 : 1, 1, 1 << 18);
    int shared = language_integer(reader, "n_shared_experts", any_moe ? -1 : 1, 1, 64);
    decoder->shared_width = shared * decoder->expert_width;
    decoder->norm_epsilon = (float)language_number(reader, "rms_norm_eps", 1e-6);
    decoder->rope_theta = language_number(reader, "rope_theta", 10000.0);
    decoder->normalise_weights = language_bool(reader, "norm_topk_prob", false);
    decoder->routed_scale = (float)language_number(reader, "routed_scaling_factor", 1.0);

    int kv_heads = language_integer(reader, "num_key_value_heads", decoder->heads, 1, 1 << 10);
    if (!reader->code && kv_heads != decoder->heads)
        REFUSE(reader,
               "config.json: num_key_value_heads is %d, but must equal num_attention_heads (%d)",
               kv_heads, decoder->heads);
    if (!reader->code && decoder->hidden % (2 * decoder->heads) != 0)
        REFUSE(reader, "config.json: hidden_size %d does not give %d heads of even width",
               decoder->hidden, decoder->heads);
    language_integer(reader, "moe_layer_freq", 1, 1, 1);
    language_integer(reader, "bos_token_id", BOS_ID, BOS_ID, BOS_ID);
    language_integer(reader, "eos_token_id", EOS_ID, EOS_ID, EOS_ID);
    require_bool(reader, "use_mla", true, false);
    require_bool(reader, "attention_bias", false, false);
    require_bool(reader, "tie_word_embeddings", false, false);
    for (size_t i = 0; i < sizeof expected_strings / sizeof *expected_strings && !reader->code; i++)
        require_string(reader, language_field(reader, expected_strings[i][0]),
                       expected_strings[i][0], expected_strings[i][1]);
    if (!reader->code && language_field(reader, "rope_scaling") && !reader->code)
        REFUSE(reader, "config.json: rope_scaling is not supported");
}

static void read_sam(Reader *reader, const json_t *vision, const json_t *fields, SamConfig *sam) {
    sam->layers = integer_in(reader, fields, "layers", -1, CONFIG_MAX_LAYERS);
    sam->width = integer_in(reader, fields, "width", -1, 1 << 16);
    sam->heads = integer_in(reader, fields, "heads", -1, 1 << 10);
    sam->patch = integer_in(reader, fields, "patch_size", 16, 16);
    sam->window = integer_in(reader, fields, "window_size", 14, CONFIG_MAX_WINDOW);
    sam->neck_channels = integer_in(reader, fields, "out_chans", 256, 1 << 16);
    int pixels = integer_in(reader, vision, "image_size", 1024, 1 << 14);
    pixels = integer_in(reader, fields, "image_size", pixels, 1 << 14);
    sam->grid = pixels / 16;
    if (reader->code)
        return;
    if (sam->patch != 16 || sam->grid < 1)
        REFUSE(reader,
               "config.json: sam_vit_b needs patches of 16 pixels and at least one of them");
    if (sam->width % sam->heads != 0)
        REFUSE(reader, "config.json: sam_vit_b.width %d is not a multiple of its %d heads",
               sam->width, sam->heads);

    /* mlp_ratio of vision_config itself is wrong for both towers and ignored (spec 1.2). */
    const json_t *ratio = member(fields, "mlp_ratio");
    double mlp = (ratio ? json_number_value(ratio) : 4.0) * sam->width;
    if ((ratio && !json_is_number(ratio)) || !(mlp >= 1 && mlp < 1 << 20))
        REFUSE(reader, "config.json: sam_vit_b.mlp_ratio must be a positive number");
    sam->mlp_width = (int)mlp;

    const json_t *channels = member(fields, "downsample_channels");
    if (json_array_size(channels) != 2)
        REFUSE(reader, "config.json: sam_vit_b.downsample_channels must be two numbers");
    for (int i = 0; i < 2 && !reader->code; i++)
        sam->channels[i] = check_integer(reader, "downsample_channels",
                                         json_array_get(channels, (size_t)i), 1, 1 << 16);
    const json_t *indexes = member(fields, "global_attn_indexes");
    if (!reader->code && !json_is_array(indexes))
        REFUSE(reader, "config.json: sam_vit_b.global_attn_indexes must be an array");
    for (size_t i = 0; i < json_array_size(indexes) && !reader->code; i++)
        sam->global[check_integer(reader, "global_attn_indexes", json_array_get(indexes, i), 0,
                                  sam->layers - 1)] = true;
}

static void read_clip(Reader *reader, const json_t *fields, ClipConfig *clip) {
    clip->layers = integer_in(reader, fields, "layers", -1, CONFIG_MAX_LAYERS);
    clip->width = integer_in(reader, fields, "width", -1, 1 << 16);
    clip->heads = integer_in(reader, fields, "heads", -1, 1 << 10);
    clip->mlp_width = integer_in(reader, fields, "intermediate_size", 4 * clip->width, 1 << 20);
    int pixels = integer_in(reader, fields, "image_size", 224, 1 << 14);
    int patch = integer_in(reader, fields, "patch_size", 14, 1 << 10);
    clip->grid = pixels / patch;
    if (!reader->code && (clip->grid < 1 || clip->width % clip->heads != 0))
        REFUSE(reader, "config.json: clip-l-14-224 has width %d, %d heads and image_size %d",
               clip->width, clip->heads, pixels);
}

static void read_vision(Reader *reader, ModelConfig *config) {
    const json_t *vision = object_in(reader, reader->top, "vision_config");
    const json_t *width = object_in(reader, vision, "width");
    const json_t *sam = object_in(reader, width, "sam_vit_b");
    const json_t *clip = object_in(reader, width, "clip-l-14-224");
    const json_t *projector = object_in(reader, reader->top, "projector_config");
    if (reader->code)
        return;
    read_sam(reader, vision, sam, &config->sam);
    read_clip(reader, clip, &config->clip);
    require_string(reader, json_object_get(projector, "projector_type"), "projector_type",
                   "linear");
    int input = integer_in(reader, projector, "input_dim", -1, 1 << 17);
    int output = integer_in(reader, projector, "n_embed", -1, 1 << 16);
    if (reader->code)
        return;
    if (config->clip.width != config->sam.channels[1])
        REFUSE(reader,
               "config.json: clip-l-14-224.width %d differs from the last downsample channel %d",
               config->clip.width, config->sam.channels[1]);
    else if (input != 2 * config->clip.width || output != config->decoder.hidden)
        REFUSE(reader, "config.json: projector_config is %d to %d, but the towers need %d to %d",
               input, output, 2 * config->clip.width, config->decoder.hidden);
}

/* The conditions of a rule: {"magnification": n, "tiles": [columns, rows], "grounding": false}, any
 * of them. */
static bool read_auto_conditions(Reader *reader, const json_t *conditions, AutoRule *out) {
    const json_t *zoom = json_object_get(conditions, "magnification");
    const json_t *tiles = json_object_get(conditions, "tiles");
    const json_t *grounding = json_object_get(conditions, "grounding");
    size_t known = (zoom != NULL) + (tiles != NULL) + (grounding != NULL);
    if (!json_is_object(conditions) || json_object_size(conditions) != known ||
        (tiles && json_array_size(tiles) != 2) || (grounding && !json_is_false(grounding)))
        return false;
    const json_t *numbers[] = {zoom, json_array_get(tiles, 0), json_array_get(tiles, 1)};
    int *fields[] = {&out->max_zoom, &out->max_columns, &out->max_rows};
    for (int i = 0; i < 3; i++)
        if (numbers[i])
            *fields[i] = check_integer(reader, "ocr.auto", numbers[i], 1, 1 << 24);
    out->plain = grounding != NULL;
    return true;
}

/* [largest side or null, mode] or [largest side or null, mode, conditions] */
static bool read_auto_rule(Reader *reader, const json_t *rule, AutoRule *out) {
    const json_t *side = json_array_get(rule, 0), *conditions = json_array_get(rule, 2);
    const char *name = json_string_value(json_array_get(rule, 1));
    if (json_array_size(rule) != (conditions ? 3 : 2) || !name ||
        !ocr_mode_parse(name, &out->mode) || out->mode == OCR_MODE_AUTO)
        return false;
    if (!json_is_null(side))
        out->max_side = check_integer(reader, "ocr.auto", side, 1, 1 << 24);
    return !conditions || read_auto_conditions(reader, conditions, out);
}

/* A number from 0 to 1, or 0 where there is none. */
static double read_confidence(Reader *reader, const json_t *ocr, const char *name) {
    const json_t *value = member(ocr, name);
    double confidence = json_number_value(value);
    if (value && (!json_is_number(value) || confidence < 0 || confidence > 1))
        REFUSE(reader, "config.json: ocr.%s must be a number from 0 to 1", name);
    return confidence;
}

/* "ocr": what a scaled-down model recommends for itself (spec 1.3). */
static void read_recommendations(Reader *reader, ModelConfig *config) {
    config->auto_rules[0] = (AutoRule){.mode = OCR_MODE_GUNDAM};
    config->auto_rule_count = 1;
    config->ngram_size = 20;
    const json_t *ocr = member(reader->top, "ocr");
    if (reader->code || !ocr)
        return;
    if (!json_is_object(ocr)) {
        REFUSE(reader, "config.json: ocr must be an object");
        return;
    }
    const json_t *ngram = member(ocr, "no_repeat_ngram_size");
    if (ngram)
        config->ngram_size = check_integer(reader, "ocr.no_repeat_ngram_size", ngram, 0, 1 << 20);
    config->min_confidence = read_confidence(reader, ocr, "min_confidence");
    config->turn_confidence = read_confidence(reader, ocr, "turn_confidence");
    const json_t *rules = member(ocr, "auto");
    if (reader->code || !rules)
        return;
    size_t count = json_array_size(rules);
    if (count < 1 || count > CONFIG_MAX_AUTO_RULES) {
        REFUSE(reader, "config.json: ocr.auto must be a list of 1 to %d rules",
               CONFIG_MAX_AUTO_RULES);
        return;
    }
    for (size_t i = 0; i < count && !reader->code; i++) {
        config->auto_rules[i] = (AutoRule){0};
        if (!read_auto_rule(reader, json_array_get(rules, i), &config->auto_rules[i]))
            REFUSE(reader,
                   "config.json: ocr.auto rule %zu is not [largest side or null, mode] or "
                   "[largest side or null, mode, {conditions}]",
                   i + 1);
    }
    config->auto_rule_count = (int)count;
}

OcrCode config_read(const char *path, ModelConfig *out, OcrError *err) {
    json_t *root;
    OcrCode code = json_read_file(path, CONFIG_MAX_BYTES, OCR_MODEL_CONFIG, &root, err);
    if (code)
        return code;
    memset(out, 0, sizeof *out);
    Reader reader = {.top = root, .err = err};
    reader.language = member(root, "language_config");
    if (!json_is_object(root))
        REFUSE(&reader, "config.json is not an object");
    else if (reader.language && !json_is_object(reader.language))
        REFUSE(&reader, "config.json: language_config is not an object");
    read_decoder(&reader, &out->decoder);
    read_vision(&reader, out);
    read_recommendations(&reader, out);
    json_decref(root);
    return reader.code;
}
