/*
 * Checkpoint folders: what is refused, and by which name. Each test starts from
 * the nano checkpoint and spoils one thing.
 */
#include "support.h"

#include "model/model.h"
#include "plan.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NANO CHECKPOINTS "/nano1"
#define SHARD "model-00001-of-000002.safetensors"
#define OTHER_SHARD "model-00002-of-000002.safetensors"
#define INDEX "model.safetensors.index.json"

static char folder[PATH_MAX]; /* of the running test */

static const char *in_folder(const char *name) {
    static char path[2 * PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void write_bytes(const char *name, const void *bytes, size_t size) {
    unlink(in_folder(name));
    FILE *file = fopen(in_folder(name), "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

static void write_json(const char *name, json_t *value) {
    char *text = json_dumps(value, JSON_COMPACT);
    write_bytes(name, text, strlen(text));
    free(text);
    json_decref(value);
}

static json_t *read_json(const char *name) {
    json_error_t problem;
    json_t *value = json_load_file(in_folder(name), 0, &problem);
    if (!value)
        fail_msg("%s: %s", name, problem.text);
    return value;
}

/* Links to the nano checkpoint's files, to be replaced one by one. */
static int make_folder(void **state) {
    static const char *const names[] = {"config.json", "tokenizer.json", INDEX, SHARD, OTHER_SHARD};
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/test_checkpoint.XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char target[PATH_MAX];
        snprintf(target, sizeof target, NANO "/%s", names[i]);
        if (symlink(target, in_folder(names[i])) != 0)
            return -1;
    }
    return 0;
}

static int remove_folder(void **state) {
    char command[2 * PATH_MAX];
    (void)state;
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

static void *refuse(void *owner, size_t bytes) {
    (void)owner, (void)bytes;
    return NULL;
}

static void assert_opens(void) {
    OcrError err;
    OcrModel *model;
    void *block = NULL;
    assert_ok(model_open(folder, keep_block, &block, &model, &err), &err);
    model_close(model);
    free(block);
}

static void assert_refused(OcrCode code, const char *part) {
    OcrError err;
    OcrModel *model;
    void *block = NULL;
    assert_fails(model_open(folder, keep_block, &block, &model, &err), &err, code, part);
    free(block);
}

/* ---- folders ---- */

static void opens_as_published(void **state) {
    (void)state;
    assert_opens();
    OcrError err;
    OcrModel *model;
    void *block;
    assert_fails(model_open(folder, refuse, NULL, &model, &err), &err, OCR_OUT_OF_MEMORY, "tables");
    assert_ok(model_open(folder, keep_block, &block, &model, &err), &err);
    assert_int_equal(model->map_count, 2);
    assert_int_equal(model->config.decoder.hidden, 96);
    assert_int_equal(model->weights.layers[1].experts[7].down.rows, 96);
    assert_null(model->weights.layers[0].experts);
    model_close(model);
    free(block);
}

static void missing_files_are_named(void **state) {
    (void)state;
    static const char *const names[] = {"config.json", "tokenizer.json", SHARD};
    for (size_t i = 0; i < 3; i++) {
        remove_folder(NULL);
        assert_int_equal(make_folder(NULL), 0);
        unlink(in_folder(names[i]));
        assert_refused(OCR_MODEL_MISSING, names[i]);
    }
    /* Without an index there must be a single file. */
    unlink(in_folder(INDEX));
    assert_refused(OCR_MODEL_MISSING, "model.safetensors");
    remove_folder(NULL);
    assert_refused(OCR_MODEL_MISSING, folder);
}

static void files_must_be_files(void **state) {
    (void)state;
    unlink(in_folder(SHARD));
    assert_int_equal(mkdir(in_folder(SHARD), 0700), 0);
    assert_refused(OCR_MODEL_UNREADABLE, SHARD);
    rmdir(in_folder(SHARD));
    assert_int_equal(mkfifo(in_folder(SHARD), 0600), 0);
    assert_refused(OCR_MODEL_UNREADABLE, SHARD);
}

/* ---- config.json ---- */

typedef struct FieldCase {
    const char *field; /* at the top level and in language_config alike */
    const char *value; /* JSON */
    const char *part;  /* of the message */
} FieldCase;

static void fields_are_checked(void **state) {
    (void)state;
    static const FieldCase cases[] = {
        {"use_mla", "true", "use_mla"},
        {"use_mla", "null", "use_mla must be present and false"},
        {"num_key_value_heads", "1", "num_key_value_heads"},
        {"hidden_size", "98", "hidden_size"},
        {"num_attention_heads", "0", "num_attention_heads"},
        {"hidden_size", "-96", "hidden_size"},
        {"hidden_size", "96.0", "hidden_size"},
        {"hidden_size", "\"96\"", "hidden_size"},
        {"hidden_size", "9223372036854775807", "hidden_size"},
        {"hidden_size", "null", "hidden_size"},
        {"num_experts_per_tok", "9", "num_experts_per_tok"},
        {"n_routed_experts", "null", "n_routed_experts"},
        {"topk_method", "\"noaux_tc\"", "topk_method"},
        {"scoring_func", "\"sigmoid\"", "scoring_func"},
        {"hidden_act", "\"gelu\"", "hidden_act"},
        {"rope_scaling", "{\"type\":\"yarn\"}", "rope_scaling"},
        {"moe_layer_freq", "2", "moe_layer_freq"},
        {"tie_word_embeddings", "true", "tie_word_embeddings"},
        {"attention_bias", "true", "attention_bias must be false"},
        {"eos_token_id", "2", "eos_token_id"},
        {"rms_norm_eps", "0", "rms_norm_eps"},
        {"rope_theta", "\"x\"", "rope_theta"},
        {"first_k_dense_replace", "4", "first_k_dense_replace"},
        {"vocab_size", "2", "vocab_size"},
        {"projector_config", "{\"projector_type\":\"mlp\",\"input_dim\":192,\"n_embed\":96}",
         "projector_type"},
        {"projector_config", "{\"projector_type\":\"linear\",\"input_dim\":190,\"n_embed\":96}",
         "projector_config"},
        {"vision_config", "null", "vision_config"},
        {"ocr", "{\"auto\":[]}", "ocr.auto"},
        {"ocr", "{\"auto\":[[null,\"auto\"]]}", "ocr.auto"},
        {"ocr", "{\"auto\":[[0,\"base\"]]}", "ocr.auto"},
        {"ocr", "{\"auto\":[[null,\"base\",4]]}", "ocr.auto"},
        {"ocr", "{\"auto\":[[null,\"base\",{},1]]}", "ocr.auto"},
        {"ocr", "{\"auto\":[[null,\"base\",{\"zoom\":4}]]}", "ocr.auto"},
        {"ocr", "{\"auto\":[[null,\"base\",{\"magnification\":0}]]}", "ocr.auto"},
        {"ocr", "{\"auto\":[[null,\"base\",{\"tiles\":[2]}]]}", "ocr.auto"},
        {"ocr", "{\"auto\":[[null,\"base\",{\"tiles\":[2,0]}]]}", "ocr.auto"},
        {"ocr", "{\"auto\":[[null,\"base\",{\"grounding\":true}]]}", "ocr.auto"},
        {"ocr", "{\"no_repeat_ngram_size\":-1}", "no_repeat_ngram_size"},
        {"ocr", "{\"min_confidence\":1.1}", "ocr.min_confidence"},
        {"ocr", "{\"min_confidence\":-0.1}", "ocr.min_confidence"},
        {"ocr", "{\"min_confidence\":\"0.4\"}", "ocr.min_confidence"},
        {"ocr", "{\"turn_confidence\":2}", "ocr.turn_confidence"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *config = read_json("config.json"),
               *inner = json_object_get(config, "language_config");
        json_t *value = json_loads(cases[i].value, JSON_DECODE_ANY, NULL);
        assert_non_null(value);
        json_object_set(config, cases[i].field, value);
        if (json_object_get(inner, cases[i].field))
            json_object_set(inner, cases[i].field, value);
        json_decref(value);
        write_json("config.json", config);
        assert_refused(OCR_MODEL_CONFIG, cases[i].part);
        remove_folder(NULL);
        assert_int_equal(make_folder(NULL), 0);
    }
}

static void set_field(json_t *config, const char *field, int value) {
    json_object_set_new(config, field, json_integer(value));
    json_object_set_new(json_object_get(config, "language_config"), field, json_integer(value));
}

static void set_sam_field(json_t *config, const char *field, int value) {
    json_t *towers = json_object_get(json_object_get(config, "vision_config"), "width");
    json_object_set_new(json_object_get(towers, "sam_vit_b"), field, json_integer(value));
}

/* Where a small file could keep a backend busy for hours, at no place where a cancel is looked for.
 */
static void few_experts_are_chosen(void **state) {
    (void)state;
    json_t *config = read_json("config.json");
    set_field(config, "n_routed_experts", 4096);
    set_field(config, "num_experts_per_tok", 65);
    write_json("config.json", config);
    assert_refused(OCR_MODEL_CONFIG, "num_experts_per_tok");
}

/* A window is computed in one go, in a time that grows with the fourth power of its side. */
static void windows_are_small(void **state) {
    (void)state;
    json_t *config = read_json("config.json");
    set_sam_field(config, "window_size", 129);
    write_json("config.json", config);
    assert_refused(OCR_MODEL_CONFIG, "1..128");
}

static void both_places_of_a_field_agree(void **state) {
    (void)state;
    json_t *config = read_json("config.json");
    json_object_set_new(json_object_get(config, "language_config"), "num_hidden_layers",
                        json_integer(4));
    write_json("config.json", config);
    assert_refused(OCR_MODEL_CONFIG, "num_hidden_layers differs");

    /* Either place alone is enough. */
    for (int top = 0; top < 2; top++) {
        remove_folder(NULL);
        assert_int_equal(make_folder(NULL), 0);
        config = read_json("config.json");
        json_object_del(top ? json_object_get(config, "language_config") : config, "hidden_size");
        write_json("config.json", config);
        assert_opens();
    }
}

static void auto_follows_the_rules(void **state) {
    (void)state;
    json_t *config = read_json("config.json");
    json_object_set_new(
        config, "ocr",
        json_loads(
            "{\"min_confidence\":0.25,\"turn_confidence\":0.75,\"auto\":[[640,\"small\"],[1000,\"base\"],[null,\"gundam-m\","
            "{\"tiles\":[2,3],\"grounding\":false}],"
            "[null,\"gundam\",{\"magnification\":4}],[1500,\"large\"]]}",
            0, NULL));
    write_json("config.json", config);
    ModelConfig read;
    OcrError err;
    assert_ok(config_read(in_folder("config.json"), &read, &err), &err);
    assert_int_equal(plan_auto_mode(&read, 640, 10, false), OCR_MODE_SMALL);
    assert_int_equal(plan_auto_mode(&read, 10, 641, false), OCR_MODE_BASE);
    assert_int_equal(plan_auto_mode(&read, 1024, 1448, false), OCR_MODE_GUNDAM_M);
    assert_int_equal(plan_auto_mode(&read, 1024, 1448, true), OCR_MODE_GUNDAM);
    /* One tile by two are no more than two by three. */
    assert_int_equal(plan_auto_mode(&read, 1024, 2048, false), OCR_MODE_GUNDAM_M);
    assert_int_equal(plan_auto_mode(&read, 1448, 1024, false), OCR_MODE_GUNDAM);
    assert_int_equal(plan_auto_mode(&read, 5000, 5000, false), OCR_MODE_GUNDAM);
    /* Eight tiles in a row: 4 times as large, and a little more. */
    assert_int_equal(plan_auto_mode(&read, 1280, 160, false), OCR_MODE_GUNDAM);
    assert_int_equal(plan_auto_mode(&read, 1272, 159, false), OCR_MODE_LARGE);
    /* No rule fits: the last. Too narrow for any: the first refuses it. */
    assert_int_equal(plan_auto_mode(&read, 2000, 150, false), OCR_MODE_LARGE);
    assert_int_equal(plan_auto_mode(&read, 100000, 2, false), OCR_MODE_GUNDAM_M);
    assert_int_equal(read.ngram_size, 20);
    assert_true(read.min_confidence == 0.25);
    assert_true(read.turn_confidence == 0.75);
    write_bytes("config.json", "[1]", 3);
    assert_fails(config_read(in_folder("config.json"), &read, &err), &err, OCR_MODEL_CONFIG,
                 "not an object");
}

/* ---- tensors against the configuration ---- */

static void shapes_are_checked(void **state) {
    (void)state;
    static const FieldCase cases[] = {
        {"num_hidden_layers", "2", "model.layers.2."},
        {"num_hidden_layers", "4", "model.layers.3."},
        {"n_routed_experts", "9", "gate.weight"},
        {"n_routed_experts", "7", "gate.weight"},
        {"moe_intermediate_size", "49", "[48, 96]"},
        {"vocab_size", "1025", "embed_tokens"},
        {"first_k_dense_replace", "2", "model.layers.1.mlp.gate_proj"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *config = read_json("config.json");
        json_t *value = json_loads(cases[i].value, JSON_DECODE_ANY, NULL);
        json_object_set(config, cases[i].field, value);
        json_object_set(json_object_get(config, "language_config"), cases[i].field, value);
        json_decref(value);
        write_json("config.json", config);
        assert_refused(OCR_MODEL_TENSOR, cases[i].part);
        remove_folder(NULL);
        assert_int_equal(make_folder(NULL), 0);
    }
    json_t *config = read_json("config.json");
    set_sam_field(config, "window_size", 10);
    write_json("config.json", config);
    assert_refused(OCR_MODEL_TENSOR, "rel_pos_h");
}

/* ---- safetensors ---- */

/* Replace the folder's weights by one file with this header and `data` bytes of zeros behind it. */
static void write_single(const char *header, uint64_t claimed, size_t data) {
    size_t length = strlen(header), size = 8 + length + data;
    uint8_t *bytes = calloc(1, size);
    for (int i = 0; i < 8; i++)
        bytes[i] = (uint8_t)(claimed >> (8 * i));
    memcpy(bytes + 8, header, length);
    unlink(in_folder(INDEX));
    write_bytes("model.safetensors", bytes, size);
    free(bytes);
}

static void headers_are_checked(void **state) {
    (void)state;
    static const struct {
        const char *header;
        OcrCode code;
        const char *part;
    } cases[] = {
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,17]}}", OCR_MODEL_FORMAT,
         "outside"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,12]}}", OCR_MODEL_FORMAT,
         "does not match"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[16,0]}}", OCR_MODEL_FORMAT,
         "outside"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[-16,0]}}", OCR_MODEL_FORMAT,
         "malformed"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0]}}", OCR_MODEL_FORMAT,
         "malformed"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":4,\"data_offsets\":[0,16]}}", OCR_MODEL_FORMAT,
         "malformed"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-4],\"data_offsets\":[0,16]}}", OCR_MODEL_FORMAT,
         "shape"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2147483647,2147483647,2147483647],\"data_offsets\":["
         "0,16]}}",
         OCR_MODEL_FORMAT, "shape"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,4],\"data_offsets\":[0,16]}}",
         OCR_MODEL_TENSOR, "dimensions"},
        {"{\"a\":{\"dtype\":\"F64\",\"shape\":[2],\"data_offsets\":[0,16]}}", OCR_MODEL_TENSOR,
         "F64"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"b\":{\"dtype\":\"F32\","
         "\"shape\":[2],\"data_offsets\":[4,12]}}",
         OCR_MODEL_FORMAT, "overlap"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"a\":{\"dtype\":\"F32\","
         "\"shape\":[2],\"data_offsets\":[8,16]}}",
         OCR_MODEL_FORMAT, ""},
        {"{\"a\":[]}", OCR_MODEL_FORMAT, "malformed"},
        {"[]", OCR_MODEL_FORMAT, "not an object"},
        {"{\"a\":", OCR_MODEL_FORMAT, ""},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}}", OCR_MODEL_TENSOR,
         "is missing"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        /* Padded with blanks to a multiple of 8, as the format allows. */
        char header[1024];
        int length = snprintf(header, sizeof header, "%s", cases[i].header);
        while (length % 8)
            header[length++] = ' ';
        header[length] = '\0';
        write_single(header, strlen(header), 16);
        assert_refused(cases[i].code, cases[i].part);
    }
    static const uint64_t lengths[] = {1u << 20, (uint64_t)1 << 63, UINT64_MAX, 19};
    for (size_t i = 0; i < 4; i++) {
        write_single("{}", lengths[i], 16);
        assert_refused(OCR_MODEL_FORMAT, "header claims");
    }
    write_bytes("model.safetensors", "1234567", 7);
    assert_refused(OCR_MODEL_FORMAT, "too short");
    write_bytes("model.safetensors", "", 0);
    assert_refused(OCR_MODEL_FORMAT, "too short");
    write_single("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[2,10]}}     ", 60, 16);
    assert_refused(OCR_MODEL_FORMAT, "");
}

