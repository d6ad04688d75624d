/*
 * checkpoint.c - the values of the weights, and the files.
 *
 * The values (all integers 64 bits wide and wrapping):
 *   mix(z)   z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9
 *            z = (z ^ z >> 27) * 0x94D049BB133111EB;  z ^ z >> 31
 *   key      mix(fnv1a(name) + mix(seed * G + G)),  G = 0x9E3779B97F4A7C15
 *   u[i]     (mix(key + (i + 1) * G) >> 40) * 2^-23 - 1, exact in a float
 *   v[i]     u[i] * a, and then + o unless o is 0, each rounded to float
 * with a and o from the table of scales below; then rounded to even to the
 * stored type. Compile without contraction of a * b + c.
 */
#include "checkpoint_plan.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_THREADS 256
#define CHUNK ((int64_t)1 << 18) /* values that a thread makes and writes at once */

/* ---- values ---- */

/*
 * The first rule that the end of a name matches, and each does; # stands for digits. gain g
 * means a = g * sqrt(3 / fan_in), which gives g times the variance that a layer
 * takes in, and fan_in is the product of all dims but the first.
 */
static const struct {
    const char *name;
    double gain, amplitude;
    float offset;
} scales[] = {
    {"pre_layrnorm.weight", 0, 0.25, 1},
    {"layer_norm#.weight", 0, 0.25, 1},
    {"norm#.weight", 0, 0.25, 1},
    {"norm.weight", 0, 0.25, 1},
    {"input_layernorm.weight", 0, 0.25, 1},
    {"post_attention_layernorm.weight", 0, 0.25, 1},
    {"neck.1.weight", 0, 0.25, 1},
    {"neck.3.weight", 0, 0.25, 1},
    {"bias", 0, 0.1, 0},
    {"embed_tokens.weight", 0, 1.5, 0},
    {"image_newline", 0, 1.5, 0},
    {"view_seperator", 0, 1.5, 0},
    {"class_embedding", 0, 1.5, 0},
    {"pos_embed", 0, 0.8, 0},
    {"position_embedding.weight", 0, 0.8, 0},
    {"rel_pos_h", 1.0, 0, 0},
    {"rel_pos_w", 1.0, 0, 0},
    {"qkv.weight", 1.3, 0, 0},
    {"qkv_proj.weight", 1.3, 0, 0},
    {"q_proj.weight", 1.6, 0, 0},
    {"k_proj.weight", 1.6, 0, 0},
    {"v_proj.weight", 1.2, 0, 0},
    {"o_proj.weight", 1.5, 0, 0},
    {"out_proj.weight", 1.5, 0, 0},
    {"attn.proj.weight", 1.5, 0, 0},
    {"lin1.weight", 1.4, 0, 0},
    {"fc1.weight", 1.4, 0, 0},
    {"gate_proj.weight", 1.4, 0, 0},
    {"up_proj.weight", 1.4, 0, 0},
    {"experts.#.down_proj.weight", 3.0, 0, 0},
    {"lin2.weight", 1.2, 0, 0},
    {"fc2.weight", 1.2, 0, 0},
    {"down_proj.weight", 1.2, 0, 0},
    {"mlp.gate.weight", 2.0, 0, 0},
    {"lm_head.weight", 3.0, 0, 0},
    {"patch_embed.proj.weight", 1.5, 0, 0},
    {"neck.#.weight", 1.3, 0, 0},
    {"net_#.weight", 1.3, 0, 0},
    {"projector.layers.weight", 0.6, 0, 0},
    {"patch_embedding.weight", 1.0, 0, 0},
};

/* Whether name ends with the rule, at the beginning of one of its dotted parts. */
static bool ends_with(const char *name, const char *rule) {
    const char *at = name + strlen(name), *mark = rule + strlen(rule);
    while (mark > rule && at > name) {
        if (*--mark != '#') {
            if (*--at != *mark)
                return false;
            continue;
        }
        if (!isdigit((unsigned char)at[-1]))
            return false;
        while (at > name && isdigit((unsigned char)at[-1]))
            at--;
    }
    return mark == rule && (at == name || at[-1] == '.');
}

typedef struct Scale {
    float amplitude, offset;
} Scale;

static Scale tensor_scale(const TensorPlan *tensor) {
    size_t rule = 0;
    while (rule + 1 < sizeof scales / sizeof *scales && !ends_with(tensor->name, scales[rule].name))
        rule++;
    double fan_in = (double)(tensor->count / tensor->shape[0]);
    double amplitude =
        scales[rule].gain > 0 ? scales[rule].gain * sqrt(3.0 / fan_in) : scales[rule].amplitude;
    return (Scale){(float)amplitude, scales[rule].offset};
}

