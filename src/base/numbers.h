/*
 * numbers.h - the smaller, the larger, and division upwards.
 */
#ifndef OCR_NUMBERS_H
#define OCR_NUMBERS_H

#include <stddef.h>

static inline int min_int(int a, int b) {
    return a < b ? a : b;
}

static inline int max_int(int a, int b) {
    return a > b ? a : b;
}

static inline size_t max_size(size_t a, size_t b) {
    return a > b ? a : b;
}

static inline int ceil_div(int a, int b) {
    return (a + b - 1) / b;
}

#endif
