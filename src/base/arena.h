/*
 * arena.h - ask, then give.
 *
 * A structure lays itself out with one function that calls arena_take for each
 * array. Run over an arena without memory (ARENA_MEASURE) it yields the number
 * of bytes; run over a block of that size it yields the pointers. Measuring and
 * carving are the same code, so they cannot disagree.
 *
 * Lifetime: the block belongs to whoever allocated it; nothing is freed singly.
 * Sizes saturate: a request that overflows size_t makes arena.used SIZE_MAX,
 * which no caller can allocate.
 */
#ifndef OCR_ARENA_H
#define OCR_ARENA_H

#include <stddef.h>
#include <stdint.h>

#define ARENA_ALIGNMENT 64 /* a cache line, and the widest vector register */

typedef struct Arena {
    unsigned char *base; /* aligned to ARENA_ALIGNMENT; NULL while measuring */
    size_t used;         /* bytes */
} Arena;

#define ARENA_MEASURE ((Arena){NULL, 0})

/* Room for count objects of size bytes, uninitialised; NULL while measuring. */
static inline void *arena_take(Arena *arena, size_t count, size_t size) {
    size_t bytes, padded, total;
    if (__builtin_mul_overflow(count, size, &bytes) ||
        __builtin_add_overflow(bytes, ARENA_ALIGNMENT - 1, &padded)) {
        arena->used = SIZE_MAX;
        return NULL;
    }
    padded &= ~(size_t)(ARENA_ALIGNMENT - 1);
    void *place = arena->base ? arena->base + arena->used : NULL;
    if (__builtin_add_overflow(arena->used, padded, &total))
        total = SIZE_MAX;
    arena->used = total;
    return place;
}

#define ARENA_TAKE(arena, type, count) ((type *)arena_take((arena), (count), sizeof(type)))

#endif
