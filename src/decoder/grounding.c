#include "decoder/grounding.h"

#include "base/numbers.h"
#include "base/utf8.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REF "<|ref|>"
#define REF_TO_DET "<|/ref|><|det|>"
#define DET_END "<|/det|>"
#define IMAGE_REF "<|ref|>image<|/ref|>"
#define END_MARK "<｜end▁of▁sentence｜>"

/* The first place of part in text, or NULL. */
static const char *find(OcrText text, OcrText part) {
    return memmem(text.bytes, text.length, part.bytes, part.length);
}

/* What is left of text from begin on. */
static OcrText text_from(OcrText text, const char *begin) {
    return (OcrText){begin, text.length - (size_t)(begin - text.bytes)};
}

/* ---- regions ---- */

typedef struct Regions {
    OcrRegion *items; /* [capacity] */
    int capacity, count;
    int width, height; /* of the picture */
    int block;         /* the block in work, and its label */
    OcrText label;
} Regions;

/* Add a region to the block in work. What does not fit is counted, but not written. */
static void append(Regions *regions, OcrRegion region) {
    region.block = regions->block;
    region.label = regions->label;
    if (regions->count < regions->capacity)
        regions->items[regions->count] = region;
    regions->count++;
}

/* Truncated, where the division comes first (spec 7), and kept inside the picture. */
static int to_pixels(double coordinate, int size) {
    return (int)fmin(fmax(coordinate / 999 * size, 0), size);
}

/* model: x1, y1, x2, y2 as written */
static void append_box(Regions *regions, const double model[4]) {
    int x1 = to_pixels(model[0], regions->width), x2 = to_pixels(model[2], regions->width);
    int y1 = to_pixels(model[1], regions->height), y2 = to_pixels(model[3], regions->height);
    OcrBox box = {min_int(x1, x2), min_int(y1, y2), max_int(x1, x2), max_int(y1, y2)};
    append(regions, (OcrRegion){.has_box = true, .box = box});
}

/* ---- a list of boxes, written as in Python ---- */

/*
 * Of the literals that Python's ast.literal_eval accepts these are numbers in
 * decimal notation, lists and tuples; the rest is invalid. Of a value no more is
 * kept than tells whether it is a list of boxes.
 */
typedef enum Kind {
    KIND_INVALID,
    KIND_NUMBER,
    KIND_EMPTY, /* [] or () */
    KIND_BOX,   /* a list that begins with four numbers */
    KIND_BOXES, /* a list of boxes */
    KIND_OTHER
} Kind;

#define LITERAL_DEPTH 8
#define NUMBER_SIZE 64
#define NO_CLOSER '\0'

typedef struct Literal {
    const char *at, *end;
    double number; /* the last KIND_NUMBER */
    Regions *out;  /* boxes are appended when they end, and dropped if they do not belong */
} Literal;

static bool next_is(const Literal *literal, const char *set) {
    return literal->at < literal->end && *literal->at && strchr(set, *literal->at);
}

static bool accept(Literal *literal, const char *set) {
    bool accepted = next_is(literal, set);
    literal->at += accepted;
    return accepted;
}

static void skip_blanks(Literal *literal) {
    while (accept(literal, " \t\r\n\f"))
        continue;
}

/* Digits, single underscores between them. */
static bool skip_digits(Literal *literal) {
    static const char digits[] = "0123456789";
    if (!accept(literal, digits))
        return false;
    for (;;) {
        Literal ahead = *literal;
        accept(&ahead, "_");
        if (!accept(&ahead, digits))
            return true;
        literal->at = ahead.at;
    }
}

/* Whether an integer has zeros in front of other digits, which Python refuses. */
static bool has_leading_zeros(const char *digits) {
    return digits[0] == '0' && digits[strspn(digits, "0")] != '\0';
}

