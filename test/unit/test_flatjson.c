/* The JSON parser for large files, beside jansson and on its own. */
#include "support.h"

#include "model/flatjson.h"

#include <stdlib.h>
#include <string.h>

#define INVALID OCR_MODEL_TOKENIZER

/* A copy of text [size] with a NUL behind, exactly as large, so that ASan sees a read beyond it. */
static char *copy_of(const char *text, size_t size) {
    char *copy = malloc(size + 1);
    memcpy(copy, text, size);
    copy[size] = '\0';
    return copy;
}

/* The values of a text; the caller frees them and *bytes. */
static FlatValue *parse(const char *text, char **bytes) {
    FlatValue *root;
    OcrError err;
    *bytes = copy_of(text, strlen(text));
    assert_ok(flat_parse("text", *bytes, strlen(text), INVALID, &root, &err), &err);
    return root;
}

static void assert_refused(const char *text, size_t size, const char *message) {
    FlatValue *root;
    OcrError err;
    char *bytes = copy_of(text, size);
    assert_fails(flat_parse("text", bytes, size, INVALID, &root, &err), &err, INVALID, message);
    free(bytes);
}

/* ---- values ---- */

static void values_are_read(void **state) {
    (void)state;
    char *bytes;
    FlatValue *root = parse(" {\"a\": [1, -2.5e3, \"x\\n\\u00e9\\ud835\\udd18\\/\"],\n"
                            "\"b\": {}, \"c\": [], \"d\": [true, false, null], \"\": 0} ",
                            &bytes);
    assert_true(flat_is(root, FLAT_OBJECT));
    assert_int_equal(root->length, 5);
    assert_int_equal(root->span, 17);

    const FlatValue *list = flat_get(root, "a");
    assert_true(flat_is(list, FLAT_ARRAY));
    assert_int_equal(list->length, 3);
    assert_int_equal(list[2].length, 6);
    assert_memory_equal(list[2].text, "-2.5e3", 6);
    assert_true(flat_is_string(&list[3], "x\né𝔘/"));
    assert_int_equal(list[3].length, 9);
    assert_false(flat_is_string(&list[3], "x"));
    assert_int_equal(flat_get(root, "b")->length, 0);
    assert_int_equal(flat_get(root, "c")->span, 1);

    static const FlatType types[] = {FLAT_TRUE, FLAT_FALSE, FLAT_NULL};
    size_t count = 0;
    for (FLAT_ELEMENTS(element, flat_get(root, "d")))
        assert_true(flat_is(element, types[count++]));
    assert_int_equal(count, 3);

    static const char *const names[] = {"a", "b", "c", "d", ""};
    count = 0;
    for (FLAT_MEMBERS(key, root))
        assert_true(flat_is_string(key, names[count++]));
    assert_int_equal(count, 5);
    assert_null(flat_get(root, "e"));
    assert_null(flat_get(list, "a"));
    assert_null(flat_get(NULL, "a"));
    assert_false(flat_is(NULL, FLAT_NULL));
    free(root);
    free(bytes);
}

static void indices_are_whole_numbers_below_a_limit(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int value; /* -1: refused */
    } cases[] = {{"0", 0},      {"999", 999}, {"1000", -1}, {"-1", -1},
                 {"-0", -1},    {"1.0", -1},  {"1e1", -1},  {"4294967297", -1},
                 {"\"5\"", -1}, {"[5]", -1},  {"true", -1}, {"99999999999999999999", -1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *bytes;
        int index = -1;
        FlatValue *root = parse(cases[i].text, &bytes);
        assert_int_equal(flat_index(root, 1000, &index), cases[i].value >= 0);
        assert_int_equal(index, cases[i].value);
        free(root);
        free(bytes);
    }
    int index;
    assert_false(flat_index(NULL, 1000, &index));
}

static void types_have_names(void **state) {
    (void)state;
    static const char *const names[] = {"an array", "null",     "false",    "true",
                                        "a number", "a string", "an object"};
    char *bytes;
    FlatValue *root = parse("[null, false, true, 1, \"\", {}]", &bytes);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        assert_string_equal(flat_type_name(&root[i]), names[i]);
    assert_string_equal(flat_type_name(NULL), "missing");
    free(root);
    free(bytes);
}

