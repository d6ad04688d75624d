#include "model/json.h"

#include "base/file.h"

#include <stdlib.h>

OcrCode json_read_bytes(const char *name, const char *bytes, size_t size, OcrCode invalid,
                        json_t **out, OcrError *err) {
    json_error_t problem;
    *out = json_loadb(bytes, size, JSON_REJECT_DUPLICATES, &problem);
    if (*out)
        return OCR_OK;
    if (json_error_code(&problem) == json_error_out_of_memory)
        return ocr_fail(err, OCR_OUT_OF_MEMORY, "out of memory while parsing %s", name);
    return ocr_fail(err, invalid, "%s is not valid JSON: line %d, column %d: %s", name,
                    problem.line, problem.column, problem.text);
}

OcrCode json_read_file(const char *path, size_t max_bytes, OcrCode invalid, json_t **out,
                       OcrError *err) {
    char *bytes;
    size_t size;
    OcrCode code = file_read(path, max_bytes, invalid, &bytes, &size, err);
    if (code)
        return code;
    code = json_read_bytes(path, bytes, size, invalid, out, err);
    free(bytes);
    return code;
}
