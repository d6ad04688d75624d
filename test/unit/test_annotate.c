/* Boxes in a picture, and the picture as a JPEG. */
#include "pictures.h"

#include "vision/annotate.h"
#include "vision/face.h"
#include "vision/jpeg_write.h"

#include <png.h>
#include <stdlib.h>
#include <string.h>

#define PAPER 200 /* grey of the pictures */

static OcrText text_of(const char *string) {
    return (OcrText){string, string ? strlen(string) : 0};
}

static OcrRegion region_of(int block, const char *label, OcrBox box) {
    return (OcrRegion){.block = block, .label = text_of(label), .has_box = true, .box = box};
}

static OcrBytes grey_page(int width, int height) {
    size_t count = (size_t)(width * height);
    uint16_t *samples = malloc(count * sizeof *samples);
    for (size_t i = 0; i < count; i++)
        samples[i] = PAPER;
    PngRecipe recipe = {
        .width = width, .height = height, .color_type = PNG_COLOR_TYPE_GRAY, .depth = 8};
    OcrBytes png = make_png(&recipe, samples);
    free(samples);
    return png;
}

static OcrCode annotate(OcrBytes file, const OcrRegion *regions, int count,
                        bool (*interrupted)(void), RgbImage *out, OcrError *err) {
    OcrImageInfo info;
    size_t bytes;
    assert_ok(image_probe(file, 0, 100000000, &info, err), err);
    assert_ok(annotate_bytes(&info, &bytes, err), err);
    OcrAnnotation annotation = {file, &info, regions, count};
    void *block = malloc(bytes);
    OcrBytes jpeg;
    OcrCode code = annotate_picture(&annotation, interrupted, block, &jpeg, err);
    if (!code) {
        assert_ok(read_picture(jpeg, NULL, out, err), err);
        assert_int_equal(out->width, info.width);
        assert_int_equal(out->height, info.height);
    }
    free(block);
    return code;
}

static RgbImage annotated(OcrBytes file, const OcrRegion *regions, int count) {
    RgbImage picture;
    OcrError err;
    assert_ok(annotate(file, regions, count, NULL, &picture, &err), &err);
    return picture;
}

static const uint8_t *pixel(const RgbImage *picture, int x, int y) {
    return picture->pixels + 3 * (y * picture->width + x);
}

/* A JPEG shifts colours, most beside an edge, but none so far as another one. */
static void assert_colour(const RgbImage *picture, int x, int y, uint32_t rgb) {
    const uint8_t *p = pixel(picture, x, y);
    int off = 0;
    for (int i = 0; i < 3; i++)
        off += abs(p[i] - (int)(rgb >> (16 - 8 * i) & 0xFF));
    if (off > 90)
        fail_msg("(%d, %d) is %02x%02x%02x, not %06x", x, y, p[0], p[1], p[2], rgb);
}

#define GREY (PAPER << 16 | PAPER << 8 | PAPER)
#define TEXT_BLUE 0x1F5FBF
#define TABLE_PURPLE 0x7A2FA8

static void frames_are_drawn(void **state) {
    (void)state;
    OcrBytes page = grey_page(1200, 1800); /* lines of 3 pixels */
    OcrRegion regions[] = {
        region_of(1, "text", (OcrBox){100, 200, 700, 600}),
        region_of(2, "table", (OcrBox){300, 900, 1000, 1500}),
        {.block = 3, .label = text_of("text"), .box = {0, 0, 1200, 1800}}, /* has none */
    };
    RgbImage picture = annotated(page, regions, 3);
    for (int i = 0; i < 3; i++) {
        assert_colour(&picture, 400, 200 + i, TEXT_BLUE);
        assert_colour(&picture, 400, 597 + i, TEXT_BLUE);
        assert_colour(&picture, 100 + i, 400, TEXT_BLUE);
        assert_colour(&picture, 697 + i, 400, TEXT_BLUE);
        assert_colour(&picture, 997 + i, 1200, TABLE_PURPLE);
    }
    /* Inside, outside, and where the region without a box would be. */
    const int left_alone[][2] = {{400, 400}, {110, 210}, {690, 590}, {90, 400},
                                 {710, 400}, {400, 610}, {600, 0},   {0, 900}};
    for (size_t i = 0; i < sizeof left_alone / sizeof *left_alone; i++)
        assert_colour(&picture, left_alone[i][0], left_alone[i][1], GREY);
    free(picture.pixels);
    free_bytes(page);
}

/* White pixels between (left, top) and (right, bottom). */
static int ink(const RgbImage *picture, int left, int top, int right, int bottom) {
    int count = 0;
    for (int y = top; y < bottom; y++)
        for (int x = left; x < right; x++) {
            const uint8_t *p = pixel(picture, x, y);
            count += p[0] > 220 && p[1] > 220 && p[2] > 220;
        }
    return count;
}

