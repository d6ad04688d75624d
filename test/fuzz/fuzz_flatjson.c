/* JSON beside jansson: the same texts are accepted. */
#include "model/flatjson.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What jansson refuses or accepts for reasons of its own. */
static bool is_excused(const json_error_t *theirs, const OcrError *ours, bool has_nul) {
    if (has_nul && ours->code != OCR_OK)
        return true; /* it overlooks one behind a number */
    switch (json_error_code(theirs)) {
    case json_error_numeric_overflow:
    case json_error_stack_overflow:
        return true;
    case json_error_duplicate_key: /* in a large object */
        return ours->code == OCR_OK;
    default:
        return strstr(ours->message, "nested too deeply") != NULL;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    json_error_t problem = {0};
    OcrError err = {0};
    FlatValue *root = NULL;
    char *bytes = malloc(size + 1);
    if (!bytes)
        return 0;
    if (size > 0)
        memcpy(bytes, data, size);
    bytes[size] = '\0';
    json_t *theirs = json_loadb(bytes, size, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &problem);
    OcrCode code = flat_parse("input", bytes, size, OCR_MODEL_TOKENIZER, &root, &err);
    if ((code == OCR_OK) != (theirs != NULL) &&
        !is_excused(&problem, &err, memchr(bytes, '\0', size)))
        abort();
    if (code == OCR_OK)
        free(root);
    json_decref(theirs);
    free(bytes);
    return 0;
}
