#include "postgres.h"
#include "pg/compat.h"

#include "lib/ilist.h"
#include "utils/memutils.h"

#include "pg/errors.h"
#include "pg/model_cache.h"
#include "pg/model_folder.h"
#include "pg/settings.h"
#include "pg/stats.h"

#define OPEN_MODELS 4

/* Lives in its own context, together with the model's tables. */
typedef struct CachedModel {
    dlist_node node; /* most recently used first */
    MemoryContext context;
    char *path;
    uint64 stamp; /* of the folder, taken before it was opened */
    OcrModel *model;
} CachedModel;

static dlist_head open_models = DLIST_STATIC_INIT(open_models);
static int pins; /* while there are any, no model is closed */

static void *allocate_in_context(void *context, size_t bytes) {
    if (!AllocHugeSizeIsValid(bytes))
        return NULL;
    return MemoryContextAllocExtended(context, bytes, MCXT_ALLOC_HUGE | MCXT_ALLOC_NO_OOM);
}

/* For a model's tables; dies with the query until the model is known to be good. */
static MemoryContext model_context(void) {
    return AllocSetContextCreate(CurrentMemoryContext, "deepseek_ocr model", ALLOCSET_SMALL_SIZES);
}

static OcrCode open_in_context(const char *path, MemoryContext context, OcrModel **model,
                               OcrError *err) {
    OcrAllocator allocator = {allocate_in_context, context};

    return ocr_model_open(path, allocator, model, err);
}

static CachedModel *open_model(const char *path) {
    MemoryContext context = model_context();
    CachedModel *cached = MemoryContextAlloc(context, sizeof *cached);
    OcrError err;

    cached->context = context;
    cached->path = MemoryContextStrdup(context, path);
    cached->stamp = model_folder_stamp(path);
    if (open_in_context(path, context, &cached->model, &err) != OCR_OK) {
        stats_count_error(error_sqlstate(err.code));
        error_raise(&err);
    }
    MemoryContextSetParent(context, TopMemoryContext);
    dlist_push_head(&open_models, &cached->node);
    return cached;
}

static void close_model(CachedModel *cached) {
    dlist_delete(&cached->node);
    ocr_model_close(cached->model);
    MemoryContextDelete(cached->context);
}

/* Close what was not used for longest, so that there is room for one more. */
static void make_room(void) {
    dlist_mutable_iter iter;
    int kept = 0;

    dlist_foreach_modify(iter, &open_models) {
        if (++kept >= OPEN_MODELS && pins == 0)
            close_model(dlist_container(CachedModel, node, iter.cur));
    }
}

static CachedModel *find_open(const char *path) {
    dlist_iter iter;

    dlist_foreach(iter, &open_models) {
        CachedModel *cached = dlist_container(CachedModel, node, iter.cur);

        if (strcmp(cached->path, path) == 0)
            return cached;
    }
    return NULL;
}

OcrModel *model_cache_get(void) {
    char *path = model_path(setting_model);
    CachedModel *cached = find_open(path);

    if (cached != NULL && cached->stamp != model_folder_stamp(path)) {
        if (pins == 0)
            close_model(cached);
        cached = NULL;
    }
    if (cached == NULL) {
        make_room();
        cached = open_model(path);
    }
    dlist_move_head(&open_models, &cached->node);
    pfree(path);
    return cached->model;
}

static void unpin(void *arg) {
    pins--;
}

void model_cache_pin(MemoryContext context) {
    MemoryContextCallback *callback = MemoryContextAllocZero(context, sizeof *callback);

    callback->func = unpin;
    MemoryContextRegisterResetCallback(context, callback);
    pins++;
}

OcrCode model_folder_info(const char *path, OcrModelInfo *info, OcrError *err) {
    MemoryContext context = model_context();
    OcrModel *model;
    OcrCode code = open_in_context(path, context, &model, err);

    if (code == OCR_OK) {
        ocr_model_info(model, info);
        ocr_model_close(model);
    }
    MemoryContextDelete(context);
    return code;
}