/* An entry of a safetensors header with zeros for data, behind *end. */
static void add_zeros(json_t *header, const char *name, const json_t *entry, json_t *shape,
                      size_t *end) {
    json_t *type = json_object_get(entry, "dtype"), *length;
    size_t bytes = strcmp(json_string_value(type), "I64") == 0 ? 8 : 2, i;
    size_t begin = (*end + 7) / 8 * 8;
    json_array_foreach(shape, i, length) {
        bytes *= (size_t)json_integer_value(length);
    }
    *end = begin + bytes;
    json_object_set_new(header, name,
                        json_pack("{s:O, s:O, s:[I, I]}", "dtype", type, "shape", shape,
                                  "data_offsets", (json_int_t)begin, (json_int_t)*end));
}

/* [1][c][1][1] is one row like any other number of channels, not a grid of 1 x c positions. */
static void a_convolution_may_have_one_channel(void **state) {
    (void)state;
    static const struct {
        const char *tensor, *shape;
    } narrow[] = {{"model.sam_model.neck.0.weight", "[1, 64, 1, 1]"},
                  {"model.sam_model.neck.1.weight", "[1]"},
                  {"model.sam_model.neck.1.bias", "[1]"},
                  {"model.sam_model.neck.2.weight", "[1, 1, 3, 3]"},
                  {"model.sam_model.neck.3.weight", "[1]"},
                  {"model.sam_model.neck.3.bias", "[1]"},
                  {"model.sam_model.net_2.weight", "[64, 1, 3, 3]"}};
    json_t *config = read_json("config.json"), *header = json_object();
    set_sam_field(config, "out_chans", 1);
    write_json("config.json", config);

    size_t end = 0;
    for (int shard = 0; shard < 2; shard++) {
        OcrBytes whole = read_file(shard ? NANO "/" OTHER_SHARD : NANO "/" SHARD);
        uint64_t length = 0;
        memcpy(&length, whole.data, sizeof length);
        json_t *tensors = json_loadb((const char *)whole.data + 8, length, 0, NULL), *entry;
        const char *name;
        json_object_foreach(tensors, name, entry) {
            json_t *shape = json_incref(json_object_get(entry, "shape"));
            for (size_t i = 0; i < sizeof narrow / sizeof *narrow; i++)
                if (strcmp(name, narrow[i].tensor) == 0) {
                    json_decref(shape);
                    shape = json_loads(narrow[i].shape, 0, NULL);
                }
            if (strcmp(name, "__metadata__") != 0)
                add_zeros(header, name, entry, shape, &end);
            json_decref(shape);
        }
        json_decref(tensors);
        free_bytes(whole);
    }
    char *text = json_dumps(header, JSON_COMPACT);
    size_t blanks = 8 - strlen(text) % 8;
    char *padded = calloc(1, strlen(text) + blanks + 1);
    sprintf(padded, "%s%*s", text, (int)blanks, "");
    write_single(padded, strlen(padded), end);

    OcrError err;
    OcrModel *model;
    void *block = NULL;
    assert_ok(model_open(folder, keep_block, &block, &model, &err), &err);
    assert_int_equal(model->weights.sam.neck1x1.rows, 1);
    assert_int_equal(model->weights.sam.neck1x1.columns, 64);
    assert_int_equal(model->weights.sam.neck3x3.rows, 1);
    assert_int_equal(model->weights.sam.neck3x3.columns, 9);
    assert_int_equal(model->weights.sam.positions.rows,
                     model->config.sam.grid * model->config.sam.grid);
    model_close(model);
    free(block);
    free(padded);
    free(text);
    json_decref(header);
}

