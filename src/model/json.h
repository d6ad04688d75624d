/*
 * json.h - the model's small JSON files, by jansson.
 *
 * Strict: a key that occurs twice, invalid UTF-8, lone surrogates, NUL, numbers
 * that do not fit and anything behind the value are errors. The caller owns *out
 * (json_decref). For tokenizer.json, which is large, see flatjson.h.
 */
#ifndef OCR_JSON_H
#define OCR_JSON_H

#include "base/status.h"

#include <jansson.h>
#include <stddef.h>

/*
 * Read and parse a file of at most max_bytes. OCR_MODEL_MISSING: it does not
 * exist; OCR_MODEL_UNREADABLE: the system refuses; `invalid`: it is too large or
 * malformed, and the message says at which line and column.
 */
OcrCode json_read_file(const char *path, size_t max_bytes, OcrCode invalid, json_t **out,
                       OcrError *err);

/* The same for bytes in memory; name begins the messages. */
OcrCode json_read_bytes(const char *name, const char *bytes, size_t size, OcrCode invalid,
                        json_t **out, OcrError *err);

#endif
