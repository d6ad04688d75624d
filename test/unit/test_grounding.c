/* Layout markup: regions, boxes and markdown. */
#include "support.h"

#include "decoder/grounding.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_REGIONS 256

static OcrRegion regions[MAX_REGIONS];

static OcrText text_of(const char *string) {
    return (OcrText){string, strlen(string)};
}

/* Into regions; returns how many there are. */
static int parse(const char *string, int width, int height) {
    int count = grounding_parse(text_of(string), width, height, NULL, 0);
    assert_in_range(count, 0, MAX_REGIONS);
    assert_int_equal(grounding_parse(text_of(string), width, height, regions, MAX_REGIONS), count);
    return count;
}

static void assert_box(const OcrRegion *region, int left, int top, int right, int bottom) {
    assert_true(region->has_box);
    assert_int_equal(region->box.left, left);
    assert_int_equal(region->box.top, top);
    assert_int_equal(region->box.right, right);
    assert_int_equal(region->box.bottom, bottom);
}

static void assert_text(OcrText text, const char *expected) {
    assert_int_equal(text.length, strlen(expected));
    assert_memory_equal(text.bytes, expected, text.length);
}

static void assert_markdown(const char *string, const char *expected) {
    size_t length = strlen(string);
    char *out = malloc(length + 1); /* ASan sees a byte too many */
    assert_text((OcrText){out, grounding_markdown((OcrText){string, length}, out)}, expected);
    free(out);
}

/* ---- goldens ---- */

/* The regions from first on are those of this label and these boxes; returns their number. */
static int assert_block(int first, const json_t *expected) {
    const json_t *boxes = json_object_get(expected, "box_px");
    int count = (int)json_array_size(boxes);
    for (int i = 0; i < count; i++) {
        const OcrRegion *region = &regions[first + i];
        int side[4];
        for (size_t k = 0; k < 4; k++)
            side[k] = (int)json_integer_value(json_array_get(json_array_get(boxes, (size_t)i), k));
        assert_text(region->label, json_string_value(json_object_get(expected, "label")));
        assert_int_equal(region->block, regions[first].block);
        assert_box(region, side[0], side[1], side[2], side[3]);
    }
    return count;
}

static void goldens_are_equal(void **state) {
    (void)state;
    json_t *cases = golden_json("postprocess.json");
    size_t i;
    const json_t *one;
    assert_true(json_array_size(cases) >= 6);
    json_array_foreach(cases, i, one) {
        const char *string = json_string_value(json_object_get(one, "text"));
        const json_t *expected = json_object_get(one, "boxes");
        int count = parse(string, (int)json_integer_value(json_object_get(one, "width")),
                          (int)json_integer_value(json_object_get(one, "height")));
        size_t blocks = 0;
        for (int at = 0; at < count;) {
            if (regions[at].has_box)
                at += assert_block(at, json_array_get(expected, blocks++));
            else
                at++;
        }
        assert_int_equal(blocks, json_array_size(expected));
        assert_markdown(string, json_string_value(json_object_get(one, "markdown")));
    }
    json_decref(cases);
}

/* ---- regions ---- */

static void content_follows_its_markup(void **state) {
    (void)state;
    const char *page = "  before\n<|ref|>table<|/ref|><|det|>[[1,2,3,4]]<|/det|>\n"
                       "<|ref|>table_caption<|/ref|><|det|>[[5,6,7,8], [9,10,11,12]]<|/det|>\n"
                       "<center>Caption</center>  \n\n"
                       "<|ref|>Größe<|/ref|><|det|>[[1, 2<|/det|>\n\u3000last words \n\n"
                       "<｜end▁of▁sentence｜>";
    assert_int_equal(parse(page, 999, 999), 5);

    assert_null(regions[0].label.bytes);
    assert_text(regions[0].text, "before");
    assert_ptr_equal(regions[0].text.bytes, strstr(page, "before"));
    assert_false(regions[0].has_box);

    assert_text(regions[1].label, "table");
    assert_non_null(regions[1].text.bytes);
    assert_text(regions[1].text, "");
    assert_box(&regions[1], 1, 2, 3, 4);

    assert_text(regions[2].label, "table_caption");
    assert_text(regions[2].text, "<center>Caption</center>");
    assert_box(&regions[2], 5, 6, 7, 8);
    assert_text(regions[3].label, "table_caption");
    assert_null(regions[3].text.bytes);
    assert_box(&regions[3], 9, 10, 11, 12);

    assert_text(regions[4].label, "Größe");
    assert_text(regions[4].text, "last words");
    assert_false(regions[4].has_box);
    static const int block_of[] = {1, 2, 3, 3, 4};
    for (int i = 0; i < 5; i++)
        assert_int_equal(regions[i].block, block_of[i]);
}

static void blank_pages_have_no_regions(void **state) {
    (void)state;
    assert_int_equal(parse("", 10, 10), 0);
    assert_int_equal(parse(" \n\u3000<｜end▁of▁sentence｜>", 10, 10), 0);
    assert_int_equal(parse(" \n<|ref|>a<|/ref|><|det|>[]<|/det|> ", 10, 10), 1);
    assert_int_equal(regions[0].block, 1);
}

