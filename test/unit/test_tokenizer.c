/*
 * The tokenizer: goldens, the parts that they do not reach, and what a file may
 * not say. Most tests start from the goldens' tokenizer.json and change it.
 */
#include "support.h"

#include "base/character.h"
#include "model/tokenizer.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NANO "nano1/tokenizer.json"
#define NANO_VOCABULARY 1024
#define NANO_IMAGE_ID 685
#define MAX_IDS 4096

/* ---- loading ---- */

typedef struct Loaded {
    Tokenizer *tokenizer;
    void *block;
} Loaded;

static Loaded load(const char *path, int vocab_size) {
    TokenizerFile *file;
    OcrError err;
    assert_ok(tokenizer_file_read(path, vocab_size, &file, &err), &err);
    Arena measure = ARENA_MEASURE;
    assert_null(tokenizer_build(file, &measure));
    Loaded loaded = {.block = aligned_alloc(ARENA_ALIGNMENT, measure.used)};
    Arena arena = {loaded.block, 0};
    loaded.tokenizer = tokenizer_build(file, &arena);
    assert_int_equal(arena.used, measure.used);
    tokenizer_file_close(file);
    return loaded;
}

static void unload(Loaded loaded) {
    tokenizer_release(loaded.tokenizer);
    free(loaded.block);
}

static char temporary[PATH_MAX]; /* a file of the running test */

static int make_temporary(void **state) {
    (void)state;
    snprintf(temporary, sizeof temporary, "/tmp/test_tokenizer.XXXXXX");
    int file = mkstemp(temporary);
    return file < 0 ? -1 : close(file);
}

static int remove_temporary(void **state) {
    (void)state;
    return unlink(temporary);
}

static const char *write_text(const char *text, size_t size) {
    FILE *file = fopen(temporary, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, size, file), size);
    fclose(file);
    return temporary;
}

static const char *write_json(const json_t *root) {
    assert_int_equal(json_dump_file(root, temporary, JSON_INDENT(1)), 0);
    return temporary;
}

/* ---- encoding ---- */

static int encode(const Tokenizer *tokenizer, const char *text, int *ids) {
    OcrError err;
    int count;
    assert_ok(tokenizer_encode(tokenizer, text, strlen(text), ids, MAX_IDS, &count, &err), &err);
    assert_in_range(count, 0, MAX_IDS);
    return count;
}

static void assert_ids(const Tokenizer *tokenizer, const char *text, const int *expected,
                       int count) {
    int ids[MAX_IDS];
    assert_int_equal(encode(tokenizer, text, ids), count);
    assert_memory_equal(ids, expected, (size_t)count * sizeof *ids);
}

static void assert_decoded(const Tokenizer *tokenizer, const int *ids, int count,
                           const char *expected, size_t size) {
    char *out = malloc(size + 1); /* ASan sees a byte too many */
    assert_int_equal(tokenizer_decode(tokenizer, ids, count, NULL, 0), size);
    assert_int_equal(tokenizer_decode(tokenizer, ids, count, out, size), size);
    assert_memory_equal(out, expected, size);
    free(out);
}

static int golden_ids(const json_t *one, int *ids) {
    const json_t *list = json_object_get(one, "ids"), *id;
    size_t i;
    json_array_foreach(list, i, id) ids[i] = (int)json_integer_value(id);
    return (int)json_array_size(list);
}

static void check_goldens(const Tokenizer *tokenizer) {
    json_t *cases = json_load_file(golden_path("tokenizer_nano.json"), JSON_ALLOW_NUL, NULL);
    const json_t *one;
    size_t i;
    assert_true(json_array_size(cases) >= 20);
    json_array_foreach(cases, i, one) {
        int ids[MAX_IDS], count = golden_ids(one, ids);
        const json_t *text = json_object_get(one, "text");
        const json_t *decoded = json_object_get(one, "decoded");
        if (text)
            assert_ids(tokenizer, json_string_value(text), ids, count);
        assert_decoded(tokenizer, ids, count, json_string_value(decoded),
                       json_string_length(decoded));
    }
    json_decref(cases);
}

