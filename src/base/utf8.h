/*
 * utf8.h - white space at the ends of a text.
 */
#ifndef OCR_UTF8_H
#define OCR_UTF8_H

#include <stddef.h>

typedef struct Text {
    const char *bytes; /* UTF-8 */
    size_t length;
} Text;

/* Without the Unicode white space at both ends. */
Text text_strip(Text text);

#endif
