/*
 * tokenizer_file.c - tokenizer.json, read and checked.
 *
 * Accepts the structure of the released file and nothing else: no normalizer,
 * Split patterns and ByteLevel before, a plain byte-level BPE. What a file asks
 * for beyond that is refused by name rather than ignored, because text would
 * come out subtly wrong.
 */
#include "base/character.h"
#include "base/file.h"
#include "model/flatjson.h"
#include "model/tokenizer_tables.h"

#include <stdlib.h>
#include <string.h>

#define FILE_MAX_BYTES ((size_t)64 << 20)
#define PATTERN_MAX_BYTES 4096

#define REFUSE(err, ...) ocr_fail((err), OCR_MODEL_TOKENIZER, "tokenizer.json: " __VA_ARGS__)
#define COUNT(array) (sizeof(array) / sizeof *(array))

/* ---- structure ---- */

/* Members of model, or of an added token, that would change what text means. */
static OcrCode require_off(const FlatValue *object, const char *where, const char *const *names,
                           size_t count, OcrError *err) {
    for (size_t i = 0; i < count; i++) {
        const FlatValue *value = flat_get(object, names[i]);
        if (value && value->type != FLAT_NULL && value->type != FLAT_FALSE &&
            !flat_is_string(value, ""))
            return REFUSE(err, "%s.%s is not supported", where, names[i]);
    }
    return OCR_OK;
}

static OcrCode check_structure(const FlatValue *root, OcrError *err) {
    static const char *const root_names[] = {"truncation", "padding"};
    static const char *const model_names[] = {"dropout",
                                              "unk_token",
                                              "continuing_subword_prefix",
                                              "end_of_word_suffix",
                                              "fuse_unk",
                                              "byte_fallback",
                                              "ignore_merges"};

    if (!flat_is(root, FLAT_OBJECT))
        return REFUSE(err, "the file is not an object");
    OcrCode code = require_off(root, "the file", root_names, COUNT(root_names), err);
    if (code)
        return code;

    const FlatValue *normalizer = flat_get(root, "normalizer");
    const FlatValue *steps = flat_get(normalizer, "normalizers");
    if (normalizer && normalizer->type != FLAT_NULL &&
        !(flat_is_string(flat_get(normalizer, "type"), "Sequence") && flat_is(steps, FLAT_ARRAY) &&
          steps->length == 0))
        return REFUSE(err, "normalizer must be null or an empty Sequence");

    const FlatValue *after = flat_get(root, "post_processor");
    if (after && after->type != FLAT_NULL && !flat_is_string(flat_get(after, "type"), "ByteLevel"))
        return REFUSE(err, "post_processor must be null or ByteLevel");
    if (!flat_is_string(flat_get(flat_get(root, "decoder"), "type"), "ByteLevel"))
        return REFUSE(err, "decoder must be ByteLevel");

    const FlatValue *model = flat_get(root, "model");
    if (!flat_is_string(flat_get(model, "type"), "BPE"))
        return REFUSE(err, "model.type must be BPE");
    return require_off(model, "model", model_names, COUNT(model_names), err);
}

/* ---- patterns ---- */

static OcrCode compile_split(const FlatValue *step, int number, pcre2_code **out, OcrError *err) {
    const FlatValue *pattern = flat_get(flat_get(step, "pattern"), "Regex");
    int problem;
    PCRE2_SIZE offset;

    if (!flat_is_string(flat_get(step, "behavior"), "Isolated") ||
        !flat_is(flat_get(step, "invert"), FLAT_FALSE))
        return REFUSE(err, "pre-tokenizer %d must have behavior Isolated and invert false", number);
    if (!flat_is(pattern, FLAT_STRING) || pattern->length > PATTERN_MAX_BYTES)
        return REFUSE(err, "pre-tokenizer %d must have a pattern.Regex of at most %d bytes", number,
                      PATTERN_MAX_BYTES);
    /* In a lookbehind, older versions of PCRE2 let it end a match where the match began. */
    if (strstr(pattern->text, "\\K"))
        return REFUSE(err, "the pattern of pre-tokenizer %d has \\K, which is not supported",
                      number);

    *out = pcre2_compile((PCRE2_SPTR)pattern->text, pattern->length,
                         PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &problem, &offset, NULL);
    if (*out)
        return OCR_OK;
    if (problem == PCRE2_ERROR_NOMEMORY)
        return ocr_fail(err, OCR_OUT_OF_MEMORY, "out of memory while compiling a pattern");
    PCRE2_UCHAR message[128] = "";
    pcre2_get_error_message(problem, message, sizeof message);
    return REFUSE(err, "the pattern of pre-tokenizer %d is wrong at byte %zu: %s", number,
                  (size_t)offset, (char *)message);
}