static void broken_markup_is_text(void **state) {
    (void)state;
    static const char *const texts[] = {
        "plain",
        "<|ref|>",
        "<|ref|>a<|/ref|>",
        "<|ref|>a<|/ref|><|det|>[[1,2,3,4]]",
        "<|ref|>a<|/ref|> <|det|>[[1,2,3,4]]<|/det|>",
        "<|/ref|><|det|>[[1,2,3,4]]<|/det|>",
        "<|ref|a<|/ref|><|det|>[[1,2,3,4]]<|/det|>",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        assert_int_equal(parse(texts[i], 10, 10), 1);
        assert_null(regions[0].label.bytes);
        assert_text(regions[0].text, texts[i]);
        assert_false(regions[0].has_box);
        assert_markdown(texts[i], texts[i]);
    }
    /* The shortest label that has a list directly behind it. */
    assert_int_equal(parse("<|ref|>a<|/ref|>b<|ref|>c<|/ref|><|det|>[]<|/det|>d<|/det|>", 10, 10),
                     1);
    assert_text(regions[0].label, "a<|/ref|>b<|ref|>c");
    assert_text(regions[0].text, "d<|/det|>");
    assert_false(regions[0].has_box);
}

/* ---- lists of boxes ---- */

/* The number of boxes, which are in regions. */
static int parse_list(const char *list, int width, int height) {
    char page[4096];
    snprintf(page, sizeof page, "<|ref|>x<|/ref|><|det|>%s<|/det|>", list);
    int count = parse(page, width, height);
    for (int i = 0; i < count; i++) {
        assert_int_equal(regions[i].block, 1);
        assert_int_equal(regions[i].has_box, regions[0].has_box);
    }
    return regions[0].has_box ? count : 0;
}

