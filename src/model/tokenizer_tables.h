/*
 * tokenizer_tables.h - what tokenizer_file.c fills and tokenizer.c reads.
 *
 * Private to these two. While a file is read the arrays are malloc'ed one by
 * one; tokenizer_build copies them into the model's arena.
 */
#ifndef OCR_TOKENIZER_TABLES_H
#define OCR_TOKENIZER_TABLES_H

#include "base/hash.h"
#include "model/tokenizer.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#define TOKENIZER_MAX_SPLITS 16

/*
 * What an id decodes to. These records lie one behind the other, so that a text
 * is found by reading two places of memory, its slot and its record.
 */
typedef struct TokenText {
    int id;
    uint32_t length : 31;
    uint32_t symbols : 1; /* it was written in byte symbols and stands here as the bytes */
    char bytes[];         /* [length] */
} TokenText;

/* Tokens left and right, side by side, become result. */
typedef struct Merge {
    int left, right, result;
} Merge;

/* A text that is cut out before anything else is done. */
typedef struct AddedToken {
    const char *text; /* [length] in Tokenizer.texts, as it stands in the file */
    uint32_t length;
    int id;
    bool normalized; /* recognised in the second pass */
} AddedToken;

struct Tokenizer {
    uint64_t seed; /* of both tables */

    char *texts; /* [texts_size] TokenTexts, each at a multiple of 4; the first word is unused */
    size_t texts_size;
    uint32_t *tokens; /* [vocab_size] where each id's record begins in texts, 0: no such token */
    int vocab_size;
    uint32_t *names; /* [name_slots] the same by text, 0: free; open addressing */
    size_t name_slots;
    int byte_ids[256];

    Merge *merges; /* [merge_count] the index is the rank, lowest first */
    int merge_count;
    int *pairs; /* [pair_slots] ranks by (left, right), -1: free; open addressing */
    size_t pair_slots;

    AddedToken *added; /* [added_count] sorted by text, byte by byte */
    int added_count;

    pcre2_code *splits[TOKENIZER_MAX_SPLITS]; /* [split_count] applied in this order */
    int split_count;

    int image_id;
};

struct TokenizerFile {
    Tokenizer tables;
};

/* Slots of a table for count entries: a power of two, at most half full. */
static inline size_t tokenizer_slots(size_t count) {
    size_t slots = 16;
    while (slots < 2 * count)
        slots *= 2;
    return slots;
}

/* offset: not 0 */
static inline const TokenText *tokenizer_text(const Tokenizer *tokenizer, uint32_t offset) {
    return (const TokenText *)(tokenizer->texts + offset);
}

static inline bool tokenizer_same(const TokenText *token, const char *bytes, size_t length,
                                  bool symbols) {
    return token->length == length && token->symbols == symbols &&
           memcmp(token->bytes, bytes, length) == 0;
}

/* The slot of names that holds this text, or the free one where it belongs. hash: of its bytes. */
static inline uint32_t *tokenizer_name_slot(const Tokenizer *tokenizer, uint64_t hash,
                                            const char *bytes, size_t length, bool symbols) {
    for (size_t slot = hash;; slot++) {
        uint32_t *offset = &tokenizer->names[slot & (tokenizer->name_slots - 1)];
        if (*offset == 0 ||
            tokenizer_same(tokenizer_text(tokenizer, *offset), bytes, length, symbols))
            return offset;
    }
}

/* The id of this text, or -1. */
static inline int tokenizer_name_id(const Tokenizer *tokenizer, const char *bytes, size_t length,
                                    bool symbols) {
    uint64_t hash = hash_bytes(tokenizer->seed, bytes, length);
    uint32_t offset = *tokenizer_name_slot(tokenizer, hash, bytes, length, symbols);
    return offset ? tokenizer_text(tokenizer, offset)->id : -1;
}

/* The slot of pairs that holds the rank of this merge, or the free one where it belongs. */
static inline int *tokenizer_pair_slot(const Tokenizer *tokenizer, int left, int right) {
    size_t slot = hash_mix(tokenizer->seed, (uint64_t)left << 32 | (uint32_t)right);
    for (;; slot++) {
        int *rank = &tokenizer->pairs[slot & (tokenizer->pair_slots - 1)];
        if (*rank < 0)
            return rank;
        const Merge *merge = &tokenizer->merges[*rank];
        if (merge->left == left && merge->right == right)
            return rank;
    }
}

#endif
