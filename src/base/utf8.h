/*
 * utf8.h - texts: literals, and white space at the ends.
 */
#ifndef OCR_UTF8_H
#define OCR_UTF8_H

#include "base/types.h"

#define TEXT(literal) ((OcrText){(literal), sizeof(literal) - 1})

/* Without the Unicode white space at both ends. */
OcrText text_strip(OcrText text);

#endif