static void lists_are_read_as_python_does(void **state) {
    (void)state;
    static const struct {
        const char *list;
        int boxes;
    } cases[] = {
        {"[[1,2,3,4]]", 1},
        {" [ [ 1 ,\t2,\n3 , 4 ] ] \n", 1},
        {"[[1,2,3,4],[5,6,7,8],]", 2},
        {"((1,2,3,4),(5,6,7,8))", 2},
        {"[(1,2,3,4,)]", 1},
        {"([[1,2,3,4]])", 1},
        {"((((1,2,3,4),)))", 1},
        {"[1,2,3,4],[5,6,7,8]", 2},
        {"[1,2,3,4],", 1},
        {"[[1,2,3,4,5]]", 1},
        {"[[1,2,3,4,[5,6,7,8]]]", 1},
        {"[[-1, +2, - 3, 4.5]]", 1},
        {"[[.5, 5., 1e2, 1.5E-3]]", 1},
        {"[[1_000, 00, 0_1.5, 1.e3]]", 1},
        {"[[0, 000, 0.0, -0]]", 1},
        {"[]", 0},
        {"()", 0},
        {"", 0},
        {" ", 0},
        {",", 0},
        {"1", 0},
        {"[1,2,3,4]", 0},
        {"(1,2,3,4)", 0},
        {"((1,2,3,4))", 0},
        {"[[]]", 0},
        {"[[1,2,3]]", 0},
        {"[[1,2,3,4],[]]", 0},
        {"[[1,2,3,4],[1,2,3]]", 0},
        {"[[1,2,3,4],5]", 0},
        {"[[[1,2,3,4]]]", 0},
        {"[[1,2,3,4]", 0},
        {"[[1,2,3,4]]]", 0},
        {"[[1,2,3,4)]", 0},
        {"[[1,2,3,4]] x", 0},
        {"[[1 2 3 4]]", 0},
        {"[[1,,2,3,4]]", 0},
        {"[,]", 0},
        {"[[007,2,3,4]]", 0},
        {"[[1__0,2,3,4]]", 0},
        {"[[1_,2,3,4]]", 0},
        {"[[_1,2,3,4]]", 0},
        {"[[--1,2,3,4]]", 0},
        {"[[1e,2,3,4]]", 0},
        {"[[.,2,3,4]]", 0},
        {"[[1.2.3,2,3,4]]", 0},
        {"[[nan,inf,3,4]]", 0},
        {"[['1','2','3','4']]", 0},
        {"[[1,2,3,4]]; import os", 0},
        {"__import__('os').system('true')", 0},
        {"[[1]*4]", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int boxes = parse_list(cases[i].list, 100, 100);
        if (boxes != cases[i].boxes)
            fail_msg("%s gave %d boxes", cases[i].list, boxes);
    }
}

static void boxes_lie_in_the_picture(void **state) {
    (void)state;
    assert_int_equal(parse_list("[[-5, 1200, 1e300, -1e300], [1e400, 5, -1e400, 6]]", 1998, 999),
                     2);
    assert_box(&regions[0], 0, 0, 1998, 999);
    assert_box(&regions[1], 0, 5, 1998, 6);
    assert_int_equal(parse_list("[[1200, 1200, 1300, 1300]]", 20, 10), 1);
    assert_box(&regions[0], 20, 10, 20, 10);

    assert_int_equal(parse_list("[[5, 60, 4, 50]]", 999, 999), 1); /* corners the other way round */
    assert_box(&regions[0], 4, 50, 5, 60);

    assert_int_equal(parse_list("[[-0.9, 0.9, 998.999, 999]]", 999, 999), 1);
    assert_box(&regions[0], 0, 0, 998, 999);

    /* 63 * 333 / 999 is 21, but 63 / 999 * 333 is a little less. */
    assert_int_equal(parse_list("[[0, 63, 999, 63]]", 333, 333), 1);
    assert_box(&regions[0], 0, 20, 333, 20);

    assert_int_equal(parse_list("[[123456789012345678901234567890, 2, 3, 4]]", 10, 10), 1);
    /* Longer than a model would write a number. */
    char list[512];
    snprintf(list, sizeof list, "[[%0300d, 2, 3, 4]]", 0);
    assert_int_equal(parse_list(list, 10, 10), 0);
}

/* Deep enough to end a program that follows every bracket. */
static void deep_nesting_is_refused(void **state) {
    (void)state;
    size_t depth = 4 << 20, head = strlen("<|ref|>x<|/ref|><|det|>");
    char *page = malloc(depth + 64);
    for (const char *brackets = "[("; *brackets; brackets++) {
        strcpy(page, "<|ref|>x<|/ref|><|det|>");
        memset(page + head, *brackets, depth);
        strcpy(page + head + depth, "<|/det|>");
        assert_int_equal(parse(page, 10, 10), 1);
        assert_false(regions[0].has_box);
    }
    free(page);
}

static void small_arrays_are_not_overrun(void **state) {
    (void)state;
    const char *page = "<|ref|>a<|/ref|><|det|>[[1,2,3,4],[5,6,7,8]]<|/det|>"
                       "<|ref|>b<|/ref|><|det|>[[1,2,3,4]]<|/det|>";
    for (int capacity = 0; capacity < 3; capacity++) {
        memset(regions, 0x55, sizeof regions);
        assert_int_equal(grounding_parse(text_of(page), 10, 10, regions, capacity), 3);
        assert_int_equal(((unsigned char *)&regions[capacity])[0], 0x55);
    }
    assert_text(regions[0].label, "a");
    assert_text(regions[1].label, "a");
}

/* ---- markdown ---- */

static void images_are_numbered_by_markup(void **state) {
    (void)state;
    assert_markdown("<|ref|>image<|/ref|><|det|>[[1,2,3,4],[5,6,7,8]]<|/det|>a"
                    "<|ref|>text<|/ref|><|det|>[[1,2,3,4]]<|/det|>b"
                    "<|ref|>image<|/ref|><|det|>not a list<|/det|>c",
                    "![](images/0.jpg)\nab![](images/1.jpg)\nc");
    assert_markdown("<|ref|>image<|/ref|><|det|><|/det|>", "![](images/0.jpg)\n");
    assert_markdown("<|ref|>images<|/ref|><|det|><|/det|>x", "x");
}

static void commands_change_only_beside_markup(void **state) {
    (void)state;
    assert_markdown("a \\coloneqq b", "a \\coloneqq b");
    assert_markdown("<|ref|>image<|/ref|><|det|>[]<|/det|>\\coloneqq",
                    "![](images/0.jpg)\n\\coloneqq");
    assert_markdown("<|ref|>text<|/ref|><|det|>[]<|/det|>\\coloneqq\\coloneqq \\eqqcolon",
                    ":=:= =:");
}

static void ends_are_stripped_once(void **state) {
    (void)state;
    assert_markdown(" \n\u3000text \t<｜end▁of▁sentence｜>", "text");
    assert_markdown("<｜end▁of▁sentence｜><｜end▁of▁sentence｜>", "<｜end▁of▁sentence｜>");
    /* The end mark goes first, and white space behind it keeps it. */
    assert_markdown("text<｜end▁of▁sentence｜> ", "text<｜end▁of▁sentence｜>");
    /* What markup leaves behind stays. */
    assert_markdown("<|ref|>text<|/ref|><|det|>[]<|/det|>\na", "\na");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(goldens_are_equal),
        cmocka_unit_test(content_follows_its_markup),
        cmocka_unit_test(blank_pages_have_no_regions),
        cmocka_unit_test(broken_markup_is_text),
        cmocka_unit_test(lists_are_read_as_python_does),
        cmocka_unit_test(boxes_lie_in_the_picture),
        cmocka_unit_test(deep_nesting_is_refused),
        cmocka_unit_test(small_arrays_are_not_overrun),
        cmocka_unit_test(images_are_numbered_by_markup),
        cmocka_unit_test(commands_change_only_beside_markup),
        cmocka_unit_test(ends_are_stripped_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
