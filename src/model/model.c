#include "model/model.h"

#include "base/numbers.h"
#include "base/utf8.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define IMAGE_MARK "<image>"

/* The parsed files, alive only while a model is opened. */
typedef struct Sources {
    ModelConfig config;
    TokenizerFile *tokenizer;
    Safetensors *tensors;
} Sources;

static OcrCode read_sources(const char *folder, Sources *sources, OcrError *err) {
    char path[PATH_MAX];
    struct stat status;
    if (strlen(folder) + sizeof "/tokenizer.json" > sizeof path)
        return ocr_fail(err, OCR_MODEL_MISSING, "the path of the model folder is too long");
    if (stat(folder, &status) != 0)
        return ocr_fail(
            err, errno == ENOENT || errno == ENOTDIR ? OCR_MODEL_MISSING : OCR_MODEL_UNREADABLE,
            "could not open model folder \"%s\": %s", folder, strerror(errno));
    if (!S_ISDIR(status.st_mode))
        return ocr_fail(err, OCR_MODEL_MISSING, "\"%s\" is not a folder", folder);
    snprintf(path, sizeof path, "%s/config.json", folder);
    OcrCode code = config_read(path, &sources->config, err);
    if (code)
        return code;
    snprintf(path, sizeof path, "%s/tokenizer.json", folder);
    code = tokenizer_file_read(path, sources->config.decoder.vocabulary, &sources->tokenizer, err);
    return code ? code : safetensors_open(folder, &sources->tensors, err);
}

/*
 * Scales of quantized weights are none, and neither are indices of positions. What fills up
 * the last block of a row of 4 bits is counted, where there is such.
 */
static int64_t parameters_of(const Tensor *tensor) {
    size_t length = strlen(tensor->name), suffix = strlen("_scale");
    if (tensor->type == TENSOR_I64 ||
        (length > suffix && strcmp(tensor->name + length - suffix, "_scale") == 0))
        return 0;
    return tensor->type == TENSOR_U8 ? 2 * tensor->count : tensor->count;
}

/* Everything that lives in the model's block; over a measuring arena only shapes are checked. */
static OcrCode layout(const Sources *sources, Arena *arena, OcrModel **out, OcrError *err) {
    OcrModel unkept;
    OcrModel *place = ARENA_TAKE(arena, OcrModel, 1), *model = place ? place : &unkept;
    const Safetensors *tensors = sources->tensors;
    memset(model, 0, sizeof *model);
    model->config = sources->config;
    OcrCode code = weights_bind(sources->tensors, &model->config, arena, &model->weights, err);
    if (code)
        return code;
    model->map_count = tensors->map_count;
    model->maps = ARENA_TAKE(arena, Mapping, (size_t)tensors->map_count);
    if (model->maps)
        memcpy(model->maps, tensors->maps, (size_t)tensors->map_count * sizeof *model->maps);
    model->tokenizer = tokenizer_build(sources->tokenizer, arena);
    for (int i = 0; i < tensors->count; i++)
        model->parameters += parameters_of(&tensors->tensors[i]);
    model->table_bytes = arena->used;
    *out = place;
    return OCR_OK;
}

static OcrCode build(const Sources *sources, void *(*allocate)(void *, size_t), void *owner,
                     OcrModel **out, OcrError *err) {
    Arena arena = ARENA_MEASURE;
    OcrCode code = layout(sources, &arena, out, err);
    if (code)
        return code;
    unsigned char *block = NULL;
    if (arena.used < SIZE_MAX - ARENA_ALIGNMENT)
        block = allocate(owner, arena.used + ARENA_ALIGNMENT);
    if (!block)
        return ocr_fail(err, OCR_OUT_OF_MEMORY, "no memory for the tables of the model");
    block += -(uintptr_t)block % ARENA_ALIGNMENT;
    arena = (Arena){block, 0};
    return layout(sources, &arena, out, err);
}

