/*
 * file.h - a small file of the model, read whole.
 */
#ifndef OCR_FILE_H
#define OCR_FILE_H

#include "base/status.h"

#include <stddef.h>

/*
 * Read a regular file of at most max_bytes; the caller frees *bytes, which has a
 * NUL behind its *size bytes. OCR_MODEL_MISSING: it does not exist;
 * OCR_MODEL_UNREADABLE: the system refuses, or it is no regular file;
 * `too_large`: it has more bytes.
 */
OcrCode file_read(const char *path, size_t max_bytes, OcrCode too_large, char **bytes, size_t *size,
                  OcrError *err);

#endif