static void goldens_are_equal(void **state) {
    (void)state;
    Loaded nano = load(golden_path(NANO), NANO_VOCABULARY);
    check_goldens(nano.tokenizer);
    assert_int_equal(tokenizer_image_id(nano.tokenizer), NANO_IMAGE_ID);
    unload(nano);
}

static json_t *nano_merges(const json_t *root) {
    return json_object_get(json_object_get(root, "model"), "merges");
}

static void merges_may_be_lists(void **state) {
    (void)state;
    json_t *root = golden_json(NANO), *merges = nano_merges(root), *merge;
    size_t i;
    json_array_foreach(merges, i, merge) {
        const char *text = json_string_value(merge), *blank = strchr(text, ' ');
        json_array_set_new(merges, i, json_pack("[s%, s]", text, (int)(blank - text), blank + 1));
    }
    Loaded nano = load(write_json(root), NANO_VOCABULARY);
    check_goldens(nano.tokenizer);
    unload(nano);
    json_decref(root);
}

/* The order of members is free in JSON. */
static void members_may_come_in_any_order(void **state) {
    (void)state;
    json_t *root = golden_json(NANO), *model = json_object_get(root, "model");
    json_t *vocabulary = json_incref(json_object_get(model, "vocab"));
    json_object_del(model, "vocab"); /* now behind the merges */
    json_object_set_new(model, "vocab", vocabulary);
    json_t *added = json_incref(json_object_get(root, "added_tokens"));
    json_object_del(root, "added_tokens");
    json_object_set_new(root, "added_tokens", added);
    Loaded nano = load(write_json(root), NANO_VOCABULARY);
    check_goldens(nano.tokenizer);
    unload(nano);
    json_decref(root);
}

/*
 * The definition of BPE, one merge after the other: lowest rank first, leftmost
 * first. word: letters, which are one piece and their own symbols.
 */
static int merge_slowly(const json_t *root, const char *word, int *ids) {
    const json_t *vocabulary = json_object_get(json_object_get(root, "model"), "vocab");
    const json_t *merges = nano_merges(root), *merge;
    char text[256] = " ", pair[80]; /* " s y m b o l s " */
    size_t rank = 0;
    for (int i = 0; word[i]; i++)
        snprintf(text + 1 + 2 * i, 3, "%c ", word[i]);
    while (rank < json_array_size(merges)) {
        merge = json_array_get(merges, rank);
        snprintf(pair, sizeof pair, " %s ", json_string_value(merge));
        char *found = strstr(text, pair);
        if (found) {
            char *blank = strchr(found + 1, ' ');
            memmove(blank, blank + 1, strlen(blank));
        }
        rank = found ? 0 : rank + 1;
    }
    int count = 0;
    for (char *symbol = strtok(text, " "); symbol; symbol = strtok(NULL, " "))
        ids[count++] = (int)json_integer_value(json_object_get(vocabulary, symbol));
    return count;
}

static void merges_follow_their_ranks(void **state) {
    (void)state;
    static const char letters[] = "etaoinsrhlcd";
    json_t *root = golden_json(NANO);
    Loaded nano = load(golden_path(NANO), NANO_VOCABULARY);
    uint64_t random = 11;
    for (int round = 0; round < 300; round++) {
        char word[41];
        int length = random_between(&random, 1, 40), expected[64];
        for (int i = 0; i < length; i++)
            word[i] = letters[random_between(&random, 0, (int)sizeof letters - 2)];
        word[length] = '\0';
        int count = merge_slowly(root, word, expected);
        assert_ids(nano.tokenizer, word, expected, count);
    }
    unload(nano);
    json_decref(root);
}

/* However many there are, each does its work: they are read in batches. */
static void the_last_merges_count(void **state) {
    (void)state;
    static const size_t counts[] = {0, 1, 31, 32, 33, 64, 65, 420};
    int checked = 0;
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        json_t *root = golden_json(NANO), *merges = nano_merges(root), *merge;
        while (json_array_size(merges) > counts[i])
            json_array_remove(merges, counts[i]);
        Loaded nano = load(write_json(root), NANO_VOCABULARY);
        size_t rank;
        json_array_foreach(merges, rank, merge) {
            char word[64] = "";
            int expected[64], length = 0;
            for (const char *c = json_string_value(merge); *c; c++)
                if (*c >= 'a' && *c <= 'z')
                    word[length++] = *c;
            int count = merge_slowly(root, word, expected);
            assert_ids(nano.tokenizer, word, expected, count);
            checked += rank + 1 == counts[i] && count == 1;
        }
        unload(nano);
        json_decref(root);
    }
    assert_true(checked >= 4);
}