/* ---- what is refused ---- */

static void errors_say_where(void **state) {
    (void)state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"", "line 1, column 1: value expected"},
        {"\n\n  ", "line 3, column 3: value expected"},
        {"[1,\n 2,\n x]", "line 3, column 2: value expected"},
        {"[1 2]", "line 1, column 4: ',' or ']' expected"},
        {"[1,]", "column 4: value expected"},
        {"[,1]", "column 2: value expected"},
        {"[1", "column 3: ',' or ']' expected"},
        {"{\"a\" 1}", "column 6: ':' expected"},
        {"{\"a\": 1,}", "column 9: member name expected"},
        {"{a: 1}", "column 2: member name expected"},
        {"{\"a\": 1 \"b\": 2}", "column 9: ',' or '}' expected"},
        {"{\"a\"}", "column 5: ':' expected"},
        {"[1}", "column 3: ',' or ']' expected"},
        {"1 2", "column 3: something follows the value"},
        {"[]]", "column 3: something follows the value"},
        {"\"a", "column 3: the text ends inside a string"},
        {"\"a\nb\"", "column 3: control character"},
        {"\"\x1F\"", "column 2: control character"},
        {"\"\\n\n\"", "line 1, column 4: control character"},
        {"\"\\x\"", "unknown escape"},
        {"\"\\", "unknown escape"},
        {"\"\\u12g4\"", "four hexadecimal digits"},
        {"\"\\u12", "four hexadecimal digits"},
        {"\"\\u0000\"", "NUL"},
        {"\"\\ud800\"", "half of a surrogate pair"},
        {"\"\\ud800\\u0041\"", "half of a surrogate pair"},
        {"\"\\ud800\\ud800\"", "half of a surrogate pair"},
        {"\"\\udc00\"", "half of a surrogate pair"},
        {"\"\\ud83d\\", "half of a surrogate pair"},
        {"\"\xC3\"", "invalid UTF-8"},
        {"\"\xED\xA0\x80\"", "invalid UTF-8"},
        {"\xEF\xBB\xBF[]", "column 1: value expected"},
        {"tru", "value expected"},
        {"truex", "something follows"},
        {"True", "value expected"},
        {"NaN", "value expected"},
        {"-", "digit expected"},
        {"+1", "value expected"},
        {".5", "value expected"},
        {"1.", "digit expected"},
        {"1e", "digit expected"},
        {"1e+", "digit expected"},
        {"01", "something follows"},
        {"0x10", "something follows"},
        {"-01", "something follows"},
        {"{\"a\": 1, \"b\": 2, \"\\u0061\": 3}", "two members of one name"},
        {"'a'", "value expected"},
        {"[1] // no", "something follows"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_refused(cases[i].text, strlen(cases[i].text), cases[i].message);
    assert_refused("[\0]", 3, "value expected");
    assert_refused("\"\0\"", 3, "control character");
    assert_refused("1\0", 2, "something follows");
}

static void nesting_has_a_limit(void **state) {
    (void)state;
    char text[4 * FLAT_MAX_DEPTH + 1];
    for (int depth = FLAT_MAX_DEPTH; depth <= FLAT_MAX_DEPTH + 1; depth++) {
        memset(text, '[', (size_t)depth);
        memset(text + depth, ']', (size_t)depth);
        text[2 * depth] = '\0';
        if (depth <= FLAT_MAX_DEPTH) {
            char *bytes;
            FlatValue *root = parse(text, &bytes);
            assert_int_equal(root->span, depth);
            free(root);
            free(bytes);
        } else {
            assert_refused(text, strlen(text), "nested too deeply");
        }
    }
    memset(text, '[', sizeof text);
    assert_refused(text, sizeof text, "nested too deeply");
}

/* ---- beside jansson ---- */

