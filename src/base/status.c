#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

OcrCode ocr_fail(OcrError *err, OcrCode code, const char *format, ...) {
    va_list args;
    err->code = code;
    va_start(args, format);
    int length = vsnprintf(err->message, sizeof err->message, format, args);
    va_end(args);
    if (length >= (int)sizeof err->message) {
        /* Step back over a character that was cut: continuation bytes, then their lead byte. */
        size_t end = sizeof err->message - 1;
        while (end > 0 && ((unsigned char)err->message[end - 1] & 0xC0) == 0x80)
            end--;
        if (end > 0 && (unsigned char)err->message[end - 1] >= 0xC0)
            end--;
        else
            end = sizeof err->message - 1;
        err->message[end] = '\0';
    }
    return code;
}
