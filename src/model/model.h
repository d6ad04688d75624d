/*
 * model.h - an open checkpoint: configuration, weights and tokenizer in one block.
 */
#ifndef OCR_MODEL_H
#define OCR_MODEL_H

#include "base/arena.h"
#include "model/config.h"
#include "model/tokenizer.h"
#include "model/weights.h"

typedef struct OcrModel {
    ModelConfig config;
    Weights weights;
    Tokenizer *tokenizer;
    Mapping *maps; /* [map_count] the files that the weights lie in */
    int map_count;
    int64_t parameters;
    size_t table_bytes; /* of the block */
} OcrModel;

/* allocate is called once, for a block that must outlive the model. */
OcrCode model_open(const char *folder, void *(*allocate)(void *owner, size_t bytes), void *owner,
                   OcrModel **out, OcrError *err);
void model_close(OcrModel *model);

/* What the decoder is asked: text, or where a phrase is seen (spec 4.3). UTF-8, ended by NUL. */
typedef struct Prompt {
    const char *text;
    const char *phrase; /* NULL: none */
    int image_slots;
} Prompt;

/*
 * The decoder's input: BOS, the ids before <image>, one image id for each slot,
 * the ids behind (spec 4.1, 4.2). A text is stripped, and gets "<image>\n" in
 * front if it has no <image>; with several it is refused (OCR_PROMPT). In a phrase
 * no token has a meaning, be it <image> or <|/ref|>. Writes at most capacity ids;
 * *count is how many there are.
 */
OcrCode model_prompt(const OcrModel *model, const Prompt *prompt, int *ids, int capacity,
                     int *count, OcrError *err);

#endif
