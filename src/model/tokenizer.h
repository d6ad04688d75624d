/*
 * tokenizer.h - byte-level BPE from a Hugging Face tokenizer.json (spec 6).
 *
 * Encoding is for prompts (short), decoding for what the model says. The
 * tables live in one block that the caller provides, as with every structure
 * of the engine: open, ask for bytes, build.
 */
#ifndef OCR_TOKENIZER_H
#define OCR_TOKENIZER_H

#include "base/arena.h"
#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The marks of begin and end, in every model (spec 1.2). */
#define BOS_ID 0
#define EOS_ID 1

typedef struct Tokenizer Tokenizer;
typedef struct TokenizerFile TokenizerFile; /* what was read, alive only while loading */

/*
 * Read and check dir/tokenizer.json. Everything that encode and decode later
 * rely on is validated here: ids below vocab_size, all 256 byte symbols, merges
 * whose parts and result are in the vocabulary, patterns that compile, and the
 * presence of BOS_ID, EOS_ID and <image>.
 * OCR_MODEL_TOKENIZER names what is wrong.
 */
OcrCode tokenizer_file_read(const char *path, int vocab_size, TokenizerFile **out, OcrError *err);
void tokenizer_file_close(TokenizerFile *file); /* NULL is allowed */

/*
 * Lay the tables out in the arena: measure first, which returns NULL, then
 * carve, which takes the compiled patterns out of the file.
 */
Tokenizer *tokenizer_build(TokenizerFile *file, Arena *arena);

/* Compiled patterns live outside the arena (PCRE2's heap); call once when the model is closed. */
void tokenizer_release(Tokenizer *tokenizer);

/*
 * Ids of UTF-8 text; added tokens are recognised anywhere in it. Writes at most
 * capacity ids and sets *count to the number that the text has. Transient memory
 * is malloc'ed and freed before returning. OCR_PROMPT if the text is not valid
 * UTF-8 or longer than 256 KiB.
 */
OcrCode tokenizer_encode(const Tokenizer *tokenizer, const char *text, size_t length, int *ids,
                         int capacity, int *count, OcrError *err);

/* The same for text in which an added token is no token but its characters. */
OcrCode tokenizer_encode_literally(const Tokenizer *tokenizer, const char *text, size_t length,
                                   int *ids, int capacity, int *count, OcrError *err);

/* The token with exactly this text, or -1; added tokens first, then the vocabulary by its bytes. */
int tokenizer_find(const Tokenizer *tokenizer, const char *text, size_t length);

/*
 * Text of ids as valid UTF-8: broken sequences become U+FFFD, one for each
 * maximal invalid part. Special tokens are kept. Returns the number of bytes
 * the text has; writes at most capacity of them (no terminator).
 */
size_t tokenizer_decode(const Tokenizer *tokenizer, const int *ids, int count, char *out,
                        size_t capacity);

int tokenizer_image_id(const Tokenizer *tokenizer); /* of <image> */

#endif