#define GOLDEN 0x9E3779B97F4A7C15

static inline uint64_t mix(uint64_t z) {
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
    z = (z ^ z >> 27) * 0x94D049BB133111EB;
    return z ^ z >> 31;
}

static uint64_t tensor_key(uint64_t seed, const char *name) {
    uint64_t hash = 0xCBF29CE484222325;
    for (; *name; name++)
        hash = (hash ^ (unsigned char)*name) * 0x100000001B3;
    return mix(hash + mix(seed * GOLDEN + GOLDEN));
}

/* values: [count] of the tensor from index start on */
static void make_values(uint64_t key, Scale scale, int64_t start, int64_t count, float *values) {
    for (int64_t i = 0; i < count; i++) {
        uint64_t bits = mix(key + (uint64_t)(start + i + 1) * GOLDEN) >> 40;
        values[i] = ((float)(int32_t)bits * 0x1p-23f - 1.0f) * scale.amplitude;
    }
    for (int64_t i = 0; i < count && scale.offset != 0; i++)
        values[i] += scale.offset;
}

static uint32_t float_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* Round to nearest, ties to even. Both: |value| < 65504. */
static uint16_t to_bf16(float value) {
    uint32_t bits = float_bits(value);
    return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

static uint16_t to_f16(float value) {
    uint32_t bits = float_bits(value), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7FFFFFFF;
    if (magnitude < 0x38800000) /* below 2^-14 halves are the multiples of 2^-24 */
        return (uint16_t)(sign | (uint32_t)lrintf(fabsf(value) * 0x1p24f));
    magnitude += 0xFFF + (magnitude >> 13 & 1) - 0x38000000; /* exponent bias 127 - 15 */
    return (uint16_t)(sign | magnitude >> 13);
}

/* ---- files ---- */

static int type_size(CheckpointType type) {
    return type == CHECKPOINT_F32 ? 4 : 2;
}

static int64_t tensor_bytes(const TensorPlan *tensor, CheckpointType type) {
    return tensor->count * (tensor->positions ? 8 : type_size(type));
}

/* What the writing threads share; only next and failed change. */
typedef struct Writer {
    Inventory inventory;
    CheckpointOptions options;
    int files[CHECKPOINT_MAX_SHARDS];       /* [shards] */
    int64_t headers[CHECKPOINT_MAX_SHARDS]; /* [shards] bytes before the data */
    int64_t chunks;
    atomic_llong next;
    atomic_int failed; /* errno of a write */
} Writer;

static int64_t tensor_chunks(const TensorPlan *tensor) {
    return (tensor->count + CHUNK - 1) / CHUNK;
}

/* Shards in turn take tensors until they have their share of the bytes; there may be fewer. */
static int64_t assign_shards(Writer *writer) {
    Inventory *inventory = &writer->inventory;
    int64_t total = 0, done = 0;
    for (int i = 0; i < inventory->count; i++)
        total += tensor_bytes(&inventory->tensors[i], writer->options.type);
    int64_t offset = 0;
    int shard = 0;
    for (int i = 0; i < inventory->count; i++) {
        TensorPlan *tensor = &inventory->tensors[i];
        int64_t bytes = tensor_bytes(tensor, writer->options.type);
        tensor->shard = shard;
        tensor->offset = offset;
        tensor->first_chunk = writer->chunks;
        writer->chunks += tensor_chunks(tensor);
        offset += bytes;
        done += bytes;
        if (shard < writer->options.shards - 1 &&
            done * writer->options.shards >= total * (shard + 1)) {
            shard++;
            offset = 0;
        }
    }
    writer->options.shards = shard + 1;
    return total;
}

static bool write_fully(int file, const void *data, int64_t size, int64_t offset) {
    const char *bytes = data;
    while (size > 0) {
        ssize_t done = pwrite(file, bytes, (size_t)size, offset);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return false;
        bytes += done;
        size -= done;
        offset += done;
    }
    return true;
}

/* buffer: [CHUNK]; floats fill its first half, what they are rounded to a part of the second. */
static bool write_chunk(const Writer *writer, const TensorPlan *tensor, int64_t start,
                        int64_t *buffer) {
    int64_t count = tensor->count - start < CHUNK ? tensor->count - start : CHUNK;
    int size = tensor->positions ? 8 : type_size(writer->options.type);
    float *values = (float *)buffer;
    uint16_t *halves = (uint16_t *)(values + CHUNK);
    void *data = values;
    if (tensor->positions) {
        for (int64_t i = 0; i < count; i++)
            buffer[i] = start + i;
        data = buffer;
    } else {
        make_values(tensor_key(writer->options.seed, tensor->name), tensor_scale(tensor), start,
                    count, values);
        for (int64_t i = 0; i < count && size == 2; i++)
            halves[i] =
                writer->options.type == CHECKPOINT_BF16 ? to_bf16(values[i]) : to_f16(values[i]);
        data = size == 2 ? (void *)halves : values;
    }
    return write_fully(writer->files[tensor->shard], data, count * size,
                       writer->headers[tensor->shard] + tensor->offset + start * size);
}

static void *write_chunks(void *argument) {
    Writer *writer = argument;
    const Inventory *inventory = &writer->inventory;
    int64_t *buffer = malloc(CHUNK * sizeof *buffer), chunk;
    if (!buffer) {
        writer->failed = ENOMEM;
        return NULL;
    }
    int tensor = 0; /* chunks only go up */
    while ((chunk = writer->next++) < writer->chunks && !writer->failed) {
        while (tensor + 1 < inventory->count && inventory->tensors[tensor + 1].first_chunk <= chunk)
            tensor++;
        const TensorPlan *plan = &inventory->tensors[tensor];
        if (!write_chunk(writer, plan, (chunk - plan->first_chunk) * CHUNK, buffer))
            writer->failed = errno ? errno : EIO;
    }
    free(buffer);
    return NULL;
}

static void run_threads(Writer *writer) {
    pthread_t workers[MAX_THREADS];
    int started = 0, threads = writer->options.threads;
    if (threads <= 0)
        threads = (int)sysconf(_SC_NPROCESSORS_ONLN);
    if (threads > MAX_THREADS)
        threads = MAX_THREADS;
    while (started < threads - 1 &&
           pthread_create(&workers[started], NULL, write_chunks, writer) == 0)
        started++;
    write_chunks(writer);
    for (int i = 0; i < started; i++)
        pthread_join(workers[i], NULL);
}

/* The safetensors header: its length, the JSON, blanks up to a multiple of 8. */
static bool write_header(Writer *writer, int shard) {
    static const char *const types[] = {
        [CHECKPOINT_BF16] = "BF16", [CHECKPOINT_F16] = "F16", [CHECKPOINT_F32] = "F32"};
    char *text = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&text, &size);
    if (!stream)
        return false;
    uint64_t length = 0;
    fwrite(&length, sizeof length, 1, stream);
    fprintf(stream, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (int i = 0; i < writer->inventory.count; i++) {
        const TensorPlan *tensor = &writer->inventory.tensors[i];
        if (tensor->shard != shard)
            continue;
        fprintf(stream, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[", tensor->name,
                tensor->positions ? "I64" : types[writer->options.type]);
        for (int dim = 0; tensor->shape[dim]; dim++)
            fprintf(stream, dim ? ",%lld" : "%lld", (long long)tensor->shape[dim]);
        fprintf(stream, "],\"data_offsets\":[%lld,%lld]}", (long long)tensor->offset,
                (long long)(tensor->offset + tensor_bytes(tensor, writer->options.type)));
    }
    fprintf(stream, "}");
    while (ftell(stream) % 8 != 0)
        fputc(' ', stream);
    if (fclose(stream) != 0)
        return false;
    length = size - sizeof length;
    memcpy(text, &length, sizeof length); /* little-endian, as the machines we run on */
    writer->headers[shard] = (int64_t)size;
    bool written = write_fully(writer->files[shard], text, (int64_t)size, 0);
    free(text);
    return written;
}

static const char *shard_name(char name[64], int shard, int shards) {
    /* The released file counts its shards with six digits. */
    snprintf(name, 64, "model-%05d-of-%06d.safetensors", shard + 1, shards);
    return name;
}

static OcrCode write_json(const char *folder, const char *name, const json_t *value,
                          OcrError *err) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    if (json_dump_file(value, path, JSON_INDENT(1)) != 0)
        return ocr_fail(err, OCR_SYSTEM, "could not write \"%s\": %s", path, strerror(errno));
    return OCR_OK;
}

static OcrCode write_index(const char *folder, const Writer *writer, int64_t total, OcrError *err) {
    json_t *map = json_object();
    char name[64];
    for (int i = 0; i < writer->inventory.count; i++) {
        const TensorPlan *tensor = &writer->inventory.tensors[i];
        json_object_set_new(map, tensor->name,
                            json_string(shard_name(name, tensor->shard, writer->options.shards)));
    }
    json_t *index =
        json_pack("{s:{s:I}, s:o}", "metadata", "total_size", (json_int_t)total, "weight_map", map);
    OcrCode code = write_json(folder, "model.safetensors.index.json", index, err);
    json_decref(index);
    return code;
}

static OcrCode write_shards(const char *folder, Writer *writer, OcrError *err) {
    int opened = 0;
    char path[PATH_MAX], name[64];
    while (opened < writer->options.shards && !writer->failed) {
        snprintf(path, sizeof path, "%s/%s", folder,
                 shard_name(name, opened, writer->options.shards));
        int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
        if (file < 0) {
            writer->failed = errno;
            break;
        }
        writer->files[opened++] = file;
        if (!write_header(writer, opened - 1))
            writer->failed = errno ? errno : EIO;
    }
    if (!writer->failed)
        run_threads(writer);
    while (opened > 0)
        if (close(writer->files[--opened]) != 0)
            writer->failed = errno;
    if (writer->failed)
        return ocr_fail(err, OCR_SYSTEM, "could not write the shards of \"%s\": %s", folder,
                        strerror(writer->failed));
    return OCR_OK;
}

/* Settle the type, and say so in the configuration. */
static CheckpointType settle_type(json_t *config, CheckpointType type) {
    static const char *const names[] = {
        [CHECKPOINT_BF16] = "bfloat16", [CHECKPOINT_F16] = "float16", [CHECKPOINT_F32] = "float32"};
    const char *name = json_string_value(json_object_get(config, "torch_dtype"));
    for (int i = CHECKPOINT_BF16; i <= CHECKPOINT_F32 && type == CHECKPOINT_AS_CONFIG; i++)
        if (name && strcmp(name, names[i]) == 0)
            type = (CheckpointType)i;
    if (type == CHECKPOINT_AS_CONFIG)
        type = CHECKPOINT_BF16;
    json_object_set_new(config, "torch_dtype", json_string(names[type]));
    return type;
}

/* The language field vocab_size, as list_tensors has checked it. */
static int vocabulary_size(const json_t *config) {
    const json_t *top = json_object_get(config, "vocab_size");
    const json_t *inner = json_object_get(json_object_get(config, "language_config"), "vocab_size");
    return (int)json_integer_value(top ? top : inner);
}

static OcrCode write_small_files(const char *folder, const json_t *config, const Writer *writer,
                                 int64_t total, OcrError *err) {
    OcrCode code = write_json(folder, "config.json", config, err);
    if (!code)
        code = write_index(folder, writer, total, err);
    if (code)
        return code;
    json_t *tokenizer = checkpoint_tokenizer(vocabulary_size(config), writer->options.list_merges);
    if (!tokenizer)
        return ocr_fail(err, OCR_MODEL_CONFIG, "config.json: vocab_size is too small");
    code = write_json(folder, "tokenizer.json", tokenizer, err);
    json_decref(tokenizer);
    return code;
}

static OcrCode write_folder(const char *folder, json_t *config, Writer *writer, OcrError *err) {
    OcrCode code = list_tensors(config, &writer->inventory, err);
    if (code)
        return code;
    if (mkdir(folder, 0777) != 0 && errno != EEXIST)
        return ocr_fail(err, OCR_SYSTEM, "could not make \"%s\": %s", folder, strerror(errno));
    writer->options.type = settle_type(config, writer->options.type);
    int64_t total = assign_shards(writer);
    code = write_small_files(folder, config, writer, total, err);
    return code ? code : write_shards(folder, writer, err);
}

OcrCode checkpoint_write(const char *folder, json_t *config, const CheckpointOptions *options,
                         OcrError *err) {
    if (options->shards < 1 || options->shards > CHECKPOINT_MAX_SHARDS)
        return ocr_fail(err, OCR_SYSTEM, "there can be 1 to %d shards", CHECKPOINT_MAX_SHARDS);
    Writer *writer = calloc(1, sizeof *writer);
    if (!writer)
        return ocr_fail(err, OCR_OUT_OF_MEMORY, "out of memory");
    writer->options = *options;
    OcrCode code = write_folder(folder, config, writer, err);
    free(writer->inventory.tensors);
    free(writer);
    return code;
}
