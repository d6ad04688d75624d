#include "model/flatjson.h"

#include "base/character.h"

#include <stdlib.h>
#include <string.h>

/*
 * The parser keeps a stack of open containers instead of calling itself. A step
 * that fails sets problem, which everything above it passes on as false.
 */
typedef struct Parser {
    char *at, *end;    /* *end is NUL, which no token contains */
    char *line_begin;  /* of the line that at is in */
    size_t line;       /* its number, from 1 */
    FlatValue *values; /* [capacity], the first count are in use */
    size_t count, capacity;
    size_t open[FLAT_MAX_DEPTH]; /* [depth] indices of the containers around at */
    int depth;
    const char *problem;
    bool out_of_memory;
} Parser;

static bool refuse(Parser *parser, const char *problem) {
    parser->problem = problem;
    return false;
}

static void skip_blanks(Parser *parser) {
    for (; *parser->at == ' ' || *parser->at == '\n' || *parser->at == '\r' || *parser->at == '\t';
         parser->at++) {
        if (*parser->at == '\n') {
            parser->line++;
            parser->line_begin = parser->at + 1;
        }
    }
}

static FlatValue *add_value(Parser *parser, FlatType type) {
    if (parser->count == parser->capacity) {
        size_t capacity = parser->capacity * 2;
        FlatValue *values = realloc(parser->values, capacity * sizeof *values);
        if (!values) {
            parser->out_of_memory = true;
            return NULL;
        }
        parser->values = values;
        parser->capacity = capacity;
    }
    FlatValue *value = &parser->values[parser->count++];
    *value = (FlatValue){.type = type, .span = 1};
    return value;
}

/* ---- strings ---- */