static void truncated_shards_are_refused(void **state) {
    (void)state;
    OcrBytes whole = read_file(NANO "/" SHARD);
    uint64_t random = 3;
    write_bytes(SHARD, whole.data, whole.size);
    assert_opens();
    for (int i = 0; i < 30; i++) {
        int size = i == 0 ? (int)whole.size - 1 : random_between(&random, 0, (int)whole.size - 1);
        write_bytes(SHARD, whole.data, (size_t)size);
        assert_refused(OCR_MODEL_FORMAT, SHARD);
    }
    free_bytes(whole);
}

static void damaged_headers_never_crash(void **state) {
    (void)state;
    OcrBytes whole = read_file(NANO "/" SHARD);
    uint8_t *copy = malloc(whole.size);
    uint64_t random = 11;
    for (int i = 0; i < 200; i++) {
        memcpy(copy, whole.data, whole.size);
        for (int k = random_between(&random, 1, 3); k > 0; k--)
            copy[random_between(&random, 0, 20000)] = (uint8_t)random_next(&random);
        write_bytes(SHARD, copy, whole.size);
        OcrError err;
        OcrModel *model;
        void *block = NULL;
        if (model_open(folder, keep_block, &block, &model, &err) == OCR_OK)
            model_close(model);
        else
            assert_true(err.message[0] != '\0');
        free(block);
    }
    free(copy);
    free_bytes(whole);
}