static Kind parse_number(Literal *literal) {
    char digits[NUMBER_SIZE];
    size_t length = 0;
    bool negative = next_is(literal, "-");
    accept(literal, "+-");
    skip_blanks(literal);

    const char *begin = literal->at;
    bool whole = skip_digits(literal), integer = true;
    if (accept(literal, ".")) {
        integer = false;
        whole = skip_digits(literal) || whole;
    }
    if (!whole)
        return KIND_INVALID;
    if (accept(literal, "eE")) {
        integer = false;
        accept(literal, "+-");
        if (!skip_digits(literal))
            return KIND_INVALID;
    }
    for (const char *c = begin; c < literal->at; c++) {
        if (length == NUMBER_SIZE - 1)
            return KIND_INVALID;
        if (*c != '_')
            digits[length++] = *c;
    }
    digits[length] = '\0';
    if (integer && has_leading_zeros(digits))
        return KIND_INVALID;
    double value = strtod(digits, NULL);
    literal->number = negative ? -value : value;
    return KIND_NUMBER;
}

static Kind parse_value(Literal *literal, int depth);

/* Is this the end of a sequence? Without a closer that is the end of the text. */
static bool accept_closer(Literal *literal, char closer) {
    skip_blanks(literal);
    if (closer == NO_CLOSER)
        return literal->at == literal->end;
    return accept(literal, (const char[]){closer, '\0'});
}

/*
 * Values with commas between them, up to the closer. One value without a comma
 * is, but for brackets, no sequence but that value.
 */
static Kind parse_sequence(Literal *literal, char closer, int depth) {
    double model[4];
    int first_box = literal->out->count, count = 0, numbers = 0, boxes = 0;
    bool comma = true;
    Kind kind = KIND_EMPTY;

    while (!accept_closer(literal, closer)) {
        if (!comma)
            return KIND_INVALID;
        kind = parse_value(literal, depth);
        if (kind == KIND_INVALID)
            return KIND_INVALID;
        if (kind == KIND_NUMBER && numbers == count && numbers < 4)
            model[numbers++] = literal->number;
        boxes += kind == KIND_BOX;
        count++;
        skip_blanks(literal);
        comma = accept(literal, ",");
    }
    if (count == 0)
        return closer == NO_CLOSER ? KIND_INVALID : KIND_EMPTY;
    if (closer != ']' && count == 1 && !comma)
        return kind;
    if (boxes == count)
        return KIND_BOXES;
    literal->out->count = first_box;
    if (numbers < 4)
        return KIND_OTHER;
    append_box(literal->out, model);
    return KIND_BOX;
}

static Kind parse_value(Literal *literal, int depth) {
    skip_blanks(literal);
    if (depth == LITERAL_DEPTH)
        return KIND_INVALID;
    if (accept(literal, "["))
        return parse_sequence(literal, ']', depth + 1);
    if (accept(literal, "("))
        return parse_sequence(literal, ')', depth + 1);
    return parse_number(literal);
}

/* Append the boxes of a list; none if it is no list of boxes. */
static void append_boxes(Regions *regions, OcrText list) {
    Literal literal = {list.bytes, list.bytes + list.length, 0, regions};
    int before = regions->count;
    if (parse_sequence(&literal, NO_CLOSER, 0) != KIND_BOXES)
        regions->count = before;
}

/* ---- markup ---- */

typedef struct Markup {
    OcrText whole, label, list;
} Markup;

/*
 * The first markup of text: from the first <|ref|>, the shortest label and then
 * the shortest list. If a part is missing behind it, it is missing behind every
 * later <|ref|> too.
 */
static bool find_markup(OcrText text, Markup *out) {
    const char *begin = find(text, TEXT(REF));
    if (!begin)
        return false;
    OcrText rest = text_from(text, begin + strlen(REF));
    const char *middle = find(rest, TEXT(REF_TO_DET));
    if (!middle)
        return false;
    out->label = (OcrText){rest.bytes, (size_t)(middle - rest.bytes)};
    rest = text_from(rest, middle + strlen(REF_TO_DET));
    const char *end = find(rest, TEXT(DET_END));
    if (!end)
        return false;
    out->list = (OcrText){rest.bytes, (size_t)(end - rest.bytes)};
    out->whole = (OcrText){begin, (size_t)(end - begin) + strlen(DET_END)};
    return true;
}