/* Text comes back from its ids, whatever characters it has. */
static void text_survives(void **state) {
    (void)state;
    Loaded nano = load(golden_path(NANO), NANO_VOCABULARY);
    uint64_t random = 12;
    for (int round = 0; round < 500; round++) {
        char text[256];
        int size = 0, ids[MAX_IDS], limit = random_between(&random, 0, 250);
        while (size < limit) {
            static const int planes[] = {0x7F, 0x7FF, 0xFFFF, 0x10FFFF};
            uint32_t code =
                (uint32_t)random_between(&random, 1, planes[random_between(&random, 0, 3)]);
            if (code < 0xD800 || code > 0xDFFF)
                size += utf8_write(code, text + size);
        }
        text[size] = '\0';
        int count = encode(nano.tokenizer, text, ids);
        assert_decoded(nano.tokenizer, ids, count, text, (size_t)size);
    }
    unload(nano);
}

static json_t *added_token(int id, const char *content, bool normalized) {
    return json_pack("{s:i, s:s, s:b}", "id", id, "content", content, "normalized", normalized);
}

static void added_tokens_are_cut_out_in_two_passes(void **state) {
    (void)state;
    json_t *root = golden_json(NANO), *added = json_object_get(root, "added_tokens");
    json_array_append_new(added, added_token(800, "<image><image>", false));
    json_array_append_new(added, added_token(801, "a<im", true));
    json_array_append_new(added, added_token(802, "a<", true));
    json_array_append_new(added, added_token(803, "<ima", false));
    Loaded nano = load(write_json(root), NANO_VOCABULARY);
    const Tokenizer *tokenizer = nano.tokenizer;
    int a = tokenizer_find(tokenizer, "a", 1), x = tokenizer_find(tokenizer, "x", 1);

    assert_ids(tokenizer, "<image>", (int[]){NANO_IMAGE_ID}, 1);
    assert_ids(tokenizer, "<image><image>x", (int[]){800, x}, 2);
    assert_ids(tokenizer, "<image><image><image>", (int[]){800, NANO_IMAGE_ID}, 2);
    assert_ids(tokenizer, "x<imaxa", (int[]){x, 803, x, a}, 4);
    /* Those of the first pass win, although the other begins earlier. */
    assert_ids(tokenizer, "a<image>", (int[]){a, NANO_IMAGE_ID}, 2);
    assert_ids(tokenizer, "a<imx", (int[]){801, x}, 2);
    assert_ids(tokenizer, "a<xa<", (int[]){802, x, 802}, 3);
    unload(nano);
    json_decref(root);
}

static void ids_beyond_the_capacity_are_counted(void **state) {
    (void)state;
    Loaded nano = load(golden_path(NANO), NANO_VOCABULARY);
    const char *text = "<image>\nFree OCR.";
    int ids[3] = {-7, -7, -7}, count;
    OcrError err;
    assert_ok(tokenizer_encode(nano.tokenizer, text, strlen(text), ids, 2, &count, &err), &err);
    assert_int_equal(count, 5);
    assert_int_equal(ids[0], NANO_IMAGE_ID);
    assert_int_equal(ids[1], 201);
    assert_int_equal(ids[2], -7);
    assert_ok(tokenizer_encode(nano.tokenizer, "", 0, NULL, 0, &count, &err), &err);
    assert_int_equal(count, 0);
    unload(nano);
}

static void prompts_must_be_utf8(void **state) {
    (void)state;
    static const char *const broken[] = {"abc\xFF",         "abc\x80",     "abc\xC3",
                                         "abc\xED\xA0\x80", "abc\xC0\x80", "abc\xF4\x90\x80\x80"};
    Loaded nano = load(golden_path(NANO), NANO_VOCABULARY);
    OcrError err;
    int count;
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        OcrCode code =
            tokenizer_encode(nano.tokenizer, broken[i], strlen(broken[i]), NULL, 0, &count, &err);
        assert_fails(code, &err, OCR_PROMPT, "byte 3");
    }
    unload(nano);
}

