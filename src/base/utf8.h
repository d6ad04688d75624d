/*
 * utf8.h - white space at the ends of a text.
 */
#ifndef OCR_UTF8_H
#define OCR_UTF8_H

#include "base/types.h"

/* Without the Unicode white space at both ends. */
OcrText text_strip(OcrText text);

#endif
