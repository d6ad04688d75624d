#include "model/model.h"

#include "base/utf8.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define BOS_ID 0
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

/* Everything that lives in the model's block; over a measuring arena only the shapes are checked.
 */
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
        if (tensors->tensors[i].type != TENSOR_I64)
            model->parameters += tensors->tensors[i].count;
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

/* Append what fits of count ids behind *used of capacity. */
static OcrCode append_text(const OcrModel *model, OcrText text, int *ids, int capacity, int *used,
                           OcrError *err) {
    int count, room = capacity > *used ? capacity - *used : 0;
    OcrCode code = tokenizer_encode(model->tokenizer, text.bytes, text.length,
                                    room > 0 ? ids + *used : NULL, room, &count, err);
    if (code)
        return code;
    if (__builtin_add_overflow(*used, count, used))
        return ocr_fail(err, OCR_CONTEXT, "the prompt is too long");
    return OCR_OK;
}

static void append_ids(int id, int times, int *ids, int capacity, int *used) {
    for (int i = 0; i < times; i++, ++*used)
        if (*used < capacity)
            ids[*used] = id;
}

OcrCode model_prompt(const OcrModel *model, const char *prompt, int image_slots, int *ids,
                     int capacity, int *count, OcrError *err) {
    OcrText before = {prompt, 0}, after = text_strip((OcrText){prompt, strlen(prompt)});
    const char *mark = memmem(after.bytes, after.length, IMAGE_MARK, strlen(IMAGE_MARK));
    OcrCode code;
    *count = 0;
    append_ids(BOS_ID, 1, ids, capacity, count);
    if (mark) {
        const char *rest = mark + strlen(IMAGE_MARK);
        before = (OcrText){after.bytes, (size_t)(mark - after.bytes)};
        after = (OcrText){rest, after.length - (size_t)(rest - after.bytes)};
        if (memmem(after.bytes, after.length, IMAGE_MARK, strlen(IMAGE_MARK)))
            return ocr_fail(err, OCR_PROMPT, "the prompt contains " IMAGE_MARK " more than once");
    }
    code = append_text(model, before, ids, capacity, count, err);
    if (code)
        return code;
    append_ids(tokenizer_image_id(model->tokenizer), image_slots, ids, capacity, count);
    if (!mark) {
        /* Encoded apart: the text is stripped, so no piece can begin with this newline and go on.
         */
        code = append_text(model, (OcrText){"\n", after.length > 0 ? 1 : 0}, ids, capacity, count,
                           err);
        if (code)
            return code;
    }
    return append_text(model, after, ids, capacity, count, err);
}
