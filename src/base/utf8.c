#include "base/utf8.h"

#include <stdbool.h>
#include <stdint.h>

/* Python's str.strip(): White_Space, and the four separators U+001C..U+001F. */
static bool is_space(uint32_t c) {
    return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 ||
           c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 ||
           c == 0x202F || c == 0x205F || c == 0x3000;
}

/* The character at bytes and its length. */
static uint32_t decode(const char *bytes, size_t available, size_t *length) {
    const unsigned char *b = (const unsigned char *)bytes;
    size_t n = b[0] < 0x80 ? 1 : b[0] < 0xE0 ? 2 : b[0] < 0xF0 ? 3 : 4;
    if (n > available)
        n = 1;
    *length = n;
    switch (n) {
    case 1:
        return b[0];
    case 2:
        return (uint32_t)(b[0] & 0x1F) << 6 | (b[1] & 0x3F);
    case 3:
        return (uint32_t)(b[0] & 0x0F) << 12 | (uint32_t)(b[1] & 0x3F) << 6 | (b[2] & 0x3F);
    default:
        return (uint32_t)(b[0] & 0x07) << 18 | (uint32_t)(b[1] & 0x3F) << 12 |
               (uint32_t)(b[2] & 0x3F) << 6 | (b[3] & 0x3F);
    }
}

Text text_strip(Text text) {
    size_t n;
    while (text.length > 0 && is_space(decode(text.bytes, text.length, &n))) {
        text.bytes += n;
        text.length -= n;
    }
    while (text.length > 0) {
        size_t start = text.length - 1;
        while (start > 0 && ((unsigned char)text.bytes[start] & 0xC0) == 0x80)
            start--;
        if (!is_space(decode(text.bytes + start, text.length - start, &n)))
            break;
        text.length = start;
    }
    return text;
}