OcrCode model_open(const char *folder, void *(*allocate)(void *owner, size_t bytes), void *owner,
                   OcrModel **out, OcrError *err) {
    Sources sources = {0};
    OcrCode code = read_sources(folder, &sources, err);
    if (!code)
        code = build(&sources, allocate, owner, out, err);
    tokenizer_file_close(sources.tokenizer);
    safetensors_close(sources.tensors, code == OCR_OK);
    return code;
}

void model_close(OcrModel *model) {
    if (!model)
        return;
    tokenizer_release(model->tokenizer);
    for (int i = 0; i < model->map_count; i++)
        munmap(model->maps[i].address, model->maps[i].size);
}

/* ---- prompts ---- */

/* A prompt's ids as they come; count goes on beyond capacity. */
typedef struct Sequence {
    const Tokenizer *tokenizer;
    int *ids; /* [capacity] */
    int capacity, count;
    OcrError *err;
} Sequence;

static void append_ids(Sequence *sequence, int id, int times) {
    for (int i = 0; i < times; i++, sequence->count++)
        if (sequence->count < sequence->capacity)
            sequence->ids[sequence->count] = id;
}

static OcrCode append_text(Sequence *sequence, OcrText text, bool literally) {
    int count, room = max_int(sequence->capacity - sequence->count, 0);
    int *ids = room > 0 ? sequence->ids + sequence->count : NULL;
    OcrCode code = (literally ? tokenizer_encode_literally : tokenizer_encode)(
        sequence->tokenizer, text.bytes, text.length, ids, room, &count, sequence->err);
    if (!code && __builtin_add_overflow(sequence->count, count, &sequence->count))
        return ocr_fail(sequence->err, OCR_CONTEXT, "the prompt is too long");
    return code;
}

static OcrCode append_prompt(Sequence *sequence, const Prompt *prompt) {
    OcrText before = {prompt->text, 0};
    OcrText after = text_strip((OcrText){prompt->text, strlen(prompt->text)});
    const char *mark = memmem(after.bytes, after.length, IMAGE_MARK, strlen(IMAGE_MARK));
    if (mark) {
        const char *rest = mark + strlen(IMAGE_MARK);
        before = (OcrText){after.bytes, (size_t)(mark - after.bytes)};
        after = (OcrText){rest, after.length - (size_t)(rest - after.bytes)};
        if (memmem(after.bytes, after.length, IMAGE_MARK, strlen(IMAGE_MARK)))
            return ocr_fail(sequence->err, OCR_PROMPT,
                            "the prompt contains " IMAGE_MARK " more than once");
    }
    OcrCode code = append_text(sequence, before, false);
    if (code)
        return code;
    append_ids(sequence, tokenizer_image_id(sequence->tokenizer), prompt->image_slots);
    /* Encoded apart: the text is stripped, so no piece can begin with this newline and go on. */
    if (!mark && after.length > 0)
        code = append_text(sequence, TEXT("\n"), false);
    return code ? code : append_text(sequence, after, false);
}

static OcrCode append_question(Sequence *sequence, const Prompt *prompt) {
    OcrText phrase = {prompt->phrase, strlen(prompt->phrase)};
    append_ids(sequence, tokenizer_image_id(sequence->tokenizer), prompt->image_slots);
    OcrCode code = append_text(sequence, TEXT("\nLocate <|ref|>"), false);
    if (!code)
        code = append_text(sequence, phrase, true);
    return code ? code : append_text(sequence, TEXT("<|/ref|> in the image."), false);
}

OcrCode model_prompt(const OcrModel *model, const Prompt *prompt, int *ids, int capacity,
                     int *count, OcrError *err) {
    Sequence sequence = {
        .tokenizer = model->tokenizer, .ids = ids, .capacity = capacity, .err = err};
    append_ids(&sequence, BOS_ID, 1);
    OcrCode code =
        prompt->phrase ? append_question(&sequence, prompt) : append_prompt(&sequence, prompt);
    *count = sequence.count;
    return code;
}