/* Long prompts take time in proportion to their length; longer ones are refused. */
static void prompts_have_a_limit(void **state) {
    (void)state;
    static const char *const units[] = {"a", " ", "<", "\n", "!", "漢", "e\u0301", " \t", "12"};
    size_t limit = (size_t)1 << 18;
    char *text = malloc(limit + 16);
    Loaded nano = load(golden_path(NANO), NANO_VOCABULARY);
    OcrError err;
    int count;
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        size_t size = 0, unit = strlen(units[i]);
        for (; size + unit <= limit; size += unit)
            memcpy(text + size, units[i], unit);
        assert_ok(tokenizer_encode(nano.tokenizer, text, size, NULL, 0, &count, &err), &err);
        assert_true(count > 0);
    }
    memset(text, 'a', limit + 1);
    assert_fails(tokenizer_encode(nano.tokenizer, text, limit + 1, NULL, 0, &count, &err), &err,
                 OCR_PROMPT, "262145 bytes");
    free(text);
    unload(nano);
}

static void patterns_give_up(void **state) {
    (void)state;
    json_t *root = golden_json(NANO);
    json_t *steps = json_object_get(json_object_get(root, "pre_tokenizer"), "pretokenizers");
    json_object_set_new(json_object_get(json_array_get(steps, 1), "pattern"), "Regex",
                        json_string("(?:a|a|ab?)+$"));
    Loaded nano = load(write_json(root), NANO_VOCABULARY);
    const char *text = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaac";
    OcrError err;
    int count;
    assert_fails(tokenizer_encode(nano.tokenizer, text, strlen(text), NULL, 0, &count, &err), &err,
                 OCR_MODEL_TOKENIZER, "pattern 2 gives up");
    unload(nano);
    json_decref(root);
}

/* An empty match makes no piece and does not stop the search. */
static void empty_matches_are_no_pieces(void **state) {
    (void)state;
    json_t *root = golden_json(NANO);
    json_t *steps = json_object_get(json_object_get(root, "pre_tokenizer"), "pretokenizers");
    json_object_set_new(json_object_get(json_array_get(steps, 0), "pattern"), "Regex",
                        json_string("x*"));
    Loaded nano = load(write_json(root), NANO_VOCABULARY);
    int ids[MAX_IDS], count = encode(nano.tokenizer, "the xx the", ids);
    assert_decoded(nano.tokenizer, ids, count, "the xx the", 10);
    unload(nano);
    json_decref(root);
}

/* ---- decoding ---- */

/* Ids of single bytes, as the goldens' file numbers them. */
static void byte_ids(const Tokenizer *tokenizer, const char *bytes, size_t size, int *ids) {
    for (size_t i = 0; i < size; i++)
        ids[i] = tokenizer_find(tokenizer, bytes + i, 1);
}

static void broken_utf8_becomes_replacement_characters(void **state) {
    (void)state;
    static const struct {
        const char *bytes, *text;
    } cases[] = {
        {"a\x80z", "a\uFFFDz"},
        {"\xFF\xFE", "\uFFFD\uFFFD"},
        {"\xC3", "\uFFFD"},
        {"\xC3z", "\uFFFDz"},
        {"\xC3\xA9", "é"},
        {"\xC0\x80", "\uFFFD\uFFFD"},
        {"\xE6\xBC", "\uFFFD"},
        {"\xE6\xBCz", "\uFFFDz"},
        {"\xE6\xBC\xA2", "漢"},
        {"\xE6\xE6\xBC\xA2", "\uFFFD漢"},
        {"\xE0\x80\x80", "\uFFFD\uFFFD\uFFFD"},
        {"\xED\xA0\x80", "\uFFFD\uFFFD\uFFFD"},
        {"\xF0\x9F\x92\xC3\xA9", "\uFFFDé"},
        {"\xF0\x9F\x92", "\uFFFD"},
        {"\xF0\x9D\x94\x98", "𝔘"},
        {"\xF0\x80\x80\x80", "\uFFFD\uFFFD\uFFFD\uFFFD"},
        {"\xF4\x90\x80\x80", "\uFFFD\uFFFD\uFFFD\uFFFD"},
        {"\xF5\xC3\xA9", "\uFFFDé"},
    };
    Loaded nano = load(golden_path(NANO), NANO_VOCABULARY);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int ids[8];
        size_t size = strlen(cases[i].bytes);
        byte_ids(nano.tokenizer, cases[i].bytes, size, ids);
        assert_decoded(nano.tokenizer, ids, (int)size, cases[i].text, strlen(cases[i].text));
    }
    unload(nano);
}

