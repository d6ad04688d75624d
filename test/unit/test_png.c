/* png.c: colour types, depths, interlacing, transparency, damage. */
#include "pictures.h"

#include <stdlib.h>
#include <string.h>

#include <png.h>

/* What a pixel of these samples looks like: alpha dropped, the high byte of 16 bits. */
static void expected_rgb(const PngRecipe *recipe, const uint16_t *s, uint8_t *rgb) {
    if (recipe->color_type == PNG_COLOR_TYPE_PALETTE) {
        memcpy(rgb, test_palette() + 3 * s[0], 3);
        return;
    }
    bool grey = png_channels(recipe->color_type) <= 2;
    for (int i = 0; i < 3; i++) {
        int sample = s[grey ? 0 : i];
        rgb[i] = (uint8_t)(recipe->depth == 16 ? sample >> 8
                                               : sample * 255 / ((1 << recipe->depth) - 1));
    }
}

static uint16_t *random_samples(const PngRecipe *recipe, uint64_t seed) {
    size_t count = (size_t)(recipe->width * recipe->height * png_channels(recipe->color_type));
    uint16_t *samples = malloc(count * sizeof *samples);
    for (size_t i = 0; i < count; i++)
        samples[i] = (uint16_t)(random_next(&seed) & ((1u << recipe->depth) - 1));
    return samples;
}

static void check(const PngRecipe *recipe) {
    int channels = png_channels(recipe->color_type), pixels = recipe->width * recipe->height;
    uint16_t *samples = random_samples(recipe, 1);
    uint8_t *rgb = malloc((size_t)pixels * 3);
    for (int i = 0; i < pixels; i++)
        expected_rgb(recipe, samples + i * channels, rgb + 3 * i);
    OcrBytes png = make_png(recipe, samples);
    assert_picture(png, recipe->width, recipe->height, rgb);
    free_bytes(png);
    free(rgb);
    free(samples);
}

static void test_every_kind(void **state) {
    (void)state;
    const int types[] = {PNG_COLOR_TYPE_GRAY, PNG_COLOR_TYPE_RGB, PNG_COLOR_TYPE_PALETTE,
                         PNG_COLOR_TYPE_GRAY_ALPHA, PNG_COLOR_TYPE_RGB_ALPHA};
    const int sizes[][2] = {{37, 29}, {1, 1}, {2, 5}, {64, 8}};
    int kinds = 0;
    for (int t = 0; t < 5; t++)
        for (int depth = 1; depth <= 16; depth *= 2) {
            bool alpha = types[t] & PNG_COLOR_MASK_ALPHA;
            bool palette = types[t] == PNG_COLOR_TYPE_PALETTE;
            if ((types[t] != PNG_COLOR_TYPE_GRAY && !palette && depth < 8) ||
                (palette && depth > 8))
                continue;
            for (int variant = 0; variant < (alpha ? 2 : 4); variant++) {
                PngRecipe recipe = {.color_type = types[t], .depth = depth};
                recipe.interlaced = variant & 1;
                recipe.transparency = variant & 2;
                for (int i = 0; i < 4; i++) {
                    recipe.width = sizes[i][0];
                    recipe.height = sizes[i][1];
                    check(&recipe);
                }
                kinds++;
            }
        }
    assert_int_equal(kinds, (5 + 2 + 4) * 4 + (2 + 2) * 2);
}

static void test_truncation(void **state) {
    (void)state;
    for (int interlaced = 0; interlaced < 2; interlaced++) {
        OcrBytes png = make_grey_png(30, 20, interlaced);
        assert_truncations_fail(png, (int)png.size);
        free_bytes(png);
        png = make_grey_png(200, 200, interlaced); /* several IDAT chunks */
        assert_truncations_fail(png, 300);
        free_bytes(png);
    }
}

static void test_bit_flips(void **state) {
    (void)state;
    for (int interlaced = 0; interlaced < 2; interlaced++) {
        OcrBytes png = make_grey_png(20, 16, interlaced);
        survive_bit_flips(png, 3, 3000);
        free_bytes(png);
    }
}

