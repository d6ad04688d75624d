/*
 * tokenizer.c - text to ids and back (spec 6).
 *
 * Encoding cuts the text finer and finer, each function handing its pieces to
 * the next: added tokens in two passes, the file's Split patterns one inside the
 * other, bytes, and merges of neighbouring tokens.
 */
#include "base/character.h"
#include "model/tokenizer_tables.h"

#include <stdlib.h>
#include <string.h>

/* More than any context holds; encoding looks at no interrupt, and takes 40 ms for so many. */
#define ENCODE_MAX_BYTES ((size_t)1 << 18)

/* A pattern may take so many steps for each match, in a text of n bytes, and no more memory. */
#define MATCH_STEPS(n) (100000 + 32 * (uint32_t)(n))
#define MATCH_HEAP_KIB (64 * 1024)

/* ---- tables ---- */

static void *place(Arena *arena, const void *from, size_t count, size_t size) {
    void *to = arena_take(arena, count, size);
    if (to && count)
        memcpy(to, from, count * size);
    return to;
}

Tokenizer *tokenizer_build(TokenizerFile *file, Arena *arena) {
    Tokenizer *from = &file->tables, built = *from;
    Tokenizer *out = ARENA_TAKE(arena, Tokenizer, 1);
    built.tokens = place(arena, from->tokens, (size_t)from->vocab_size, sizeof *from->tokens);
    built.texts = place(arena, from->texts, from->texts_size, 1);
    built.names = place(arena, from->names, from->name_slots, sizeof *from->names);
    built.merges = place(arena, from->merges, (size_t)from->merge_count, sizeof *from->merges);
    built.pairs = place(arena, from->pairs, from->pair_slots, sizeof *from->pairs);
    built.added = place(arena, from->added, (size_t)from->added_count, sizeof *from->added);
    if (!out)
        return NULL;
    for (int i = 0; i < built.added_count; i++)
        built.added[i].text = built.texts + (from->added[i].text - from->texts);
    *out = built;
    from->split_count = 0; /* the patterns have changed hands */
    return out;
}

void tokenizer_release(Tokenizer *tokenizer) {
    for (int i = 0; i < tokenizer->split_count; i++)
        pcre2_code_free(tokenizer->splits[i]);
    tokenizer->split_count = 0;
}

int tokenizer_image_id(const Tokenizer *tokenizer) {
    return tokenizer->image_id;
}

/* ---- added tokens ---- */

/*
 * Of added tokens low..high-1, which agree in their first depth bytes and are
 * longer, the first whose next byte is at least this.
 */