static void unknown_ids_are_nothing(void **state) {
    (void)state;
    Loaded nano = load(golden_path(NANO), NANO_VOCABULARY);
    int ids[] = {-1, INT_MIN, 700, NANO_VOCABULARY - 1, NANO_VOCABULARY, INT_MAX, 0, 0, 0};
    assert_decoded(nano.tokenizer, ids, 6, "", 0);
    /* They do not come between the bytes of a character either. */
    byte_ids(nano.tokenizer, "\xE6\xBC\xA2", 3, ids);
    int apart[] = {ids[0], 1023, ids[1], -1, ids[2]};
    assert_decoded(nano.tokenizer, apart, 5, "漢", 3);
    assert_decoded(nano.tokenizer, NULL, 0, "", 0);
    unload(nano);
}

static void decoding_keeps_to_the_capacity(void **state) {
    (void)state;
    Loaded nano = load(golden_path(NANO), NANO_VOCABULARY);
    int ids[16], count = encode(nano.tokenizer, "Free OCR 漢", ids);
    for (size_t capacity = 0; capacity <= 13; capacity++) {
        char *out = malloc(capacity + 1);
        assert_int_equal(tokenizer_decode(nano.tokenizer, ids, count, out, capacity), 12);
        assert_memory_equal(out, "Free OCR 漢", capacity < 12 ? capacity : 12);
        free(out);
    }
    unload(nano);
}

static void tokens_are_found_by_text(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int id;
    } cases[] = {
        {"<image>", NANO_IMAGE_ID},
        {"<td>", 691},
        {"<｜end▁of▁sentence｜>", 1},
        {"\n", 201},
        {" the", 261},
        {"a", 67},
        {"<image", -1},
        {"<image>x", -1},
        {"Ġthe", -1},
        {"", -1},
        {"猫", -1},
    };
    Loaded nano = load(golden_path(NANO), NANO_VOCABULARY);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(tokenizer_find(nano.tokenizer, cases[i].text, strlen(cases[i].text)),
                         cases[i].id);
    unload(nano);
}

/* ---- files that are refused ---- */

static void assert_refused(const char *path, OcrCode expected, const char *part) {
    TokenizerFile *file = NULL;
    OcrError err;
    OcrCode code = tokenizer_file_read(path, NANO_VOCABULARY, &file, &err);
    if (code == OCR_OK)
        tokenizer_file_close(file);
    assert_fails(code, &err, expected, part);
}

/* Replace what stands at a path of names and numbers, "model/merges/0"; NULL removes it. */
static void edit(json_t *root, const char *path, const char *value) {
    char part[64];
    json_t *parent = NULL, *here = root;
    for (const char *end = path; *end; path = end + 1) {
        end = path + strcspn(path, "/");
        snprintf(part, sizeof part, "%.*s", (int)(end - path), path);
        parent = here;
        here = json_is_array(parent) ? json_array_get(parent, (size_t)atoi(part))
                                     : json_object_get(parent, part);
        if (!*end)
            break;
    }
    json_t *new = value ? json_loads(value, JSON_DECODE_ANY, NULL) : NULL;
    assert_true(!value || new);
    if (json_is_array(parent))
        new ? json_array_set_new(parent, (size_t)atoi(part), new)
            : json_array_remove(parent, (size_t)atoi(part));
    else
        new ? json_object_set_new(parent, part, new) : json_object_del(parent, part);
}

