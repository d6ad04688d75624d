/* Layout markup: blocks, boxes and markdown. */
#include "support.h"

#include "decoder/grounding.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_BLOCKS 64
#define MAX_BOXES 256

static GroundingBlock blocks[MAX_BLOCKS];
static GroundingBox boxes[MAX_BOXES];

static Text text_of(const char *string) {
    return (Text){string, strlen(string)};
}

static Grounding parse(const char *string, int width, int height) {
    Grounding asked = {0};
    Grounding out = {
        .blocks = blocks, .block_capacity = MAX_BLOCKS, .boxes = boxes, .box_capacity = MAX_BOXES};
    grounding_parse(text_of(string), width, height, &asked);
    grounding_parse(text_of(string), width, height, &out);
    assert_int_equal(asked.block_count, out.block_count);
    assert_int_equal(asked.box_count, out.box_count);
    assert_in_range(out.block_count, 0, MAX_BLOCKS);
    assert_in_range(out.box_count, 0, MAX_BOXES);
    return out;
}

static void assert_text(Text text, const char *expected) {
    assert_int_equal(text.length, strlen(expected));
    assert_memory_equal(text.bytes, expected, text.length);
}

static void assert_markdown(const char *string, const char *expected) {
    size_t length = strlen(string);
    char *out = malloc(length + 1); /* ASan sees a byte too many */
    assert_text((Text){out, grounding_markdown((Text){string, length}, out)}, expected);
    free(out);
}

/* ---- goldens ---- */

static void assert_boxes(const GroundingBlock *block, const json_t *expected) {
    const json_t *model = json_object_get(expected, "box_999");
    const json_t *pixels = json_object_get(expected, "box_px");
    assert_text(block->label, json_string_value(json_object_get(expected, "label")));
    assert_int_equal(block->box_count, json_array_size(model));
    for (int i = 0; i < block->box_count; i++) {
        const GroundingBox *box = &boxes[block->first_box + i];
        for (size_t k = 0; k < 4; k++) {
            assert_true(box->model[k] ==
                        json_number_value(json_array_get(json_array_get(model, (size_t)i), k)));
            assert_int_equal(box->pixels[k], json_integer_value(json_array_get(
                                                 json_array_get(pixels, (size_t)i), k)));
        }
    }
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
        Grounding found = parse(string, (int)json_integer_value(json_object_get(one, "width")),
                                (int)json_integer_value(json_object_get(one, "height")));
        size_t located = 0;
        for (int b = 0; b < found.block_count; b++)
            if (blocks[b].located)
                assert_boxes(&blocks[b], json_array_get(expected, located++));
        assert_int_equal(located, json_array_size(expected));
        assert_markdown(string, json_string_value(json_object_get(one, "markdown")));
    }
    json_decref(cases);
}

/* ---- blocks ---- */

static void content_follows_its_markup(void **state) {
    (void)state;
    const char *page = "  before\n<|ref|>table<|/ref|><|det|>[[1,2,3,4]]<|/det|>\n"
                       "<|ref|>table_caption<|/ref|><|det|>[[5,6,7,8], [9,10,11,12]]<|/det|>\n"
                       "<center>Caption</center>  \n\n"
                       "<|ref|>Größe<|/ref|><|det|>[[1, 2<|/det|>\n\u3000last words \n\n"
                       "<｜end▁of▁sentence｜>";
    Grounding found = parse(page, 999, 999);
    assert_int_equal(found.block_count, 3);
    assert_int_equal(found.box_count, 3);

    assert_text(blocks[0].markup, "<|ref|>table<|/ref|><|det|>[[1,2,3,4]]<|/det|>");
    assert_ptr_equal(blocks[0].markup.bytes, strstr(page, "<|ref|>"));
    assert_text(blocks[0].label, "table");
    assert_text(blocks[0].content, "");
    assert_text(blocks[1].label, "table_caption");
    assert_text(blocks[1].content, "<center>Caption</center>");
    assert_true(blocks[1].located);
    assert_int_equal(blocks[1].first_box, 1);
    assert_int_equal(blocks[1].box_count, 2);
    assert_text(blocks[2].label, "Größe");
    assert_text(blocks[2].content, "last words");
    assert_false(blocks[2].located);
    assert_int_equal(blocks[2].box_count, 0);
}

static void broken_markup_is_text(void **state) {
    (void)state;
    static const char *const texts[] = {
        "",
        "plain",
        "<|ref|>",
        "<|ref|>a<|/ref|>",
        "<|ref|>a<|/ref|><|det|>[[1,2,3,4]]",
        "<|ref|>a<|/ref|> <|det|>[[1,2,3,4]]<|/det|>",
        "<|/ref|><|det|>[[1,2,3,4]]<|/det|>",
        "<|ref|a<|/ref|><|det|>[[1,2,3,4]]<|/det|>",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        Grounding found = parse(texts[i], 10, 10);
        assert_int_equal(found.block_count, 0);
        assert_markdown(texts[i], texts[i]);
    }
    /* The shortest label that has a list directly behind it. */
    Grounding found = parse("<|ref|>a<|/ref|>b<|ref|>c<|/ref|><|det|>[]<|/det|>d<|/det|>", 10, 10);
    assert_int_equal(found.block_count, 1);
    assert_text(blocks[0].label, "a<|/ref|>b<|ref|>c");
    assert_text(blocks[0].content, "d<|/det|>");
    assert_true(blocks[0].located);
}

/* ---- lists of boxes ---- */