static void values_that_are_not_finite_are_found(void **state) {
    (void)state;
    OcrBytes whole = read_file(NANO "/" SHARD);
    uint8_t *copy = malloc(whole.size);
    uint64_t header = 0;
    memcpy(copy, whole.data, whole.size);
    for (int i = 0; i < 8; i++)
        header |= (uint64_t)copy[i] << (8 * i);
    json_t *tensors = json_loadb((const char *)copy + 8, header, 0, NULL);
    const char *name = "model.layers.0.input_layernorm.weight";
    json_t *offsets = json_object_get(json_object_get(tensors, name), "data_offsets");
    size_t place = 8 + header + (size_t)json_integer_value(json_array_get(offsets, 0));
    assert_non_null(offsets);
    copy[place + 6] = 0xC0; /* the fourth value becomes the bf16 NaN 0x7FC0 */
    copy[place + 7] = 0x7F;
    write_bytes(SHARD, copy, whole.size);
    assert_refused(OCR_MODEL_NOT_FINITE, name);
    json_decref(tensors);
    free(copy);
    free_bytes(whole);
}

/* Replace a tensor's type by another of the same width. */
static void retype(const char *name, const char *type) {
    OcrBytes whole = read_file(NANO "/" SHARD);
    uint64_t length = 0;
    for (int i = 0; i < 8; i++)
        length |= (uint64_t)whole.data[i] << (8 * i);
    json_t *header = json_loadb((const char *)whole.data + 8, length, 0, NULL);
    json_t *tensor = json_object_get(header, name);
    assert_non_null(tensor);
    json_object_set_new(tensor, "dtype", json_string(type));
    char *text = json_dumps(header, JSON_COMPACT);
    /* A shorter type makes room; blanks fill the header up to its old length. */
    uint8_t *copy = malloc(whole.size);
    assert_true(strlen(text) <= length);
    memcpy(copy, whole.data, whole.size);
    memset(copy + 8, ' ', length);
    memcpy(copy + 8, text, strlen(text));
    write_bytes(SHARD, copy, whole.size);
    free(copy);
    free(text);
    json_decref(header);
    free_bytes(whole);
}

