#include "base/utf8.h"

#include "base/character.h"

#include <stdbool.h>
#include <stdint.h>

/* Python's str.strip(): White_Space, and the four separators U+001C..U+001F. */
static bool is_space(uint32_t c) {
    return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 ||
           c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 ||
           c == 0x202F || c == 0x205F || c == 0x3000;
}

OcrText text_strip(OcrText text) {
    while (text.length > 0) {
        int length = utf8_character(text.bytes, text.length);
        if (length < 0 || !is_space(utf8_code_point(text.bytes, length)))
            break;
        text.bytes += length;
        text.length -= (size_t)length;
    }
    while (text.length > 0) {
        size_t start = text.length - 1;
        while (start > 0 && ((unsigned char)text.bytes[start] & 0xC0) == 0x80)
            start--;
        int length = utf8_character(text.bytes + start, text.length - start);
        if (length < 0 || !is_space(utf8_code_point(text.bytes + start, length)))
            break;
        text.length = start;
    }
    return text;
}