static void labels_are_written(void **state) {
    (void)state;
    OcrBytes page = grey_page(1200, 1800);
    OcrRegion regions[] = {
        region_of(7, "table", (OcrBox){100, 200, 700, 600}),
        region_of(8, "table", (OcrBox){1150, 0, 1190, 40}), /* no room above, nor to the right */
    };
    RgbImage picture = annotated(page, regions, 2);
    /* "7 table": seven letters of 6 x 9 dots of 3 x 3 pixels, above the frame. */
    int width = 3 * (7 * 6 + 1), height = 3 * 9, dots = 0;
    for (const char *c = "7 table"; *c; c++)
        for (int i = 0; i < FACE_WIDTH * FACE_HEIGHT; i++)
            dots += face_ink(*c, i % FACE_WIDTH, i / FACE_WIDTH);
    assert_colour(&picture, 101, 200 - height + 1, TABLE_PURPLE);
    assert_colour(&picture, 100 + width - 2, 198, TABLE_PURPLE);
    assert_colour(&picture, 100 + width + 3, 198, GREY);
    assert_colour(&picture, 101, 200 - height - 3, GREY);
    assert_in_range(ink(&picture, 100, 200 - height, 100 + width, 200), 5 * dots, 11 * dots);

    /* The crossbar of the 7 is the top of its dots. */
    for (int x = 0; x < FACE_WIDTH; x++)
        assert_colour(&picture, 100 + 3 * (x + 1) + 1, 200 - height + 3 + 1, 0xFFFFFF);

    assert_colour(&picture, 1200 - width + 1, 1, TABLE_PURPLE);
    assert_in_range(ink(&picture, 1200 - width, 0, 1200, height), 5 * dots, 11 * dots);
    free(picture.pixels);
    free_bytes(page);
}

/* Boxes at and beyond every edge, letters of no face, in pictures smaller than a label. */
static void nothing_is_drawn_outside(void **state) {
    (void)state;
    static const int sizes[][2] = {{1, 1}, {3, 70}, {70, 3}, {64, 64}, {2500, 2}};
    static const char *const labels[] = {"", "Größe 表 \n\x7F\xFF\xC3",
                                         "a label that is longer than anything a model should say"};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        int width = sizes[i][0], height = sizes[i][1], count = 0;
        OcrRegion regions[64];
        const int xs[] = {0, width / 2, width}, ys[] = {0, height / 2, height};
        for (int left = 0; left < 3; left++)
            for (int top = 0; top < 3; top++)
                for (int size = 0; size < 3; size++)
                    regions[count++] =
                        region_of(2147483647, labels[size],
                                  (OcrBox){xs[left], ys[top], size ? width : xs[left],
                                           size > 1 ? height : ys[top]});
        OcrBytes page = grey_page(width, height);
        RgbImage picture = annotated(page, regions, count); /* ASan sees the rest */
        free(picture.pixels);
        free_bytes(page);
    }

    /* A box without breadth is a line all the same, even at the right edge. */
    OcrBytes page = grey_page(1000, 1000);
    OcrRegion region = region_of(1, "text", (OcrBox){1000, 500, 1000, 900});
    RgbImage picture = annotated(page, &region, 1);
    assert_colour(&picture, 999, 700, TEXT_BLUE);
    assert_colour(&picture, 990, 700, GREY);
    free(picture.pixels);
    free_bytes(page);
}

/* A label has one colour, whatever it is, and unlike ones have different ones as a rule. */
static void labels_decide_colours(void **state) {
    (void)state;
    static const char *const labels[] = {"total", "total", "date", "name", "sum", "caption"};
    enum { LABELS = sizeof labels / sizeof *labels };
    OcrBytes page = grey_page(2000, 2000);
    OcrRegion regions[LABELS];
    for (int i = 0; i < LABELS; i++)
        regions[i] = region_of(i + 1, labels[i], (OcrBox){100, 100 + 300 * i, 1900, 300 + 300 * i});
    RgbImage picture = annotated(page, regions, LABELS);
    int others = 0;
    for (int i = 1; i < LABELS; i++) {
        const uint8_t *a = pixel(&picture, 1000, 101), *b = pixel(&picture, 1000, 101 + 300 * i);
        bool same = abs(a[0] - b[0]) + abs(a[1] - b[1]) + abs(a[2] - b[2]) < 12;
        if (i == 1)
            assert_true(same);
        others += !same;
    }
    assert_true(others >= 3);
    free(picture.pixels);
    free_bytes(page);
}

static void pictures_are_upright(void **state) {
    (void)state;
    JpegRecipe recipe = {.width = 640,
                         .height = 480,
                         .components = 1,
                         .given = JCS_GRAYSCALE,
                         .stored = JCS_GRAYSCALE};
    uint8_t *samples = malloc(640 * 480);
    memset(samples, PAPER, 640 * 480);
    OcrBytes plain = make_jpeg(&recipe, samples), exif = make_exif(6, true);
    OcrBytes turned = with_exif(plain, exif);
    OcrRegion region = region_of(1, "text", (OcrBox){20, 600, 440, 640});
    RgbImage picture = annotated(turned, &region, 1);
    assert_int_equal(picture.width, 480);
    assert_int_equal(picture.height, 640);
    assert_colour(&picture, 300, 639, TEXT_BLUE);
    assert_colour(&picture, 300, 620, GREY);
    free(picture.pixels);
    free(samples);
    free_bytes(plain);
    free_bytes(exif);
    free_bytes(turned);
}

