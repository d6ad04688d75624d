#include "base/types.h"

#include <string.h>

static const char *const mode_names[OCR_MODE_COUNT] = {"auto",  "tiny",   "small",   "base",
                                                       "large", "gundam", "gundam-m"};

const char *ocr_mode_name(OcrMode mode) {
    return mode_names[mode];
}

bool ocr_mode_parse(const char *name, OcrMode *mode) {
    for (int i = 0; i < OCR_MODE_COUNT; i++)
        if (strcmp(name, mode_names[i]) == 0) {
            *mode = (OcrMode)i;
            return true;
        }
    return false;
}
