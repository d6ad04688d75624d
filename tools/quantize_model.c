/*
 * quantize_model - ocr_quantize_model() without a server.
 *
 *   quantize_model SOURCE TARGET q8|q4
 *
 * Writes the checkpoint folder TARGET, which must not exist, from SOURCE. Whatever
 * goes wrong, no half model is left under the name.
 */
#include "engine.h"

#include <stdio.h>
#include <string.h>

static int fail(const char *message) {
    fprintf(stderr, "quantize_model: %s\n", message);
    return 1;
}

int main(int argc, char **argv) {
    OcrError err;
    OcrQuantizer *quantizer;
    OcrStep step = OCR_STEP_MORE;
    int64_t written, total;
    bool q8 = argc == 4 && strcmp(argv[3], "q8") == 0;

    if (argc != 4 || (!q8 && strcmp(argv[3], "q4") != 0)) {
        fprintf(stderr, "usage: quantize_model SOURCE TARGET q8|q4\n");
        return 2;
    }
    if (ocr_quantizer_open(argv[1], argv[2], q8 ? OCR_QUANT_Q8 : OCR_QUANT_Q4, &quantizer, &err))
        return fail(err.message);
    for (int percent = -1; step == OCR_STEP_MORE;) {
        ocr_quantizer_progress(quantizer, &written, &total);
        if ((int)(100 * written / total) != percent) {
            percent = (int)(100 * written / total);
            fprintf(stderr, "\r%3d %% of %lld MB", percent, (long long)(total >> 20));
        }
        step = ocr_quantizer_step(quantizer, &err);
    }
    fputc('\n', stderr);
    ocr_quantizer_close(quantizer);
    return step == OCR_STEP_FAILED ? fail(err.message) : 0;
}
