/*
 * model_cache.h - the models that this backend has open.
 *
 * Weights are mapped and shared by all backends; what a backend holds of its
 * own is a model's small tables, in a memory context "deepseek_ocr model". A
 * few models stay open at once, so that switching between them costs nothing.
 */
#ifndef PG_MODEL_CACHE_H
#define PG_MODEL_CACHE_H

#include "engine.h"

/*
 * The model that deepseek_ocr.model names, opened if need be, and again if its
 * files were replaced. Raises an error if it cannot be opened. Valid until the
 * next call, or as long as it is pinned.
 */
OcrModel *model_cache_get(void);

/* Close no model before the memory context is reset. */
void model_cache_pin(MemoryContext context);

/* What a folder holds, without keeping it open. */
OcrCode model_folder_info(const char *path, OcrModelInfo *info, OcrError *err);

#endif