static const GroundingBlock *parse_list(const char *list, int width, int height) {
    char page[4096];
    snprintf(page, sizeof page, "<|ref|>x<|/ref|><|det|>%s<|/det|>", list);
    assert_int_equal(parse(page, width, height).block_count, 1);
    return &blocks[0];
}

static void lists_are_read_as_python_does(void **state) {
    (void)state;
    static const struct {
        const char *list;
        int boxes; /* -1: not a list of boxes */
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
        {"", -1},
        {" ", -1},
        {",", -1},
        {"1", -1},
        {"[1,2,3,4]", -1},
        {"(1,2,3,4)", -1},
        {"((1,2,3,4))", -1},
        {"[[]]", -1},
        {"[[1,2,3]]", -1},
        {"[[1,2,3,4],[]]", -1},
        {"[[1,2,3,4],[1,2,3]]", -1},
        {"[[1,2,3,4],5]", -1},
        {"[[[1,2,3,4]]]", -1},
        {"[[1,2,3,4]", -1},
        {"[[1,2,3,4]]]", -1},
        {"[[1,2,3,4)]", -1},
        {"[[1,2,3,4]] x", -1},
        {"[[1 2 3 4]]", -1},
        {"[[1,,2,3,4]]", -1},
        {"[,]", -1},
        {"[[007,2,3,4]]", -1},
        {"[[1__0,2,3,4]]", -1},
        {"[[1_,2,3,4]]", -1},
        {"[[_1,2,3,4]]", -1},
        {"[[--1,2,3,4]]", -1},
        {"[[1e,2,3,4]]", -1},
        {"[[.,2,3,4]]", -1},
        {"[[1.2.3,2,3,4]]", -1},
        {"[[nan,inf,3,4]]", -1},
        {"[['1','2','3','4']]", -1},
        {"[[1,2,3,4]]; import os", -1},
        {"__import__('os').system('true')", -1},
        {"[[1]*4]", -1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const GroundingBlock *block = parse_list(cases[i].list, 100, 100);
        if (block->located != (cases[i].boxes >= 0) ||
            block->box_count != (cases[i].boxes >= 0 ? cases[i].boxes : 0))
            fail_msg("%s gave %d boxes, located %d", cases[i].list, block->box_count,
                     block->located);
    }
}

static void coordinates_of_any_size_are_safe(void **state) {
    (void)state;
    assert_true(parse_list("[[-5, 1200, 1e300, -1e300]]", 1998, 999)->located);
    assert_int_equal(boxes[0].pixels[0], -10);
    assert_int_equal(boxes[0].pixels[1], 1200);
    assert_int_equal(boxes[0].pixels[2], INT_MAX);
    assert_int_equal(boxes[0].pixels[3], INT_MIN);
    assert_true(boxes[0].model[2] == 1e300);

    assert_true(parse_list("[[998.999, 0.9, -0.9, 999]]", 999, 999)->located);
    assert_int_equal(boxes[0].pixels[0], 998); /* towards zero */
    assert_int_equal(boxes[0].pixels[1], 0);
    assert_int_equal(boxes[0].pixels[2], 0);
    assert_int_equal(boxes[0].pixels[3], 999);

    /* 63 * 333 / 999 is 21, but 63 / 999 * 333 is a little less. */
    assert_true(parse_list("[[0, 63, 999, 63]]", 333, 333)->located);
    assert_int_equal(boxes[0].pixels[1], 20);

    assert_false(parse_list("[[1e400, 2, 3, 4]]", 10, 10)->located);
    assert_false(parse_list("[[1.7e308, 2, 3, 4]]", 100000, 10)->located); /* times width */
    assert_true(parse_list("[[123456789012345678901234567890, 2, 3, 4]]", 10, 10)->located);
    /* Longer than a model would write a number. */
    char list[512];
    snprintf(list, sizeof list, "[[%0300d, 2, 3, 4]]", 0);
    assert_false(parse_list(list, 10, 10)->located);
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
        assert_int_equal(parse(page, 10, 10).block_count, 1);
        assert_false(blocks[0].located);
    }
    free(page);
}

static void small_arrays_are_not_overrun(void **state) {
    (void)state;
    const char *page = "<|ref|>a<|/ref|><|det|>[[1,2,3,4],[5,6,7,8]]<|/det|>"
                       "<|ref|>b<|/ref|><|det|>[[1,2,3,4]]<|/det|>";
    Grounding out = {.blocks = blocks, .block_capacity = 1, .boxes = boxes, .box_capacity = 1};
    memset(blocks, 0x55, sizeof blocks);
    memset(boxes, 0x55, sizeof boxes);
    grounding_parse(text_of(page), 10, 10, &out);
    assert_int_equal(out.block_count, 2);
    assert_int_equal(out.box_count, 3);
    assert_text(blocks[0].label, "a");
    assert_int_equal(blocks[0].box_count, 2);
    assert_int_equal(((unsigned char *)&blocks[1])[0], 0x55);
    assert_int_equal(((unsigned char *)&boxes[1])[0], 0x55);
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
        cmocka_unit_test(broken_markup_is_text),
        cmocka_unit_test(lists_are_read_as_python_does),
        cmocka_unit_test(coordinates_of_any_size_are_safe),
        cmocka_unit_test(deep_nesting_is_refused),
        cmocka_unit_test(small_arrays_are_not_overrun),
        cmocka_unit_test(images_are_numbered_by_markup),
        cmocka_unit_test(commands_change_only_beside_markup),
        cmocka_unit_test(ends_are_stripped_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