static void other_structures_are_refused_by_name(void **state) {
    (void)state;
    static const struct {
        const char *path, *value, *message;
    } cases[] = {
        {"truncation", "{\"max_length\": 5}", "truncation"},
        {"padding", "{}", "padding"},
        {"normalizer", "{\"type\": \"NFC\"}", "normalizer"},
        {"normalizer/normalizers", "[{\"type\": \"NFC\"}]", "normalizer"},
        {"normalizer", "5", "normalizer"},
        {"pre_tokenizer", "null", "pre_tokenizer"},
        {"pre_tokenizer", NULL, "pre_tokenizer"},
        {"pre_tokenizer/type", "\"Whitespace\"", "pre_tokenizer"},
        {"pre_tokenizer/pretokenizers", "{}", "pre_tokenizer"},
        {"pre_tokenizer/pretokenizers", "[]", "pre_tokenizer"},
        {"pre_tokenizer/pretokenizers/0", "5", "pre_tokenizer"},
        {"pre_tokenizer/pretokenizers/0/type", "\"Digits\"", "pre_tokenizer"},
        {"pre_tokenizer/pretokenizers/3", NULL, "pre_tokenizer"},
        {"pre_tokenizer/pretokenizers/3/use_regex", "true", "use_regex"},
        {"pre_tokenizer/pretokenizers/3/use_regex", NULL, "use_regex"},
        {"pre_tokenizer/pretokenizers/3/add_prefix_space", "true", "add_prefix_space"},
        {"pre_tokenizer/pretokenizers/0/behavior", "\"Removed\"", "pre-tokenizer 1"},
        {"pre_tokenizer/pretokenizers/1/invert", "true", "pre-tokenizer 2"},
        {"pre_tokenizer/pretokenizers/1/invert", NULL, "pre-tokenizer 2"},
        {"pre_tokenizer/pretokenizers/0/pattern", "{\"String\": \"a\"}", "pattern.Regex"},
        {"pre_tokenizer/pretokenizers/0/pattern/Regex", "5", "pattern.Regex"},
        {"pre_tokenizer/pretokenizers/2/pattern/Regex", "\"a(\"", "pre-tokenizer 3"},
        {"pre_tokenizer/pretokenizers/2/pattern/Regex", "\"\\\\C\"", "pre-tokenizer 3"},
        {"pre_tokenizer/pretokenizers/2/pattern/Regex", "\"a\\\\Kb\"", "has \\K"},
        {"pre_tokenizer/pretokenizers/2/pattern/Regex", "\"((a{1000}){1000}){1000}\"",
         "pre-tokenizer 3"},
        {"post_processor", "{\"type\": \"TemplateProcessing\"}", "post_processor"},
        {"decoder", "null", "decoder"},
        {"decoder/type", "\"Metaspace\"", "decoder"},
        {"model", "null", "model.type"},
        {"model", "[]", "model.type"},
        {"model/type", "\"WordPiece\"", "model.type"},
        {"model/dropout", "0.1", "model.dropout"},
        {"model/dropout", "0", "model.dropout"},
        {"model/unk_token", "\"<unk>\"", "model.unk_token"},
        {"model/continuing_subword_prefix", "\"##\"", "continuing_subword_prefix"},
        {"model/end_of_word_suffix", "\"</w>\"", "end_of_word_suffix"},
        {"model/fuse_unk", "true", "model.fuse_unk"},
        {"model/byte_fallback", "true", "model.byte_fallback"},
        {"model/ignore_merges", "true", "model.ignore_merges"},
        {"model/vocab", "[]", "model.vocab must be an object, but is an array"},
        {"model/vocab", NULL, "model.vocab must be an object, but is missing"},
        {"model/merges", "{}", "model.merges must be an array, but is an object"},
        {"model/merges", "null", "but is null"},
        {"added_tokens", "\"x\"", "added_tokens must be an array, but is a string"},
        {"added_tokens", "0", "but is a number"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *root = golden_json(NANO);
        edit(root, cases[i].path, cases[i].value);
        assert_refused(write_json(root), OCR_MODEL_TOKENIZER, cases[i].message);
        json_decref(root);
    }
}

static void wrong_entries_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *path, *value, *message;
    } cases[] = {
        {"model/vocab/a", "1024", "no id in 0..1023"},
        {"model/vocab/a", "-1", "no id in 0..1023"},
        {"model/vocab/a", "1.0", "no id in 0..1023"},
        {"model/vocab/a", "1e2", "no id in 0..1023"},
        {"model/vocab/a", "9223372036854775807", "no id in 0..1023"},
        {"model/vocab/a", "\"67\"", "no id in 0..1023"},
        {"model/vocab/a", "[67]", "no id in 0..1023"},
        {"model/vocab/a", "null", "no id in 0..1023"},
        {"model/vocab/a", "68", "id 68 occurs twice"},
        {"model/vocab/Ġ", NULL, "symbol of byte 32"},
        {"model/vocab/a", NULL, "symbol of byte 97"},
        {"model/vocab/Ń", NULL, "symbol of byte 173"},
        {"model/vocab/", "900", "is empty"},
        {"model/merges/3", "\"ab\"", "merge 3 is not a pair"},
        {"model/merges/3", "\"a b c\"", "merge 3 is not a pair"},
        {"model/merges/3", "\" b\"", "merge 3 is not a pair"},
        {"model/merges/3", "\"a \"", "merge 3 is not a pair"},
        {"model/merges/3", "\" \"", "merge 3 is not a pair"},
        {"model/merges/3", "\"\"", "merge 3 is not a pair"},
        {"model/merges/3", "\"猫 a\"", "merge 3 is not a pair"},
        {"model/merges/3", "5", "merge 3 is not a pair"},
        {"model/merges/3", "{\"a\": \"b\"}", "merge 3 is not a pair"},
        {"model/merges/3", "[\"a\"]", "merge 3 is not a pair"},
        {"model/merges/3", "[\"a\", \"b\", \"c\"]", "merge 3 is not a pair"},
        {"model/merges/3", "[\"a\", 5]", "merge 3 is not a pair"},
        {"model/merges/3", "[[\"a\"], \"b\"]", "merge 3 is not a pair"},
        {"model/merges/3", "[\"a\", \"\"]", "merge 3 is not a pair"},
        {"model/merges/3", "[\"a b\", \"c\"]", "merge 3 is not a pair"},
        {"model/merges/3", "\"qqqq a\"", "merge 3: its left part"},
        {"model/merges/3", "\"a qqqq\"", "merge 3: its right part"},
        {"model/merges/3", "\"q q\"", "merge 3: its result"},
        {"model/merges/400", "\"Ġ t\"", "and 400 are the same"},
        {"added_tokens/0", "5", "added token 0 has no content"},
        {"added_tokens/4/content", "\"\"", "added token 4 has no content"},
        {"added_tokens/4/content", "5", "added token 4 has no content"},
        {"added_tokens/4/id", "1024", "added token 4 has no id"},
        {"added_tokens/4/id", "-3", "added token 4 has no id"},
        {"added_tokens/4/id", "\"4\"", "added token 4 has no id"},
        {"added_tokens/4/id", NULL, "added token 4 has no id"},
        {"added_tokens/4/id", "679", "the vocabulary says otherwise"},
        {"added_tokens/4/id", "100", "the vocabulary says otherwise"},
        {"added_tokens/4/content", "\"the\"", "the vocabulary says otherwise"},
        {"added_tokens/4/normalized", NULL, "normalized"},
        {"added_tokens/4/normalized", "0", "normalized"},
        {"added_tokens/4/lstrip", "true", "added token.lstrip"},
        {"added_tokens/4/rstrip", "true", "added token.rstrip"},
        {"added_tokens/4/single_word", "true", "added token.single_word"},
        {"added_tokens/0", NULL, "has the id 0"},
        {"added_tokens/1", NULL, "has the id 1"},
        {"added_tokens", "[]", "has the id 0"},
        {"added_tokens/9", NULL, "<image>"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *root = golden_json(NANO);
        edit(root, cases[i].path, cases[i].value);
        assert_refused(write_json(root), OCR_MODEL_TOKENIZER, cases[i].message);
        json_decref(root);
    }
    json_t *root = golden_json(NANO), *added = json_object_get(root, "added_tokens");
    json_array_append(added, json_array_get(added, 4));
    assert_refused(write_json(root), OCR_MODEL_TOKENIZER, "id 680 occurs twice");
    json_decref(root);
}