/* Past the checksums: flips inside a chunk whose checksum is made right again. */
static void test_mended_flips(void **state) {
    (void)state;
    const char *const types[] = {"IHDR", "gAMA", "PLTE", "tRNS", "IDAT"};
    PngRecipe recipe = {.width = 21,
                        .height = 17,
                        .color_type = PNG_COLOR_TYPE_PALETTE,
                        .depth = 4,
                        .transparency = true};
    uint16_t *samples = random_samples(&recipe, 2);
    uint64_t seed = 11;
    for (int i = 0; i < 5000; i++) {
        recipe.interlaced = i % 2;
        OcrBytes png = make_png(&recipe, samples);
        size_t at = find_chunk(png, types[i % 5], 0);
        size_t size = png_get_uint_32(png.data + at);
        ((uint8_t *)png.data)[at + 8 + random_next(&seed) % size] ^=
            (uint8_t)(1 << random_between(&seed, 0, 7));
        mend_chunk(png, at);
        OcrError err = {OCR_OK, ""};
        RgbImage picture;
        if (read_picture(png, NULL, &picture, &err) == OCR_OK)
            free(picture.pixels);
        else
            assert_true(err.message[0] != '\0');
        free_bytes(png);
    }
    free(samples);
}

static void flip_in_chunk(OcrBytes png, const char *type) {
    ((uint8_t *)png.data)[find_chunk(png, type, 0) + 8] ^= 0x40;
}

/* Wrong checksums matter where the chunk does. */
static void test_checksums(void **state) {
    (void)state;
    PngRecipe recipe = {.width = 12,
                        .height = 10,
                        .color_type = PNG_COLOR_TYPE_PALETTE,
                        .depth = 8,
                        .transparency = true,
                        .exif = make_exif(6, true)};
    uint16_t *samples = random_samples(&recipe, 2);
    const char *const critical[] = {"IHDR", "PLTE", "IDAT", "IEND"};
    for (int i = 0; i < 4; i++) {
        OcrBytes png = make_png(&recipe, samples);
        flip_in_chunk(png, critical[i]);
        assert_unreadable(png, OCR_IMAGE_DAMAGED, "damaged");
        free_bytes(png);
    }
    OcrBytes png = make_png(&recipe, samples);
    OcrImageInfo info;
    OcrError err;
    assert_ok(image_probe(png, 0, 1000, &info, &err), &err);
    assert_int_equal(info.orientation, 6);
    flip_in_chunk(png, "gAMA");
    flip_in_chunk(png, "tRNS");
    ((uint8_t *)png.data)[find_chunk(png, "eXIf", 0) + 8 + 30] = 3; /* its orientation */
    assert_ok(image_probe(png, 0, 1000, &info, &err), &err);
    assert_int_equal(info.orientation, 1);
    uint8_t rgb[12 * 10 * 3];
    for (int i = 0; i < 120; i++)
        expected_rgb(&recipe, samples + i, rgb + 3 * i);
    assert_picture(png, 12, 10, rgb);
    free_bytes(png);
    free_bytes(recipe.exif);
    free(samples);
}

/* The file with a chunk more before chunk `before`. */
static OcrBytes with_chunk(OcrBytes png, const char *before, const char *type, const void *body,
                           size_t size) {
    size_t at = find_chunk(png, before, 0);
    uint8_t *data = malloc(png.size + size + 12);
    memcpy(data, png.data, at);
    png_save_uint_32(data + at, (png_uint_32)size);
    memcpy(data + at + 4, type, 4);
    memcpy(data + at + 8, body, size);
    memcpy(data + at + 12 + size, png.data + at, png.size - at);
    OcrBytes result = {data, png.size + size + 12};
    mend_chunk(result, at);
    return result;
}

static void test_other_chunks(void **state) {
    (void)state;
    OcrBytes png = make_grey_png(20, 10, false);
    OcrError err;
    RgbImage picture;
    assert_ok(read_picture(png, NULL, &picture, &err), &err);

    uint8_t filler[5000] = "name\0"; /* and zeros, which are no profile, text or palette */
    const char *const ignored[] = {"iCCP", "zTXt", "iTXt", "sPLT", "bKGD", "hIST", "vpAg"};
    for (int i = 0; i < 7; i++) {
        OcrBytes more = with_chunk(png, "IDAT", ignored[i], filler, sizeof filler);
        assert_picture(more, 20, 10, picture.pixels);
        free_bytes(more);
        more = with_chunk(png, "IEND", ignored[i], filler, sizeof filler);
        assert_picture(more, 20, 10, picture.pixels);
        free_bytes(more);
    }
    OcrBytes more = with_chunk(png, "IDAT", "NEWS", filler, 10); /* critical and unknown */
    assert_unreadable(more, OCR_IMAGE_DAMAGED, "NEWS");
    free_bytes(more);

    OcrBytes exif = make_exif(8, false); /* behind the picture */
    more = with_chunk(png, "IEND", "eXIf", exif.data, exif.size);
    OcrImageInfo info;
    assert_ok(image_probe(more, 0, 1000, &info, &err), &err);
    assert_int_equal(info.orientation, 8);
    assert_int_equal(info.width, 10);
    assert_int_equal(info.stored_width, 20);
    free_bytes(more);
    free_bytes(exif);
    free(picture.pixels);
    free_bytes(png);
}

