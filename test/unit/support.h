/*
 * support.h - what the unit tests share. Failures stop the running test.
 */
#ifndef TEST_SUPPORT_H
#define TEST_SUPPORT_H

/* cmocka.h wants these before it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/status.h"
#include "base/types.h"

#include <jansson.h>

/* code is OCR_OK, else fail with err's message. */
void assert_ok(OcrCode code, const OcrError *err);
/* code and err->code are `expected`, and the message contains `part`. */
void assert_fails(OcrCode code, const OcrError *err, OcrCode expected, const char *part);

/* The whole file, malloc'ed with exactly its size, so that ASan sees a read beyond it. */
OcrBytes read_file(const char *path);
void free_bytes(OcrBytes bytes);

/* For OcrAllocator and model_open: malloc, with the block left in *owner, a void *, to be freed. */
void *keep_block(void *owner, size_t bytes);

/* The path of a file of test/goldens, in a static buffer. */
const char *golden_path(const char *name);
/* A parsed file of test/goldens; the caller calls json_decref. */
json_t *golden_json(const char *name);

/* Lower-case hex into text[65]. */
void sha256_hex(const void *data, size_t size, char text[65]);

/* splitmix64: the same sequence everywhere for the same seed. */
uint64_t random_next(uint64_t *state);
/* low..high, both included */
int random_between(uint64_t *state, int low, int high);

/* x as integers -most..most would have it, with a scale for each block of 64. out: [count] */
void round_to_integers(const float *x, int count, int most, float *out);

#endif
