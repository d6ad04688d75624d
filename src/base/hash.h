/*
 * hash.h - the hash of the engine's tables of names.
 *
 * Keys come from files that anybody may have written. The seed makes the order
 * of a table unpredictable to its author, so that a file cannot be made to
 * collide; take it from hash_seed once for each table.
 */
#ifndef OCR_HASH_H
#define OCR_HASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/random.h>

static inline uint64_t hash_seed(void) {
    uint64_t seed = 0x9E3779B97F4A7C15;
    if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) != sizeof seed)
        seed ^= (uint64_t)(uintptr_t)&seed; /* the stack's address is random enough */
    return seed;
}

/* Mix two words so that every bit of either reaches every bit of the result. */
static inline uint64_t hash_mix(uint64_t a, uint64_t b) {
    unsigned __int128 product =
        (unsigned __int128)(a ^ 0xA0761D6478BD642F) * (b ^ 0xE7037ED1A0B428DB);
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline uint64_t hash_bytes(uint64_t seed, const char *text, size_t length) {
    uint64_t hash = hash_mix(seed, length), word;
    for (; length > 8; text += 8, length -= 8) {
        memcpy(&word, text, 8);
        hash = hash_mix(hash, word ^ seed);
    }
    word = 0;
    memcpy(&word, text, length);
    return hash_mix(hash, word ^ seed);
}

#endif
