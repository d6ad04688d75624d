/*
 * flatjson.h - strict JSON (RFC 8259) for large files.
 *
 * A text becomes one array of values in the order of the text, a container
 * before its members, and strings are decoded where they lie. So reading and
 * freeing cost two allocations however large the text is: a tokenizer.json has
 * half a million strings, and a library that allocates each of them takes 0.2 to
 * 0.4 s for it, more than a whole model may take to open.
 *
 * Refused, with line and column: anything behind the value, nesting deeper than
 * FLAT_MAX_DEPTH, invalid UTF-8, lone surrogates, the character NUL, and a key
 * that occurs twice in an object of up to FLAT_UNIQUE_KEYS members (whoever
 * accepts larger ones puts them into a table and sees for himself).
 */
#ifndef OCR_FLATJSON_H
#define OCR_FLATJSON_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FLAT_MAX_DEPTH 64
#define FLAT_MAX_BYTES ((size_t)1 << 28)
#define FLAT_UNIQUE_KEYS 32

typedef enum FlatType {
    FLAT_NULL,
    FLAT_FALSE,
    FLAT_TRUE,
    FLAT_NUMBER,
    FLAT_STRING,
    FLAT_ARRAY,
    FLAT_OBJECT
} FlatType;

/* In an object each key, a FLAT_STRING, is directly followed by its value. */
typedef struct FlatValue {
    char *text;         /* string: UTF-8 with a NUL behind; number: as written; else NULL */
    uint32_t length;    /* bytes of text; elements of an array, members of an object */
    uint32_t type : 3;  /* FlatType */
    uint32_t span : 29; /* values from this one to its next sibling: 1 + all inside */
} FlatValue;

/*
 * Parse bytes [size], behind which a NUL must lie; at most FLAT_MAX_BYTES. They
 * are changed, and hold the strings as long as the values are in use. *out, the
 * root, is malloc'ed. Failures: OCR_OUT_OF_MEMORY, or `invalid` with a message
 * that begins with name.
 */
OcrCode flat_parse(const char *name, char *bytes, size_t size, OcrCode invalid, FlatValue **out,
                   OcrError *err);

/* Whether value is not NULL and of that type. */
static inline bool flat_is(const FlatValue *value, FlatType type) {
    return value && value->type == type;
}

/* The member of that name; NULL if there is none, or object is NULL or no object. */
const FlatValue *flat_get(const FlatValue *object, const char *key);

/* Whether value is that very string. */
bool flat_is_string(const FlatValue *value, const char *text);

/* Whether value is a whole number without fraction and exponent in 0..limit-1; then *out is set. */
bool flat_index(const FlatValue *value, int limit, int *out);

/* "a string", "null" and the like, for messages; "missing" for NULL. */
const char *flat_type_name(const FlatValue *value);

/* for (FLAT_ELEMENTS(element, array)): array must be a FLAT_ARRAY. */
#define FLAT_ELEMENTS(element, array)                                                              \
    const FlatValue *element = (array) + 1, *element##_end = (array) + (array)->span;              \
    element < element##_end;                                                                       \
    element += element->span

/* for (FLAT_MEMBERS(key, object)): object must be a FLAT_OBJECT; the value is key + 1. */
#define FLAT_MEMBERS(key, object)                                                                  \
    const FlatValue *key = (object) + 1, *key##_end = (object) + (object)->span;                   \
    key < key##_end;                                                                               \
    key += 1 + key[1].span

#endif