static json_t *to_jansson(const FlatValue *value) {
    json_t *out = NULL;
    switch ((FlatType)value->type) {
    case FLAT_NULL:
        return json_null();
    case FLAT_FALSE:
    case FLAT_TRUE:
        return json_boolean(value->type == FLAT_TRUE);
    case FLAT_NUMBER: {
        bool real = memchr(value->text, '.', value->length) ||
                    memchr(value->text, 'e', value->length) ||
                    memchr(value->text, 'E', value->length);
        return real ? json_real(strtod(value->text, NULL))
                    : json_integer(strtoll(value->text, NULL, 10));
    }
    case FLAT_STRING:
        return json_stringn(value->text, value->length);
    case FLAT_ARRAY:
        out = json_array();
        for (FLAT_ELEMENTS(element, value))
            json_array_append_new(out, to_jansson(element));
        return out;
    case FLAT_OBJECT:
        out = json_object();
        for (FLAT_MEMBERS(key, value))
            json_object_set_new(out, key->text, to_jansson(key + 1));
        return out;
    }
    return out;
}

/* The same texts are accepted, with the same values. Returns whether they were. */
static bool agree(const char *text, size_t size) {
    json_error_t problem;
    FlatValue *root;
    OcrError err;
    char *bytes = copy_of(text, size);
    json_t *theirs = json_loadb(text, size, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &problem);
    OcrCode code = flat_parse("text", bytes, size, INVALID, &root, &err);
    if (theirs && code)
        fail_msg("refused: %s: %.*s", err.message, (int)size, text);
    if (!theirs && !code && json_error_code(&problem) != json_error_numeric_overflow)
        fail_msg("accepted, but %s: %.*s", problem.text, (int)size, text);
    if (theirs && !code) {
        json_t *ours = to_jansson(root);
        assert_true(json_equal(ours, theirs));
        json_decref(ours);
    }
    if (!code)
        free(root);
    free(bytes);
    json_decref(theirs);
    return !code;
}

static void whole_files_agree(void **state) {
    (void)state;
    static const char *const names[] = {"nano1/tokenizer.json", "nano1/config.json",
                                        "nano1/model.safetensors.index.json", "ngram.json",
                                        "postprocess.json"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        OcrBytes file = read_file(golden_path(names[i]));
        assert_true(agree((const char *)file.data, file.size));
        free_bytes(file);
    }
}

static void damaged_texts_agree(void **state) {
    (void)state;
    static const char sample[] =
        "{\"id\": 5, \"text\": \"a\\\"b\\\\ \\u20ac\\ud83d\\ude00 \xE6\xBC\xA2\", \"x\": [1.5e-3, "
        "-0, "
        "[], {}, [{\"y\": null}]], \"ok\": true, \"no\": false, \"\": \"\"}\n";
    static const char letters[] = "\"\\{}[]:,.+-eE0159unft \n\t\x80\xC3\xED\xA0/b";
    uint64_t random = 5;
    int accepted = 0;
    for (int round = 0; round < 40000; round++) {
        char text[2 * sizeof sample];
        size_t size = sizeof sample - 1;
        memcpy(text, sample, size);
        for (int change = random_between(&random, 0, 2); change >= 0 && size > 0; change--) {
            size_t at = (size_t)random_between(&random, 0, (int)size - 1);
            char letter = letters[random_between(&random, 0, (int)sizeof letters - 2)];
            switch (random_between(&random, 0, 2)) {
            case 0:
                text[at] = letter;
                break;
            case 1:
                memmove(text + at + 1, text + at, size++ - at);
                text[at] = letter;
                break;
            default:
                memmove(text + at, text + at + 1, --size - at);
            }
        }
        accepted += agree(text, size);
    }
    assert_in_range(accepted, 1000, 30000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_read),
        cmocka_unit_test(indices_are_whole_numbers_below_a_limit),
        cmocka_unit_test(types_have_names),
        cmocka_unit_test(errors_say_where),
        cmocka_unit_test(nesting_has_a_limit),
        cmocka_unit_test(whole_files_agree),
        cmocka_unit_test(damaged_texts_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