/* Any number of Splits, then one ByteLevel. */
static OcrCode read_splits(const FlatValue *root, Tokenizer *out, OcrError *err) {
    const FlatValue *before = flat_get(root, "pre_tokenizer");
    const FlatValue *steps = flat_get(before, "pretokenizers");
    if (!flat_is_string(flat_get(before, "type"), "Sequence") || !flat_is(steps, FLAT_ARRAY))
        return REFUSE(err, "pre_tokenizer must be a Sequence");

    uint32_t number = 0;
    for (FLAT_ELEMENTS(step, steps)) {
        const FlatValue *type = flat_get(step, "type");
        number++;
        if (flat_is_string(type, "Split") && number < steps->length) {
            if (out->split_count == TOKENIZER_MAX_SPLITS)
                return REFUSE(err, "pre_tokenizer has more than %d Splits", TOKENIZER_MAX_SPLITS);
            OcrCode code = compile_split(step, (int)number, &out->splits[out->split_count], err);
            if (code)
                return code;
            out->split_count++;
        } else if (flat_is_string(type, "ByteLevel") && number == steps->length) {
            if (!flat_is(flat_get(step, "add_prefix_space"), FLAT_FALSE) ||
                !flat_is(flat_get(step, "use_regex"), FLAT_FALSE))
                return REFUSE(err, "ByteLevel must have add_prefix_space and use_regex false");
            return OCR_OK;
        } else {
            break;
        }
    }
    return REFUSE(err, "pre_tokenizer must be Splits and then one ByteLevel");
}

/* ---- byte symbols ---- */

/*
 * The byte that a character stands for, or -1 (spec 6.1). Printable bytes stand
 * for themselves, the other 68, in ascending order, are U+0100 and following.
 */
static int symbol_byte(uint32_t character) {
    if ((character >= 33 && character <= 126) || (character >= 161 && character <= 172) ||
        (character >= 174 && character <= 255))
        return (int)character;
    if (character < 0x100 || character > 0x143)
        return -1;
    int other = (int)character - 0x100;
    if (other <= 32)
        return other;                            /* 0..32 */
    return other <= 66 ? other - 33 + 127 : 173; /* 127..160, then the last one */
}

/* The bytes, at most length, that byte symbols stand for; -1 if text holds anything else. */
static int symbols_to_bytes(const char *text, uint32_t length, char *out) {
    int count = 0;
    for (uint32_t i = 0; i < length;) {
        int size = utf8_character(text + i, length - i);
        int byte = symbol_byte(utf8_code_point(text + i, size));
        if (byte < 0)
            return -1;
        out[count++] = (char)byte;
        i += (uint32_t)size;
    }
    return count;
}

/* Append what a token decodes to (spec 6.2); returns the offset of the record. */
static uint32_t store_text(Tokenizer *out, int id, const FlatValue *text) {
    uint32_t offset = (uint32_t)out->texts_size;
    TokenText *token = (TokenText *)(out->texts + offset);
    int bytes = symbols_to_bytes(text->text, text->length, token->bytes);
    token->id = id;
    token->symbols = bytes >= 0;
    token->length = (bytes >= 0 ? (uint32_t)bytes : text->length) & INT32_MAX;
    if (bytes < 0)
        memcpy(token->bytes, text->text, text->length);
    out->texts_size += (sizeof *token + token->length + 3) & ~(size_t)3;
    return offset;
}

/*
 * The tables are larger than a core's caches, and a file has half a million
 * lookups. They are done in batches of BATCH: hash_ahead starts to fetch all the
 * slots before the first of them is looked at, which halves the time.
 */
#define BATCH 32

static uint64_t hash_ahead(const Tokenizer *out, const char *bytes, size_t length) {
    uint64_t hash = hash_bytes(out->seed, bytes, length);
    __builtin_prefetch(&out->names[hash & (out->name_slots - 1)]);
    return hash;
}

/* ---- vocabulary ---- */

typedef struct Entry {
    uint32_t offset; /* of its record */
    uint64_t hash;
} Entry;