/* The picture's header with another size, its checksum right. */
static void resize_header(OcrBytes png, uint32_t width, uint32_t height) {
    size_t at = find_chunk(png, "IHDR", 0);
    png_save_uint_32((uint8_t *)png.data + at + 8, width);
    png_save_uint_32((uint8_t *)png.data + at + 12, height);
    mend_chunk(png, at);
}

static void test_sizes(void **state) {
    (void)state;
    OcrBytes png = make_grey_png(16, 16, false);
    resize_header(png, 100000, 100000);
    assert_unreadable(png, OCR_IMAGE_TOO_LARGE, "100000 x 100000");
    resize_header(png, 0, 0);
    assert_unreadable(png, OCR_IMAGE_EMPTY, "0 x 0");
    resize_header(png, 16, 0);
    assert_unreadable(png, OCR_IMAGE_EMPTY, "16 x 0");
    resize_header(png, 0x80000000, 16);
    assert_unreadable(png, OCR_IMAGE_DAMAGED, "impossible");
    resize_header(png, INT32_MAX, INT32_MAX);
    assert_unreadable(png, OCR_IMAGE_TOO_LARGE, "2147483647 x 2147483647");
    resize_header(png, 1000001, 1);
    assert_unreadable(png, OCR_IMAGE_TOO_LARGE, "at most 1000000");
    resize_header(png, 16, 17); /* a row that is not there */
    assert_unreadable(png, OCR_IMAGE_DAMAGED, "damaged or cut short");
    free_bytes(png);
}

static void test_header_chunk(void **state) {
    (void)state;
    OcrBytes png = make_grey_png(16, 16, false);
    uint8_t *header = (uint8_t *)png.data + 8;
    header[7] = 'S';
    assert_unreadable(png, OCR_IMAGE_DAMAGED, "no sound header");
    header[7] = 'R';
    header[3] = 12;
    assert_unreadable(png, OCR_IMAGE_DAMAGED, "no sound header");
    header[3] = 13;
    header[16] = 3; /* a depth that does not exist */
    mend_chunk(png, 8);
    assert_unreadable(png, OCR_IMAGE_DAMAGED, "damaged or cut short");
    free_bytes(png);
}

static void test_other_header(void **state) {
    (void)state;
    OcrBytes small = make_grey_png(16, 16, false);
    const int others[][2] = {{17, 16}, {16, 17}, {15, 16}, {16, 15}};
    OcrImageInfo info;
    OcrError err;
    RgbImage picture;
    assert_ok(image_probe(small, 0, 1000, &info, &err), &err);
    uint8_t *buffer = malloc(image_decode_bytes(&info));
    for (int i = 0; i < 4; i++) {
        OcrBytes other = make_grey_png(others[i][0], others[i][1], false);
        assert_fails(image_decode(other, &info, NULL, buffer, &picture, &err), &err,
                     OCR_IMAGE_DAMAGED, "damaged");
        free_bytes(other);
    }
    free(buffer);
    free_bytes(small);
}

static void test_interrupts(void **state) {
    (void)state;
    for (int interlaced = 0; interlaced < 2; interlaced++) {
        OcrBytes png = make_grey_png(70, 150, interlaced);
        assert_interruptible(png, 150, 60);
        free_bytes(png);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_kind),   cmocka_unit_test(test_truncation),
        cmocka_unit_test(test_bit_flips),    cmocka_unit_test(test_mended_flips),
        cmocka_unit_test(test_checksums),    cmocka_unit_test(test_other_chunks),
        cmocka_unit_test(test_sizes),        cmocka_unit_test(test_header_chunk),
        cmocka_unit_test(test_other_header), cmocka_unit_test(test_interrupts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