/* Text that a JSON library would not write. */
static void wrong_json_is_refused(void **state) {
    (void)state;
    static const struct {
        const char *before, *insert, *message;
    } cases[] = {
        {"\"vocab\": {", "\"a\": 900,", "ids 900 and 67 of model.vocab have the same text"},
        {"\"vocab\": {", "\"\\u0061\": 900,", "ids 900 and 67"},
        {"\"vocab\": {", "\"\\ud800\": 900,", "half of a surrogate pair"},
        {"\"vocab\": {", "\"\\u0000\": 900,", "NUL"},
        {"\"vocab\": {", "\"\x80\": 900,", "invalid UTF-8"},
        {"\"vocab\": {", "\"zz\": 99999999999999999999999999,", "no id"},
        {"\"vocab\": {", "\"zz\": 1e999,", "no id"},
        {"\"merges\": [", "[[[[[[[[[[[[]]]]]]]]]]]],", "merge 0 is not a pair"},
        {"\"model\": {", "\"type\": \"BPE\",", "two members of one name"},
        {"{", "\"model\": {},", "two members of one name"},
    };
    OcrBytes nano = read_file(golden_path(NANO));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *begin = (const char *)nano.data;
        const char *place = memmem(begin, nano.size, cases[i].before, strlen(cases[i].before));
        assert_non_null(place);
        size_t head = (size_t)(place - begin) + strlen(cases[i].before);
        size_t insert = strlen(cases[i].insert);
        char *text = malloc(nano.size + insert);
        memcpy(text, begin, head);
        memcpy(text + head, cases[i].insert, insert);
        memcpy(text + head + insert, begin + head, nano.size - head);
        assert_refused(write_text(text, nano.size + insert), OCR_MODEL_TOKENIZER, cases[i].message);
        free(text);
    }
    /* Cut anywhere, it is no tokenizer. */
    for (size_t size = 0; size < nano.size - 2; size += 1 + size / 20)
        assert_refused(write_text((const char *)nano.data, size), OCR_MODEL_TOKENIZER, "JSON");
    free_bytes(nano);
    assert_refused(write_text("[]", 2), OCR_MODEL_TOKENIZER, "not an object");
}