static OcrCode read_entry(const FlatValue *key, size_t number, Entry *entry, Tokenizer *out,
                          OcrError *err) {
    int id;
    if (key->length == 0)
        return REFUSE(err, "entry %zu of model.vocab is empty", number);
    if (!flat_index(key + 1, out->vocab_size, &id))
        return REFUSE(err, "entry %zu of model.vocab has no id in 0..%d", number,
                      out->vocab_size - 1);
    if (out->tokens[id])
        return REFUSE(err, "id %d occurs twice in model.vocab", id);
    entry->offset = out->tokens[id] = store_text(out, id, key);
    const TokenText *token = tokenizer_text(out, entry->offset);
    entry->hash = hash_ahead(out, token->bytes, token->length);
    return OCR_OK;
}

static OcrCode add_names(const Entry *entries, int count, Tokenizer *out, OcrError *err) {
    for (int i = 0; i < count; i++) {
        const TokenText *token = tokenizer_text(out, entries[i].offset);
        uint32_t *slot =
            tokenizer_name_slot(out, entries[i].hash, token->bytes, token->length, token->symbols);
        if (*slot)
            return REFUSE(err, "ids %d and %d of model.vocab have the same text",
                          tokenizer_text(out, *slot)->id, token->id);
        *slot = entries[i].offset;
    }
    return OCR_OK;
}

static OcrCode read_vocabulary(const FlatValue *vocabulary, Tokenizer *out, OcrError *err) {
    Entry batch[BATCH];
    uint32_t number = 0;
    int waiting = 0;
    for (FLAT_MEMBERS(key, vocabulary)) {
        OcrCode code = read_entry(key, ++number, &batch[waiting++], out, err);
        if (!code && (waiting == BATCH || number == vocabulary->length)) {
            code = add_names(batch, waiting, out, err);
            waiting = 0;
        }
        if (code)
            return code;
    }
    for (int byte = 0; byte < 256; byte++) {
        char text = (char)byte;
        out->byte_ids[byte] = tokenizer_name_id(out, &text, 1, true);
        if (out->byte_ids[byte] < 0)
            return REFUSE(err, "model.vocab lacks the symbol of byte %d", byte);
    }
    return OCR_OK;
}

/* ---- merges ---- */

typedef struct MergeText {
    const char *bytes; /* [length[0] + length[1]] left and right part, which is the result's text */
    int length[2];
    uint64_t hash[2];
} MergeText;

/* "a b" or ["a", "b"]. The bytes of both parts are put together where the text of a was. */
static OcrCode read_merge(const FlatValue *value, int rank, MergeText *merge, const Tokenizer *out,
                          OcrError *err) {
    const FlatValue *left = value, *right = value;
    uint32_t left_length = 0, right_begin = 0;
    if (value->type == FLAT_ARRAY && value->length == 2) {
        left = value + 1;
        right = left + left->span;
        left_length = left->length;
    } else if (value->type == FLAT_STRING) {
        left_length = (uint32_t)strcspn(value->text, " ");
        right_begin = left_length + (left_length < value->length);
    }
    if (left->type != FLAT_STRING || right->type != FLAT_STRING)
        return REFUSE(err, "merge %d is not a pair of texts", rank);

    /* Bytes take no more room than their symbols, so nothing is overwritten before it is read. */
    char *place = left->text;
    merge->bytes = place;
    merge->length[0] = symbols_to_bytes(left->text, left_length, place);
    if (merge->length[0] > 0)
        merge->length[1] = symbols_to_bytes(right->text + right_begin, right->length - right_begin,
                                            place + merge->length[0]);
    if (merge->length[0] <= 0 || merge->length[1] <= 0)
        return REFUSE(err, "merge %d is not a pair of texts in byte symbols", rank);
    for (int i = 0; i < 2; i++, place += merge->length[0])
        merge->hash[i] = hash_ahead(out, place, (size_t)merge->length[i]);
    return OCR_OK;
}

/* Results are numbered in the order of the merges as a rule: try that before searching. */
static int find_result(const Tokenizer *out, const char *bytes, size_t length) {
    int next = out->merge_count ? out->merges[out->merge_count - 1].result + 1 : 0;
    if (next < out->vocab_size && out->tokens[next] &&
        tokenizer_same(tokenizer_text(out, out->tokens[next]), bytes, length, true))
        return next;
    return tokenizer_name_id(out, bytes, length, true);
}

