/*
 * guarded.h - memory that ends where the system says no: a byte too far is a fault.
 */
#ifndef TEST_GUARDED_H
#define TEST_GUARDED_H

#include <stddef.h>

typedef struct Guarded {
    void *data; /* its last byte is the last that may be touched */
    void *mapping;
    size_t mapped;
} Guarded;

Guarded guarded(size_t bytes); /* zeroed */
void release(Guarded g);

#endif