static void files_that_cannot_be_read(void **state) {
    (void)state;
    assert_refused("/nonexistent/tokenizer.json", OCR_MODEL_MISSING, "/nonexistent");
    assert_refused("/tmp", OCR_MODEL_UNREADABLE, "not a regular file");
    assert_int_equal(truncate(temporary, (off_t)65 << 20), 0);
    assert_refused(temporary, OCR_MODEL_TOKENIZER, "more than");
}

/* The vocabulary may be smaller than the model's, but not larger. */
static void the_models_vocabulary_bounds_the_ids(void **state) {
    (void)state;
    TokenizerFile *file;
    OcrError err;
    assert_fails(tokenizer_file_read(golden_path(NANO), 600, &file, &err), &err,
                 OCR_MODEL_TOKENIZER, "0..599");
    unload(load(golden_path(NANO), 697));
    assert_fails(tokenizer_file_read(golden_path(NANO), 696, &file, &err), &err,
                 OCR_MODEL_TOKENIZER, "added token");
}

#define WITH_FILE(test) cmocka_unit_test_setup_teardown(test, make_temporary, remove_temporary)

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(goldens_are_equal),
        WITH_FILE(merges_may_be_lists),
        WITH_FILE(members_may_come_in_any_order),
        cmocka_unit_test(merges_follow_their_ranks),
        WITH_FILE(the_last_merges_count),
        cmocka_unit_test(text_survives),
        WITH_FILE(added_tokens_are_cut_out_in_two_passes),
        cmocka_unit_test(ids_beyond_the_capacity_are_counted),
        cmocka_unit_test(prompts_must_be_utf8),
        cmocka_unit_test(prompts_have_a_limit),
        WITH_FILE(patterns_give_up),
        WITH_FILE(empty_matches_are_no_pieces),
        cmocka_unit_test(broken_utf8_becomes_replacement_characters),
        cmocka_unit_test(unknown_ids_are_nothing),
        cmocka_unit_test(decoding_keeps_to_the_capacity),
        cmocka_unit_test(tokens_are_found_by_text),
        WITH_FILE(other_structures_are_refused_by_name),
        WITH_FILE(wrong_entries_are_refused),
        WITH_FILE(wrong_json_is_refused),
        WITH_FILE(files_that_cannot_be_read),
        cmocka_unit_test(the_models_vocabulary_bounds_the_ids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