static OcrCode add_merges(const MergeText *merges, int count, Tokenizer *out, OcrError *err) {
    for (int i = 0; i < 2 * count; i++) {
        uint32_t offset = out->names[merges[i / 2].hash[i % 2] & (out->name_slots - 1)];
        __builtin_prefetch(tokenizer_text(out, offset));
    }
    for (int i = 0; i < count; i++) {
        const MergeText *merge = &merges[i];
        const char *bytes = merge->bytes;
        int ids[2];
        for (int part = 0; part < 2; part++, bytes += merge->length[0]) {
            uint32_t offset = *tokenizer_name_slot(out, merge->hash[part], bytes,
                                                   (size_t)merge->length[part], true);
            if (!offset)
                return REFUSE(err, "merge %d: its %s part is not in model.vocab", out->merge_count,
                              part == 0 ? "left" : "right");
            ids[part] = tokenizer_text(out, offset)->id;
        }
        int result =
            find_result(out, merge->bytes, (size_t)merge->length[0] + (size_t)merge->length[1]);
        if (result < 0)
            return REFUSE(err, "merge %d: its result is not in model.vocab", out->merge_count);
        out->merges[out->merge_count++] = (Merge){ids[0], ids[1], result};
    }
    return OCR_OK;
}

/* A short loop of its own, several turns of which wait for memory at once. */
static OcrCode index_merges(Tokenizer *out, OcrError *err) {
    for (int rank = 0; rank < out->merge_count; rank++) {
        int *slot = tokenizer_pair_slot(out, out->merges[rank].left, out->merges[rank].right);
        if (*slot >= 0)
            return REFUSE(err, "merges %d and %d are the same", *slot, rank);
        *slot = rank;
    }
    return OCR_OK;
}

static OcrCode read_merges(const FlatValue *merges, Tokenizer *out, OcrError *err) {
    MergeText batch[BATCH];
    uint32_t number = 0;
    int waiting = 0;
    for (FLAT_ELEMENTS(value, merges)) {
        OcrCode code = read_merge(value, (int)number++, &batch[waiting++], out, err);
        if (!code && (waiting == BATCH || number == merges->length)) {
            code = add_merges(batch, waiting, out, err);
            waiting = 0;
        }
        if (code)
            return code;
    }
    return index_merges(out, err);
}

/* ---- added tokens ---- */

/* An added token may stand in the vocabulary too, but only as the same pair of text and id. */
static OcrCode add_token(const FlatValue *entry, Tokenizer *out, OcrError *err) {
    static const char *const off_names[] = {"single_word", "lstrip", "rstrip"};
    const FlatValue *content = flat_get(entry, "content");
    const FlatValue *normalized = flat_get(entry, "normalized");
    int id, number = out->added_count;

    if (!flat_is(content, FLAT_STRING) || content->length == 0)
        return REFUSE(err, "added token %d has no content", number);
    if (!flat_index(flat_get(entry, "id"), out->vocab_size, &id))
        return REFUSE(err, "added token %d has no id in 0..%d", number, out->vocab_size - 1);
    if (!flat_is(normalized, FLAT_TRUE) && !flat_is(normalized, FLAT_FALSE))
        return REFUSE(err, "added token %d: normalized must be true or false", number);
    OcrCode code = require_off(entry, "added token", off_names, COUNT(off_names), err);
    if (code)
        return code;

    uint32_t offset = store_text(out, id, content);
    const TokenText *token = tokenizer_text(out, offset);
    uint32_t *slot = tokenizer_name_slot(out, hash_bytes(out->seed, token->bytes, token->length),
                                         token->bytes, token->length, token->symbols);
    if (*slot != out->tokens[id])
        return REFUSE(err, "added token %d has id %d, but the vocabulary says otherwise", number,
                      id);
    if (*slot)
        out->texts_size = offset; /* known already */
    else
        *slot = out->tokens[id] = offset;

    if (flat_is_string(content, "<image>"))
        out->image_id = id;
    char *text = out->texts + out->texts_size;
    memcpy(text, content->text, content->length);
    out->texts_size += (content->length + 3) & ~(size_t)3;
    out->added[out->added_count++] =
        (AddedToken){text, content->length, id, normalized->type == FLAT_TRUE};
    return OCR_OK;
}

static int compare_added(const void *a, const void *b) {
    const AddedToken *left = a, *right = b;
    uint32_t shorter = left->length < right->length ? left->length : right->length;
    int order = memcmp(left->text, right->text, shorter);
    return order ? order : (left->length > right->length) - (left->length < right->length);
}