static void a_picture_without_boxes_stays_as_it_is(void **state) {
    (void)state;
    OcrBytes file = read_file(golden_path("images/page_small.png"));
    RgbImage before, after = annotated(file, NULL, 0);
    OcrError err;
    assert_ok(read_picture(file, NULL, &before, &err), &err);
    double sum = 0;
    size_t count = (size_t)before.width * (size_t)before.height * 3;
    for (size_t i = 0; i < count; i++)
        sum += abs(before.pixels[i] - after.pixels[i]);
    assert_true(sum / (double)count < 4);
    free(before.pixels);
    free(after.pixels);
    free_bytes(file);
}

/* ---- files ---- */

/* Black and white at random is what a JPEG makes largest. */
static void noise_fits_its_buffer(void **state) {
    (void)state;
    static const int sizes[][2] = {{1, 1}, {17, 1}, {1, 33}, {240, 160}, {511, 129}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        int width = sizes[i][0], height = sizes[i][1];
        uint8_t *samples = noise(i, width, height, 3);
        for (int k = 0; k < width * height * 3; k++)
            samples[k] = samples[k] & 1 ? 255 : 0;
        RgbImage picture = {samples, width, height};
        uint8_t *buffer = malloc(jpeg_write_bytes(width, height));
        size_t size;
        OcrError err;
        assert_ok(jpeg_write(&picture, NULL, buffer, &size, &err), &err);
        assert_true(2 * size < jpeg_write_bytes(width, height) + 4096);
        free(buffer);
        free(samples);
    }
}

static void long_pictures_are_refused(void **state) {
    (void)state;
    OcrImageInfo info = {.width = JPEG_MAX_SIDE,
                         .height = 1,
                         .stored_width = 1,
                         .stored_height = JPEG_MAX_SIDE,
                         .orientation = 6};
    OcrError err;
    size_t bytes;
    assert_ok(annotate_bytes(&info, &bytes, &err), &err);
    info.height = JPEG_MAX_SIDE + 1;
    assert_fails(annotate_bytes(&info, &bytes, &err), &err, OCR_IMAGE_UNSUPPORTED, "65500");
}

static int calls, calls_allowed;

static bool count_down(void) {
    return ++calls > calls_allowed;
}

static void interrupts_are_answered(void **state) {
    (void)state;
    OcrBytes page = grey_page(300, 300);
    OcrRegion regions[2] = {region_of(1, "text", (OcrBox){0, 0, 100, 100}),
                            region_of(2, "text", (OcrBox){100, 100, 200, 200})};
    RgbImage picture;
    OcrError err;
    calls = 0;
    calls_allowed = 1000000;
    assert_ok(annotate(page, regions, 2, count_down, &picture, &err), &err);
    free(picture.pixels);
    int all = calls;
    assert_true(all >= 300 + 4 + 300 / 16);
    for (calls_allowed = 0; calls_allowed < all; calls_allowed++) {
        calls = 0;
        assert_fails(annotate(page, regions, 2, count_down, &picture, &err), &err, OCR_INTERRUPTED,
                     "interrupted");
        assert_int_equal(calls, calls_allowed + 1);
    }
    free_bytes(page);
}

/* ---- letters ---- */

static uint64_t ink_of(int character) {
    uint64_t bits = 0;
    for (int i = 0; i < FACE_WIDTH * FACE_HEIGHT; i++)
        bits = bits << 1 | face_ink((char)character, i % FACE_WIDTH, i / FACE_WIDTH);
    return bits;
}

static void letters_differ(void **state) {
    (void)state;
    assert_int_equal(ink_of(' '), 0);
    for (int a = ' '; a <= FACE_UNKNOWN; a++)
        for (int b = ' '; b < a; b++)
            if (ink_of(a) == ink_of(b))
                fail_msg("%c and %c look the same", a, b);
    assert_true(face_ink('L', 0, 0) && face_ink('L', 4, 6) && !face_ink('L', 4, 0));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_are_drawn),
        cmocka_unit_test(labels_are_written),
        cmocka_unit_test(nothing_is_drawn_outside),
        cmocka_unit_test(labels_decide_colours),
        cmocka_unit_test(pictures_are_upright),
        cmocka_unit_test(a_picture_without_boxes_stays_as_it_is),
        cmocka_unit_test(noise_fits_its_buffer),
        cmocka_unit_test(long_pictures_are_refused),
        cmocka_unit_test(interrupts_are_answered),
        cmocka_unit_test(letters_differ),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