/* Four hexadecimal digits, or -1. */
static int32_t parse_hex(const char *digits) {
    int32_t code = 0;
    for (int i = 0; i < 4; i++) {
        char c = digits[i];
        if (c >= '0' && c <= '9')
            code = code << 4 | (c - '0');
        else if ((c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'))
            code = code << 4 | ((c | 0x20) - 'a' + 10);
        else
            return -1;
    }
    return code;
}

/* The escape at parser->at, a backslash; *out moves on by at most the bytes that were read. */
static bool parse_escape(Parser *parser, char **out) {
    static const char letters[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
    const char *letter = parser->at[1] ? strchr(letters, parser->at[1]) : NULL;
    if (letter) {
        *(*out)++ = meanings[letter - letters];
        parser->at += 2;
        return true;
    }
    if (parser->at[1] != 'u')
        return refuse(parser, "unknown escape");
    int32_t code = parse_hex(parser->at + 2);
    if (code < 0)
        return refuse(parser, "\\u without four hexadecimal digits");
    if (code == 0)
        return refuse(parser, "the character NUL is not allowed");
    int length = 6;
    if (code >= 0xD800 && code <= 0xDFFF) {
        int32_t low = -1;
        if (code < 0xDC00 && parser->at[6] == '\\' && parser->at[7] == 'u')
            low = parse_hex(parser->at + 8);
        if (low < 0xDC00 || low > 0xDFFF)
            return refuse(parser, "half of a surrogate pair");
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
        length = 12;
    }
    parser->at += length;
    *out += utf8_write((uint32_t)code, *out);
    return true;
}

static bool parse_string(Parser *parser) {
    char *text = ++parser->at, *out = text;
    while (*parser->at != '"') {
        unsigned char byte = (unsigned char)*parser->at;
        if (byte == '\\') {
            if (!parse_escape(parser, &out))
                return false;
        } else if (byte < 0x20) {
            return refuse(parser, parser->at == parser->end ? "the text ends inside a string"
                                                            : "control character in a string");
        } else {
            int length = utf8_character(parser->at, (size_t)(parser->end - parser->at));
            if (length < 0)
                return refuse(parser, "invalid UTF-8");
            for (; length > 0; length--)
                *out++ = *parser->at++;
        }
    }
    parser->at++;
    *out = '\0'; /* at the closing quote or before it */

    FlatValue *value = add_value(parser, FLAT_STRING);
    if (!value)
        return false;
    value->text = text;
    value->length = (uint32_t)(out - text);
    return true;
}

/* ---- other scalars ---- */

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static bool skip_digits(Parser *parser) {
    if (!is_digit(*parser->at))
        return refuse(parser, "digit expected");
    while (is_digit(*parser->at))
        parser->at++;
    return true;
}

static bool parse_number(Parser *parser) {
    char *text = parser->at;
    if (*parser->at == '-')
        parser->at++;
    if (*parser->at == '0')
        parser->at++;
    else if (!skip_digits(parser))
        return false;
    if (*parser->at == '.') {
        parser->at++;
        if (!skip_digits(parser))
            return false;
    }
    if (*parser->at == 'e' || *parser->at == 'E') {
        parser->at++;
        if (*parser->at == '+' || *parser->at == '-')
            parser->at++;
        if (!skip_digits(parser))
            return false;
    }
    FlatValue *value = add_value(parser, FLAT_NUMBER);
    if (!value)
        return false;
    value->text = text;
    value->length = (uint32_t)(parser->at - text);
    return true;
}

static bool parse_word(Parser *parser, const char *word, FlatType type) {
    size_t length = strlen(word);
    if (strncmp(parser->at, word, length) != 0)
        return refuse(parser, "value expected");
    parser->at += length;
    return add_value(parser, type);
}

/* ---- containers ---- */

static bool open_container(Parser *parser, FlatType type) {
    if (parser->depth == FLAT_MAX_DEPTH)
        return refuse(parser, "nested too deeply");
    parser->open[parser->depth++] = parser->count;
    parser->at++;
    return add_value(parser, type);
}

static bool same_text(const FlatValue *a, const FlatValue *b) {
    return a->length == b->length && memcmp(a->text, b->text, a->length) == 0;
}

static bool keys_are_unique(const FlatValue *object) {
    if (object->length > FLAT_UNIQUE_KEYS)
        return true;
    for (FLAT_MEMBERS(key, object)) {
        for (FLAT_MEMBERS(earlier, object)) {
            if (earlier == key)
                break;
            if (same_text(earlier, key))
                return false;
        }
    }
    return true;
}

static bool close_container(Parser *parser) {
    FlatValue *container = &parser->values[parser->open[--parser->depth]];
    container->span = (uint32_t)(parser->values + parser->count - container);
    parser->at++;
    if (container->type == FLAT_OBJECT && !keys_are_unique(container))
        return refuse(parser, "an object has two members of one name");
    return true;
}

static bool parse_key(Parser *parser) {
    skip_blanks(parser);
    if (*parser->at != '"')
        return refuse(parser, "member name expected");
    if (!parse_string(parser))
        return false;
    skip_blanks(parser);
    if (*parser->at != ':')
        return refuse(parser, "':' expected");
    parser->at++;
    return true;
}

/* A scalar, or the beginning of a container. */
static bool parse_value(Parser *parser) {
    switch (*parser->at) {
    case '{':
        return open_container(parser, FLAT_OBJECT);
    case '[':
        return open_container(parser, FLAT_ARRAY);
    case '"':
        return parse_string(parser);
    case 't':
        return parse_word(parser, "true", FLAT_TRUE);
    case 'f':
        return parse_word(parser, "false", FLAT_FALSE);
    case 'n':
        return parse_word(parser, "null", FLAT_NULL);
    default:
        if (*parser->at != '-' && !is_digit(*parser->at))
            return refuse(parser, "value expected");
        return parse_number(parser);
    }
}

static bool parse_document(Parser *parser) {
    skip_blanks(parser);
    if (!parse_value(parser))
        return false;
    while (parser->depth > 0) {
        FlatValue *container = &parser->values[parser->open[parser->depth - 1]];
        bool object = container->type == FLAT_OBJECT;
        skip_blanks(parser);
        if (*parser->at == (object ? '}' : ']')) {
            if (!close_container(parser))
                return false;
            continue;
        }
        /* The container just opened if nothing has been added behind it. */
        if (container->length > 0) {
            if (*parser->at != ',')
                return refuse(parser, object ? "',' or '}' expected" : "',' or ']' expected");
            parser->at++;
        }
        container->length++;
        if (object && !parse_key(parser))
            return false;
        skip_blanks(parser);
        if (!parse_value(parser))
            return false;
    }
    skip_blanks(parser);
    if (parser->at != parser->end)
        return refuse(parser, "something follows the value");
    return true;
}

static OcrCode report(const Parser *parser, const char *name, OcrCode invalid, OcrError *err) {
    if (parser->out_of_memory)
        return ocr_fail(err, OCR_OUT_OF_MEMORY, "out of memory while parsing %s", name);
    return ocr_fail(err, invalid, "%s is not valid JSON: line %zu, column %zu: %s", name,
                    parser->line, (size_t)(parser->at - parser->line_begin) + 1, parser->problem);
}

OcrCode flat_parse(const char *name, char *bytes, size_t size, OcrCode invalid, FlatValue **out,
                   OcrError *err) {
    if (size > FLAT_MAX_BYTES)
        return ocr_fail(err, invalid, "%s has %zu bytes, more than %zu", name, size,
                        FLAT_MAX_BYTES);
    /* Roughly what a tokenizer needs; others grow once or twice. */
    Parser parser = {.at = bytes,
                     .end = bytes + size,
                     .line_begin = bytes,
                     .line = 1,
                     .capacity = 64 + size / 16};
    parser.values = malloc(parser.capacity * sizeof *parser.values);
    if (!parser.values)
        return ocr_fail(err, OCR_OUT_OF_MEMORY, "out of memory while parsing %s", name);
    if (!parse_document(&parser)) {
        free(parser.values);
        return report(&parser, name, invalid, err);
    }
    *out = parser.values;
    return OCR_OK;
}

/* ---- reading ---- */

const FlatValue *flat_get(const FlatValue *object, const char *key) {
    if (!flat_is(object, FLAT_OBJECT))
        return NULL;
    for (FLAT_MEMBERS(member, object))
        if (flat_is_string(member, key))
            return member + 1;
    return NULL;
}

bool flat_is_string(const FlatValue *value, const char *text) {
    return flat_is(value, FLAT_STRING) && strcmp(value->text, text) == 0;
}

bool flat_index(const FlatValue *value, int limit, int *out) {
    if (!flat_is(value, FLAT_NUMBER) || value->length > 10)
        return false;
    int64_t number = 0;
    for (uint32_t i = 0; i < value->length; i++) {
        if (!is_digit(value->text[i]))
            return false;
        number = number * 10 + (value->text[i] - '0');
    }
    if (number >= limit)
        return false;
    *out = (int)number;
    return true;
}

const char *flat_type_name(const FlatValue *value) {
    static const char *const names[] = {
        [FLAT_NULL] = "null",       [FLAT_FALSE] = "false",     [FLAT_TRUE] = "true",
        [FLAT_NUMBER] = "a number", [FLAT_STRING] = "a string", [FLAT_ARRAY] = "an array",
        [FLAT_OBJECT] = "an object"};
    return value ? names[value->type] : "missing";
}