static OcrCode read_added(const FlatValue *list, Tokenizer *out, OcrError *err) {
    bool bos = false, eos = false;
    for (FLAT_ELEMENTS(entry, list)) {
        OcrCode code = add_token(entry, out, err);
        if (code)
            return code;
        int id = out->added[out->added_count - 1].id;
        bos |= id == BOS_ID;
        eos |= id == EOS_ID;
    }
    if (!bos || !eos)
        return REFUSE(err, "no added token has the id %d that %s text", bos ? EOS_ID : BOS_ID,
                      bos ? "ends" : "begins");
    qsort(out->added, (size_t)out->added_count, sizeof *out->added, compare_added);
    for (int i = 1; i < out->added_count; i++)
        if (out->added[i].id == out->added[i - 1].id)
            return REFUSE(err, "added token with id %d occurs twice", out->added[i].id);
    if (out->image_id < 0)
        return REFUSE(err, "there is no added token <image>");
    return OCR_OK;
}

/* ---- the file ---- */

static OcrCode read_tables(const FlatValue *root, size_t file_size, Tokenizer *out, OcrError *err) {
    const FlatValue *vocabulary = flat_get(flat_get(root, "model"), "vocab");
    const FlatValue *merges = flat_get(flat_get(root, "model"), "merges");
    const FlatValue *added = flat_get(root, "added_tokens");

    if (!flat_is(vocabulary, FLAT_OBJECT))
        return REFUSE(err, "model.vocab must be an object, but is %s", flat_type_name(vocabulary));
    if (!flat_is(merges, FLAT_ARRAY))
        return REFUSE(err, "model.merges must be an array, but is %s", flat_type_name(merges));
    if (!flat_is(added, FLAT_ARRAY))
        return REFUSE(err, "added_tokens must be an array, but is %s", flat_type_name(added));

    out->name_slots = tokenizer_slots((size_t)vocabulary->length + added->length);
    out->pair_slots = tokenizer_slots(merges->length);
    out->tokens = calloc((size_t)out->vocab_size, sizeof *out->tokens);
    out->names = calloc(out->name_slots, sizeof *out->names);
    out->merges = malloc(merges->length * sizeof *out->merges + 1);
    out->pairs = malloc(out->pair_slots * sizeof *out->pairs);
    out->added = malloc(added->length * sizeof *out->added + 1);
    /* A record takes at most twice the bytes of its entry: "a":0, is the shortest. */
    out->texts = malloc(2 * file_size);
    if (!out->tokens || !out->names || !out->merges || !out->pairs || !out->added || !out->texts)
        return ocr_fail(err, OCR_OUT_OF_MEMORY, "out of memory while reading tokenizer.json");

    memset(out->pairs, -1, out->pair_slots * sizeof *out->pairs);
    out->texts_size = sizeof(uint32_t); /* offset 0 means none */

    OcrCode code = read_vocabulary(vocabulary, out, err);
    if (!code)
        code = read_merges(merges, out, err);
    if (!code)
        code = read_added(added, out, err);
    return code;
}

static OcrCode read_file(const char *path, Tokenizer *out, OcrError *err) {
    char *bytes;
    size_t size;
    FlatValue *root = NULL;
    OcrCode code = file_read(path, FILE_MAX_BYTES, OCR_MODEL_TOKENIZER, &bytes, &size, err);
    if (code)
        return code;
    code = flat_parse(path, bytes, size, OCR_MODEL_TOKENIZER, &root, err);
    if (!code)
        code = check_structure(root, err);
    if (!code)
        code = read_splits(root, out, err);
    if (!code)
        code = read_tables(root, size, out, err);
    free(root);
    free(bytes);
    return code;
}

OcrCode tokenizer_file_read(const char *path, int vocab_size, TokenizerFile **out, OcrError *err) {
    TokenizerFile *file = calloc(1, sizeof *file);
    if (!file)
        return ocr_fail(err, OCR_OUT_OF_MEMORY, "out of memory while reading \"%s\"", path);
    file->tables.seed = hash_seed();
    file->tables.vocab_size = vocab_size;
    file->tables.image_id = -1;
    OcrCode code = read_file(path, &file->tables, err);
    if (code) {
        tokenizer_file_close(file);
        return code;
    }
    *out = file;
    return OCR_OK;
}

void tokenizer_file_close(TokenizerFile *file) {
    if (!file)
        return;
    tokenizer_release(&file->tables);
    free(file->tables.tokens);
    free(file->tables.texts);
    free(file->tables.names);
    free(file->tables.merges);
    free(file->tables.pairs);
    free(file->tables.added);
    free(file);
}