static const char *markup_end(const Markup *markup) {
    return markup->whole.bytes + markup->whole.length;
}

/* Without the end mark and white space at the ends (spec 6.2). */
static OcrText final_text(OcrText text) {
    OcrText mark = TEXT(END_MARK);
    if (text.length >= mark.length &&
        memcmp(text.bytes + text.length - mark.length, mark.bytes, mark.length) == 0)
        text.length -= mark.length;
    return text_strip(text);
}

/* Look for the next markup in *text; what stands before it, stripped. */
static OcrText text_before(OcrText text, bool *found, Markup *markup) {
    *found = find_markup(text, markup);
    if (*found)
        text.length = (size_t)(markup->whole.bytes - text.bytes);
    return text_strip(text);
}

int grounding_parse(OcrText text, int width, int height, OcrRegion *regions, int capacity) {
    Regions out = {.items = regions, .capacity = capacity, .width = width, .height = height};
    Markup markup;
    bool found;
    text = final_text(text);
    OcrText content = text_before(text, &found, &markup);
    if (content.length > 0) {
        out.block = 1;
        append(&out, (OcrRegion){.text = content});
    }
    while (found) {
        int first = out.count;
        out.block++;
        out.label = markup.label;
        append_boxes(&out, markup.list);
        if (out.count == first)
            append(&out, (OcrRegion){0});
        text = text_from(text, markup_end(&markup));
        content = text_before(text, &found, &markup);
        if (first < capacity)
            regions[first].text = content;
    }
    return out.count;
}

/* ---- markdown ---- */

typedef struct Page {
    char *bytes; /* [length] */
    size_t length;
} Page;

/* Replace every occurrence of old from left to right. new must not be longer. */
static void replace_all(Page *page, OcrText old, OcrText new) {
    OcrText rest = {page->bytes, page->length};
    char *out = page->bytes;
    for (const char *found; (found = find(rest, old)); rest = text_from(rest, found + old.length)) {
        size_t before = (size_t)(found - rest.bytes);
        memmove(out, rest.bytes, before);
        memcpy(out + before, new.bytes, new.length);
        out += before + new.length;
    }
    memmove(out, rest.bytes, rest.length);
    page->length = (size_t)(out - page->bytes) + rest.length;
}

static bool is_image(const Markup *markup) {
    return find(markup->whole, TEXT(IMAGE_REF)) != NULL;
}

/*
 * The official scripts replace one markup after the other in the whole text, the
 * images first, and what they write is what users of the model know. Every
 * replacement is shorter than what it replaces: no markup of an image has less
 * than 35 bytes.
 */
size_t grounding_markdown(OcrText text, char *out) {
    Page page = {out, 0};
    Markup markup;
    text = final_text(text);
    memcpy(out, text.bytes, text.length);
    page.length = text.length;

    int images = 0;
    for (OcrText rest = text; find_markup(rest, &markup);
         rest = text_from(rest, markup_end(&markup))) {
        char reference[32];
        if (!is_image(&markup))
            continue;
        int length = snprintf(reference, sizeof reference, "![](images/%d.jpg)\n", images++);
        replace_all(&page, markup.whole, (OcrText){reference, (size_t)length});
    }
    for (OcrText rest = text; find_markup(rest, &markup);
         rest = text_from(rest, markup_end(&markup))) {
        if (is_image(&markup))
            continue;
        replace_all(&page, markup.whole, TEXT(""));
        replace_all(&page, TEXT("\\coloneqq"), TEXT(":="));
        replace_all(&page, TEXT("\\eqqcolon"), TEXT("=:"));
    }
    return page.length;
}