static int first_with_byte(const Tokenizer *tokenizer, int low, int high, size_t depth, int byte) {
    while (low < high) {
        int middle = low + (high - low) / 2;
        if ((uint8_t)tokenizer->added[middle].text[depth] < byte)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The longest added token of that pass at the start of text [size], or NULL. */
static const AddedToken *match_added(const Tokenizer *tokenizer, const char *text, size_t size,
                                     bool normalized) {
    const AddedToken *longest = NULL;
    int low = 0, high = tokenizer->added_count;
    for (size_t depth = 0; low < high; depth++) {
        /* Sorted by text: the one that ends here, if any, comes first. */
        const AddedToken *first = &tokenizer->added[low];
        if (first->length == depth) {
            if (first->normalized == normalized)
                longest = first;
            low++;
        }
        if (depth == size)
            break;
        low = first_with_byte(tokenizer, low, high, depth, (uint8_t)text[depth]);
        high = first_with_byte(tokenizer, low, high, depth, (uint8_t)text[depth] + 1);
    }
    return longest;
}

int tokenizer_find(const Tokenizer *tokenizer, const char *text, size_t length) {
    for (int pass = 0; pass < 2; pass++) {
        const AddedToken *added = match_added(tokenizer, text, length, pass == 1);
        if (added && added->length == length)
            return added->id;
    }
    int id = tokenizer_name_id(tokenizer, text, length, true);
    return id >= 0 ? id : tokenizer_name_id(tokenizer, text, length, false);
}

/* ---- encode ---- */

/* A byte, or what has been merged so far; a list over the bytes of a piece. */
typedef struct Symbol {
    int id;             /* -1: merged into the one on its left */
    int previous, next; /* -1, and the piece's length, at its ends */
} Symbol;

typedef struct Encoder {
    const Tokenizer *tokenizer;
    OcrError *err;
    int *ids; /* [capacity] */
    int capacity;
    int count;       /* of the text so far; may exceed capacity */
    Symbol *symbols; /* [longest piece] */
    uint64_t *heap;  /* [2 * longest piece] rank << 32 | position, smallest first */
    size_t heap_size;
    pcre2_match_data *match;
    pcre2_match_context *limits;
} Encoder;

static void emit(Encoder *encoder, int id) {
    if (encoder->count < encoder->capacity)
        encoder->ids[encoder->count] = id;
    encoder->count++;
}

static void heap_push(Encoder *encoder, uint64_t entry) {
    uint64_t *heap = encoder->heap;
    size_t at = encoder->heap_size++;
    for (; at > 0 && heap[(at - 1) / 2] > entry; at = (at - 1) / 2)
        heap[at] = heap[(at - 1) / 2];
    heap[at] = entry;
}

static uint64_t heap_pop(Encoder *encoder) {
    uint64_t *heap = encoder->heap, least = heap[0], last = heap[--encoder->heap_size];
    size_t at = 0, child;
    while ((child = 2 * at + 1) < encoder->heap_size) {
        if (child + 1 < encoder->heap_size && heap[child + 1] < heap[child])
            child++;
        if (heap[child] >= last)
            break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = last;
    return least;
}

/* Remember the merge of the symbol at position with the next one, if there is one. */
static void offer_merge(Encoder *encoder, int position, int length) {
    const Symbol *symbol = &encoder->symbols[position];
    if (symbol->next == length)
        return;
    int rank =
        *tokenizer_pair_slot(encoder->tokenizer, symbol->id, encoder->symbols[symbol->next].id);
    if (rank >= 0)
        heap_push(encoder, (uint64_t)rank << 32 | (uint32_t)position);
}

/*
 * Merge the neighbours of the lowest rank, the leftmost among equals, until none
 * are left. The heap may hold merges whose symbols have changed since, and then
 * their ids have: a symbol only grows. Each merge takes one entry out and puts at
 * most two in, so there are never more than twice as many as bytes.
 */
static void encode_piece(Encoder *encoder, const char *text, size_t size) {
    const Tokenizer *tokenizer = encoder->tokenizer;
    Symbol *symbols = encoder->symbols;
    int length = (int)size;

    for (int i = 0; i < length; i++)
        symbols[i] = (Symbol){tokenizer->byte_ids[(uint8_t)text[i]], i - 1, i + 1};
    encoder->heap_size = 0;
    for (int i = 0; i < length; i++)
        offer_merge(encoder, i, length);

    while (encoder->heap_size > 0) {
        uint64_t entry = heap_pop(encoder);
        const Merge *merge = &tokenizer->merges[entry >> 32];
        int position = (int)(entry & UINT32_MAX);
        Symbol *left = &symbols[position];
        if (left->id != merge->left || symbols[left->next].id != merge->right)
            continue;
        left->id = merge->result;
        symbols[left->next].id = -1;
        left->next = symbols[left->next].next;
        if (left->next < length)
            symbols[left->next].previous = position;
        if (left->previous >= 0)
            offer_merge(encoder, left->previous, length);
        offer_merge(encoder, position, length);
    }
    for (int i = 0; i < length; i = symbols[i].next)
        emit(encoder, symbols[i].id);
}

/*
 * Matches of the pattern and the gaps between them are pieces alike, and each
 * goes through the patterns that follow. A match sees nothing but its piece:
 * (?!\S) holds at its end (spec 6.1).
 */
static OcrCode encode_split(Encoder *encoder, const char *text, size_t size, int split) {
    const Tokenizer *tokenizer = encoder->tokenizer;
    if (split == tokenizer->split_count) {
        if (size > 0)
            encode_piece(encoder, text, size);
        return OCR_OK;
    }
    size_t done = 0;
    OcrCode code = OCR_OK;
    while (!code && done < size) {
        int found =
            pcre2_match(tokenizer->splits[split], (PCRE2_SPTR)text, size, done,
                        PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY, encoder->match, encoder->limits);
        if (found == PCRE2_ERROR_NOMEMORY)
            return ocr_fail(encoder->err, OCR_OUT_OF_MEMORY, "out of memory in the tokenizer");
        if (found < 0 && found != PCRE2_ERROR_NOMATCH)
            return ocr_fail(encoder->err, OCR_MODEL_TOKENIZER,
                            "tokenizer.json: pattern %d gives up on a text of %zu bytes", split + 1,
                            size);
        size_t begin = size, end = size;
        if (found > 0) {
            begin = pcre2_get_ovector_pointer(encoder->match)[0];
            end = pcre2_get_ovector_pointer(encoder->match)[1];
        }
        if (begin > done)
            code = encode_split(encoder, text + done, begin - done, split + 1);
        if (!code && end > begin)
            code = encode_split(encoder, text + begin, end - begin, split + 1);
        done = end;
    }
    return code;
}

/* First the added tokens with normalized false, between them those with true, between them text. */
static OcrCode encode_added(Encoder *encoder, const char *text, size_t size, bool normalized) {
    size_t done = 0;
    for (size_t at = 0; at <= size;) {
        const AddedToken *added =
            at < size ? match_added(encoder->tokenizer, text + at, size - at, normalized) : NULL;
        if (added || at == size) {
            OcrCode code = normalized ? encode_split(encoder, text + done, at - done, 0)
                                      : encode_added(encoder, text + done, at - done, true);
            if (code)
                return code;
        }
        if (added) {
            emit(encoder, added->id);
            done = at + added->length;
        }
        at = added ? done : at + 1;
    }
    return OCR_OK;
}

static OcrCode check_text(const char *text, size_t length, OcrError *err) {
    if (length > ENCODE_MAX_BYTES)
        return ocr_fail(err, OCR_PROMPT, "the prompt has %zu bytes, more than %zu", length,
                        ENCODE_MAX_BYTES);
    for (size_t i = 0; i < length;) {
        int size = utf8_character(text + i, length - i);
        if (size < 0)
            return ocr_fail(err, OCR_PROMPT, "the prompt is not valid UTF-8 at byte %zu", i);
        i += (size_t)size;
    }
    return OCR_OK;
}

/* literally: without added tokens */
static OcrCode encode(Encoder *encoder, const char *text, size_t length, bool literally) {
    OcrCode code = check_text(text, length, encoder->err);
    if (code)
        return code;
    encoder->symbols = malloc((length + 1) * sizeof *encoder->symbols);
    encoder->heap = malloc((2 * length + 1) * sizeof *encoder->heap);
    encoder->match = pcre2_match_data_create(1, NULL);
    encoder->limits = pcre2_match_context_create(NULL);
    if (encoder->symbols && encoder->heap && encoder->match && encoder->limits) {
        pcre2_set_match_limit(encoder->limits, MATCH_STEPS(length));
        pcre2_set_depth_limit(encoder->limits, MATCH_STEPS(length));
        pcre2_set_heap_limit(encoder->limits, MATCH_HEAP_KIB);
        code = literally ? encode_split(encoder, text, length, 0)
                         : encode_added(encoder, text, length, false);
    } else {
        code = ocr_fail(encoder->err, OCR_OUT_OF_MEMORY, "out of memory in the tokenizer");
    }
    free(encoder->symbols);
    free(encoder->heap);
    pcre2_match_data_free(encoder->match);
    pcre2_match_context_free(encoder->limits);
    return code;
}

OcrCode tokenizer_encode(const Tokenizer *tokenizer, const char *text, size_t length, int *ids,
                         int capacity, int *count, OcrError *err) {
    Encoder encoder = {.tokenizer = tokenizer, .err = err, .ids = ids, .capacity = capacity};
    OcrCode code = encode(&encoder, text, length, false);
    *count = encoder.count;
    return code;
}

OcrCode tokenizer_encode_literally(const Tokenizer *tokenizer, const char *text, size_t length,
                                   int *ids, int capacity, int *count, OcrError *err) {
    Encoder encoder = {.tokenizer = tokenizer, .err = err, .ids = ids, .capacity = capacity};
    OcrCode code = encode(&encoder, text, length, true);
    *count = encoder.count;
    return code;
}

/* ---- decode ---- */

/* Bytes that may yet become a character, while tokens are strung together. */
typedef struct Decoder {
    char *out; /* [capacity] */
    size_t capacity, size;
    char pending[4];
    int pending_size;
} Decoder;

static void write_bytes(Decoder *decoder, const char *bytes, int count) {
    for (int i = 0; i < count; i++, decoder->size++)
        if (decoder->size < decoder->capacity)
            decoder->out[decoder->size] = bytes[i];
}

static void write_replacement(Decoder *decoder) {
    write_bytes(decoder, "\xEF\xBF\xBD", 3);
}

static void decode_byte(Decoder *decoder, char byte) {
    decoder->pending[decoder->pending_size++] = byte;
    int size = utf8_character(decoder->pending, (size_t)decoder->pending_size);
    if (size > 0) {
        write_bytes(decoder, decoder->pending, size);
        decoder->pending_size = 0;
    } else if (-size < decoder->pending_size) {
        /* The new byte does not continue what was pending, so it begins something else. */
        write_replacement(decoder);
        decoder->pending_size = 0;
        decode_byte(decoder, byte);
    }
}

size_t tokenizer_decode(const Tokenizer *tokenizer, const int *ids, int count, char *out,
                        size_t capacity) {
    Decoder decoder = {.out = out, .capacity = capacity};
    for (int i = 0; i < count; i++) {
        if (ids[i] < 0 || ids[i] >= tokenizer->vocab_size || !tokenizer->tokens[ids[i]])
            continue;
        const TokenText *token = tokenizer_text(tokenizer, tokenizer->tokens[ids[i]]);
        for (uint32_t j = 0; j < token->length; j++)
            decode_byte(&decoder, token->bytes[j]);
    }
    if (decoder.pending_size > 0)
        write_replacement(&decoder);
    return decoder.size;
}
