/*
 * character.h - UTF-8, one character at a time and strictly (Unicode 15, table 3-7).
 */
#ifndef OCR_CHARACTER_H
#define OCR_CHARACTER_H

#include <stddef.h>
#include <stdint.h>

/*
 * Bytes of the well-formed character at the start of text [size], size >= 1.
 * If there is none: minus the bytes of the longest prefix that could have begun
 * one, at least -1. That is the part that one U+FFFD stands for.
 */
static inline int utf8_character(const char *text, size_t size) {
    const uint8_t *byte = (const uint8_t *)text;
    uint8_t lead = byte[0], low = 0x80, high = 0xBF; /* bounds of the second byte */
    int length;

    if (lead < 0x80)
        return 1;
    if (lead < 0xC2 || lead > 0xF4)
        return -1;
    if (lead < 0xE0) {
        length = 2;
    } else if (lead < 0xF0) {
        length = 3;
        if (lead == 0xE0)
            low = 0xA0; /* shorter forms exist */
        else if (lead == 0xED)
            high = 0x9F; /* surrogates */
    } else {
        length = 4;
        if (lead == 0xF0)
            low = 0x90;
        else if (lead == 0xF4)
            high = 0x8F; /* beyond U+10FFFF */
    }
    for (int i = 1; i < length; i++) {
        if ((size_t)i >= size || byte[i] < low || byte[i] > high)
            return -i;
        low = 0x80;
        high = 0xBF;
    }
    return length;
}

/* The code point of a well-formed character of length bytes. */
static inline uint32_t utf8_code_point(const char *text, int length) {
    const uint8_t *byte = (const uint8_t *)text;
    uint32_t code = length == 1 ? byte[0] : byte[0] & (0x7F >> length);
    for (int i = 1; i < length; i++)
        code = code << 6 | (byte[i] & 0x3F);
    return code;
}

/* Write a code point (no surrogate, at most U+10FFFF); returns its 1..4 bytes. */
static inline int utf8_write(uint32_t code, char *out) {
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (char)(0xC0 | code >> 6);
        out[1] = (char)(0x80 | (code & 0x3F));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (char)(0xE0 | code >> 12);
        out[1] = (char)(0x80 | (code >> 6 & 0x3F));
        out[2] = (char)(0x80 | (code & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | code >> 18);
    out[1] = (char)(0x80 | (code >> 12 & 0x3F));
    out[2] = (char)(0x80 | (code >> 6 & 0x3F));
    out[3] = (char)(0x80 | (code & 0x3F));
    return 4;
}

#endif