/* Gate and up go through one kernel, so they must be of one type. */
static void gate_and_up_are_alike(void **state) {
    (void)state;
    retype("model.layers.0.mlp.up_proj.weight", "F16");
    assert_refused(OCR_MODEL_TENSOR, "model.layers.0.mlp.up_proj.weight differ in type");
    retype("model.layers.0.mlp.down_proj.weight", "F16");
    assert_opens();
}

/* ---- the index ---- */

static void shards_stay_in_the_folder(void **state) {
    (void)state;
    static const char *const names[] = {"../../etc/passwd", "/etc/passwd", "", ".", "..", "a/b",
                                        ".hidden"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        json_t *index = read_json(INDEX);
        json_object_set_new(json_object_get(index, "weight_map"), "lm_head.weight",
                            json_string(names[i]));
        write_json(INDEX, index);
        assert_refused(OCR_MODEL_FORMAT, "plain file name");
    }
}

static void index_and_shards_agree(void **state) {
    (void)state;
    json_t *index = read_json(INDEX);
    json_object_set_new(json_object_get(index, "weight_map"), "model.extra", json_string(SHARD));
    write_json(INDEX, index);
    assert_refused(OCR_MODEL_TENSOR, "model.extra");

    index = json_load_file(NANO "/" INDEX, 0, NULL);
    json_object_del(json_object_get(index, "weight_map"), "lm_head.weight");
    write_json(INDEX, index);
    assert_refused(OCR_MODEL_FORMAT, "does not name");

    index = json_load_file(NANO "/" INDEX, 0, NULL);
    json_object_set_new(json_object_get(index, "weight_map"), "lm_head.weight", json_string(SHARD));
    write_json(INDEX, index);
    assert_refused(OCR_MODEL_FORMAT, "another file");

    write_bytes(INDEX, "{}", 2);
    assert_refused(OCR_MODEL_FORMAT, "weight_map");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(opens_as_published),
        TEST(missing_files_are_named),
        TEST(files_must_be_files),
        TEST(fields_are_checked),
        TEST(few_experts_are_chosen),
        TEST(windows_are_small),
        TEST(both_places_of_a_field_agree),
        TEST(auto_follows_the_rules),
        TEST(shapes_are_checked),
        TEST(headers_are_checked),
        TEST(a_convolution_may_have_one_channel),
        TEST(truncated_shards_are_refused),
        TEST(damaged_headers_never_crash),
        TEST(values_that_are_not_finite_are_found),
        TEST(gate_and_up_are_alike),
        TEST(shards_stay_in_the_folder),
        TEST(index_and_shards_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
