/* jpeg.c: colour spaces, scans, damage. */
#include "pictures.h"

#include <stdlib.h>
#include <string.h>

static JpegRecipe recipe_of(int width, int height, int components, J_COLOR_SPACE space) {
    return (JpegRecipe){.width = width,
                        .height = height,
                        .components = components,
                        .given = space,
                        .stored = space};
}

/* Blocks of 8 x 8 equal samples: at quality 100 they pass through a JPEG unchanged. */
static uint8_t *flat_blocks(int width, int height, int channels) {
    uint8_t *samples = noise(3, width, height, channels);
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++)
            memmove(samples + (y * width + x) * channels,
                    samples + ((y & ~7) * width + (x & ~7)) * channels, (size_t)channels);
    return samples;
}

static int clip(int value) {
    return value < 0 ? 0 : value > 255 ? 255 : value;
}

/* The conversions as their definitions have them; JFIF's with its constants times 65536. */
static void expected_rgb(const JpegRecipe *recipe, const uint8_t *s, uint8_t *rgb) {
    int cb = s[1] - 128, cr = s[2] - 128;
    switch (recipe->stored) {
    case JCS_GRAYSCALE:
        rgb[0] = rgb[1] = rgb[2] = s[0];
        break;
    case JCS_YCbCr:
        rgb[0] = (uint8_t)clip(s[0] + ((91881 * cr + 32768) >> 16));
        rgb[1] = (uint8_t)clip(s[0] + ((-22554 * cb - 46802 * cr + 32768) >> 16));
        rgb[2] = (uint8_t)clip(s[0] + ((116130 * cb + 32768) >> 16));
        break;
    case JCS_RGB:
        memcpy(rgb, s, 3);
        break;
    default:
        for (int i = 0; i < 3; i++) {
            int ink = 255 - s[i], white = s[3], t = ink * white + 128;
            rgb[i] = (uint8_t)(white - ((t + (t >> 8)) >> 8));
        }
    }
}

static void check_colors(JpegRecipe recipe) {
    size_t pixels = (size_t)(recipe.width * recipe.height);
    size_t components = (size_t)recipe.components;
    uint8_t *samples = flat_blocks(recipe.width, recipe.height, 4);
    if (recipe.stored == JCS_YCCK) /* its YCC must be grey to pass unchanged */
        for (size_t i = 0; i < pixels; i++)
            samples[4 * i + 1] = samples[4 * i + 2] = samples[4 * i];
    uint8_t *rgb = malloc(pixels * 3), *packed = malloc(pixels * components);
    for (size_t i = 0; i < pixels; i++) {
        expected_rgb(&recipe, samples + 4 * i, rgb + 3 * i);
        memcpy(packed + i * components, samples + 4 * i, components);
    }
    OcrBytes jpeg = make_jpeg(&recipe, packed);
    assert_picture(jpeg, recipe.width, recipe.height, rgb);
    free_bytes(jpeg);
    free(samples);
    free(packed);
    free(rgb);
}

static void test_color_spaces(void **state) {
    (void)state;
    const int sizes[][2] = {{64, 48}, {61, 45}, {8, 8}, {1, 1}, {3, 70}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        int width = sizes[i][0], height = sizes[i][1];
        check_colors(recipe_of(width, height, 1, JCS_GRAYSCALE));
        check_colors(recipe_of(width, height, 3, JCS_YCbCr));
        JpegRecipe recipe = recipe_of(width, height, 3, JCS_RGB);
        recipe.adobe = true; /* says that the components are RGB */
        check_colors(recipe);
        recipe = recipe_of(width, height, 4, JCS_CMYK);
        check_colors(recipe); /* inverted without the marker as with it */
        recipe.adobe = true;
        check_colors(recipe);
        recipe.stored = JCS_YCCK;
        check_colors(recipe);
    }
}

/* Pictures made of the same coefficients, however they are sent, have the same pixels. */
static void test_ways_of_coding(void **state) {
    (void)state;
    JpegRecipe recipe = recipe_of(123, 77, 3, JCS_RGB);
    recipe.stored = JCS_YCbCr;
    uint8_t *samples = noise(4, 123, 77, 3);
    for (recipe.luma_sampling = 1; recipe.luma_sampling <= 2; recipe.luma_sampling++) {
        recipe.progressive = false;
        recipe.restart = 0;
        OcrError err;
        RgbImage picture;
        OcrBytes sequential = make_jpeg(&recipe, samples);
        assert_ok(read_picture(sequential, NULL, &picture, &err), &err);

        recipe.restart = 5;
        OcrBytes restarting = make_jpeg(&recipe, samples);
        recipe.restart = 0;
        recipe.progressive = true;
        OcrBytes progressive = make_jpeg(&recipe, samples);
        assert_int_not_equal(restarting.size, sequential.size);
        assert_int_not_equal(progressive.size, sequential.size);
        assert_picture(restarting, 123, 77, picture.pixels);
        assert_picture(progressive, 123, 77, picture.pixels);
        free(picture.pixels);
        free_bytes(sequential);
        free_bytes(restarting);
        free_bytes(progressive);
    }
    free(samples);
}

static OcrBytes color_jpeg(int width, int height, bool progressive) {
    JpegRecipe recipe = recipe_of(width, height, 3, JCS_RGB);
    recipe.stored = JCS_YCbCr;
    recipe.luma_sampling = 2;
    recipe.progressive = progressive;
    uint8_t *samples = noise(6, width, height, 3);
    OcrBytes jpeg = make_jpeg(&recipe, samples);
    free(samples);
    return jpeg;
}

static void test_truncation(void **state) {
    (void)state;
    OcrBytes grey = make_grey_jpeg(40, 30);
    assert_truncations_fail(grey, (int)grey.size);
    free_bytes(grey);
    for (int progressive = 0; progressive < 2; progressive++) {
        OcrBytes color = color_jpeg(100, 90, progressive);
        assert_truncations_fail(color, 700);
        free_bytes(color);
    }
}

static OcrBytes joined(const void *a, size_t a_size, const void *b, size_t b_size) {
    uint8_t *data = malloc(a_size + b_size);
    memcpy(data, a, a_size);
    memcpy(data + a_size, b, b_size);
    return (OcrBytes){data, a_size + b_size};
}

/* Offset of the n-th (from 0) occurrence of this marker. */
static size_t find_marker(OcrBytes jpeg, int marker, int n) {
    for (size_t i = 2; i + 1 < jpeg.size; i++)
        if (jpeg.data[i] == 0xFF && jpeg.data[i + 1] == marker && n-- == 0)
            return i;
    fail_msg("no marker %02x", marker);
    return 0;
}

/* The end mark is there, but something before it is not, or is not what it was. */
static void test_data_missing(void **state) {
    (void)state;
    OcrBytes jpeg = make_grey_jpeg(120, 100);
    OcrBytes harmed = joined(jpeg.data, jpeg.size / 2, "\xFF\xD9", 2);
    assert_unreadable(harmed, OCR_IMAGE_DAMAGED, "premature end");
    free_bytes(harmed);

    /* Ones only: no code begins with so many. Far from the end the library does not look. */
    harmed = joined(jpeg.data, jpeg.size, "", 0);
    for (size_t i = harmed.size - 300; i + 20 < harmed.size; i += 2)
        memcpy((uint8_t *)harmed.data + i, "\xFF", 2);
    assert_unreadable(harmed, OCR_IMAGE_DAMAGED, "bad Huffman code");
    free_bytes(harmed);

    uint8_t filler[1000] = {0}; /* where the end mark should be */
    harmed = joined(jpeg.data, jpeg.size - 2, filler, sizeof filler);
    assert_unreadable(harmed, OCR_IMAGE_DAMAGED, "Premature end");
    free_bytes(harmed);
    free_bytes(jpeg);

    JpegRecipe recipe = recipe_of(120, 100, 1, JCS_GRAYSCALE);
    recipe.restart = 10;
    uint8_t *samples = noise(5, 120, 100, 1);
    jpeg = make_jpeg(&recipe, samples);
    size_t lost = find_marker(jpeg, 0xD2, 0), next = find_marker(jpeg, 0xD3, 0);
    harmed = joined(jpeg.data, lost, jpeg.data + next, jpeg.size - next);
    assert_unreadable(harmed, OCR_IMAGE_DAMAGED, "instead of RST2");
    free_bytes(harmed);
    free_bytes(jpeg);
    free(samples);
}

static void test_bit_flips(void **state) {
    (void)state;
    OcrBytes grey = make_grey_jpeg(24, 20);
    survive_bit_flips(grey, 7, 3000);
    free_bytes(grey);
    for (int progressive = 0; progressive < 2; progressive++) {
        OcrBytes color = color_jpeg(33, 40, progressive);
        survive_bit_flips(color, 8, 2000);
        free_bytes(color);
    }
}

/* Oddities that leave the picture whole change nothing. */
static void test_harmless(void **state) {
    (void)state;
    OcrBytes jpeg = make_grey_jpeg(40, 30);
    OcrError err;
    RgbImage picture;
    assert_ok(read_picture(jpeg, NULL, &picture, &err), &err);

    OcrBytes odd[5];
    odd[0] = joined(jpeg.data, jpeg.size, "behind the end", 14);
    odd[1] = with_segment(jpeg, 0xFE, "a comment", 9);
    odd[2] = with_segment(jpeg, 0xE5, "unknown", 7);
    odd[3] = with_segment(jpeg, 0xE0, "JFIF\0\x09\x09\0\0\1\0\1\0\0", 14);
    odd[4] = with_segment(jpeg, 0xE1, "Exif\0\0broken", 12);
    for (int i = 0; i < 5; i++) {
        assert_picture(odd[i], 40, 30, picture.pixels);
        free_bytes(odd[i]);
    }
    /* Bytes between two segments, fill bytes, and both where a length would be taken for one. */
    OcrBytes start = joined("\xFF\xD8\xFF\xFE\0\x02junk\xFF\0\xFF\xFF\xFF", 15, "", 0);
    odd[0] = joined(start.data, start.size, jpeg.data + 2, jpeg.size - 2);
    assert_picture(odd[0], 40, 30, picture.pixels);
    free_bytes(odd[0]);
    free_bytes(start);
    free(picture.pixels);
    free_bytes(jpeg);
}

static uint8_t *frame_header(OcrBytes jpeg) {
    return (uint8_t *)jpeg.data + find_marker(jpeg, 0xC0, 0);
}

/* marker 2, length 2, precision 1, height 2, width 2, components 1 */
static void test_unsupported(void **state) {
    (void)state;
    OcrBytes jpeg = make_grey_jpeg(16, 16);
    uint8_t *frame = frame_header(jpeg);
    frame[1] = 0xC3;
    assert_unreadable(jpeg, OCR_IMAGE_UNSUPPORTED, "SOF type 0xc3");
    frame[1] = 0xC0;
    frame[4] = 12;
    assert_unreadable(jpeg, OCR_IMAGE_UNSUPPORTED, "precision 12");
    free_bytes(jpeg);

    JpegRecipe recipe = recipe_of(16, 16, 2, JCS_UNKNOWN);
    uint8_t *samples = noise(9, 16, 16, 2);
    jpeg = make_jpeg(&recipe, samples);
    assert_unreadable(jpeg, OCR_IMAGE_UNSUPPORTED, "2 colour components");
    free(samples);
    free_bytes(jpeg);
}

static void test_sizes(void **state) {
    (void)state;
    OcrBytes jpeg = make_grey_jpeg(16, 16);
    uint8_t *size = frame_header(jpeg) + 5;
    memcpy(size, "\0\0\0\x10", 4);
    assert_unreadable(jpeg, OCR_IMAGE_EMPTY, "16 x 0");
    memcpy(size, "\0\x10\0\0", 4);
    assert_unreadable(jpeg, OCR_IMAGE_EMPTY, "0 x 16");
    memcpy(size, "\xFF\xFF\xFF\xFF", 4);
    assert_unreadable(jpeg, OCR_IMAGE_TOO_LARGE, "65535 x 65535");
    memcpy(size, "\0\1\xFF\xFF", 4); /* one more than the library takes */
    assert_unreadable(jpeg, OCR_IMAGE_TOO_LARGE, "65500");
    memcpy(size, "\0\x20\0\x10", 4); /* twice the rows that are there */
    assert_unreadable(jpeg, OCR_IMAGE_DAMAGED, "damaged or cut short");
    free_bytes(jpeg);
}

static void assert_no_header(const char *bytes, size_t size) {
    OcrBytes file = joined(bytes, size, "", 0);
    assert_unreadable(file, OCR_IMAGE_DAMAGED, "no frame header");
    free_bytes(file);
}

static void test_headers(void **state) {
    (void)state;
    assert_no_header("\xFF\xD8\xFF", 3);
    assert_no_header("\xFF\xD8\xFF\xFF\xFF\xFF", 6);
    assert_no_header("\xFF\xD8\xFF\xD9", 4);
    assert_no_header("\xFF\xD8\xFF\xDA\0\x02", 6);
    assert_no_header("\xFF\xD8\xFF\xC0", 4);
    assert_no_header("\xFF\xD8\xFF\xC0\0", 5);
    assert_no_header("\xFF\xD8\xFF\xC0\0\0", 6); /* a length below its own size */
    assert_no_header("\xFF\xD8\xFF\xC0\0\1", 6);
    assert_no_header("\xFF\xD8\xFF\xC0\0\x07\x08\0\1\0\1", 11);   /* too short for its fields */
    assert_no_header("\xFF\xD8\xFF\xC0\0\x0B\x08\0\1\0\1", 11);   /* longer than the file */
    assert_no_header("\xFF\xD8\xFF\xC4\0\x08\x08\0\1\0\1\1", 12); /* DHT is no frame */
    assert_no_header("\xFF\xD8\xFF\xE1\xFF\xFF"
                     "Exif\0\0MM\0*",
                     16);

    OcrBytes jpeg = make_grey_jpeg(16, 16); /* two frames: the library refuses the second */
    OcrBytes twice = with_segment(jpeg, 0xC0, "\x08\0\x20\0\x30\1\1\x11\0", 9);
    OcrImageInfo info;
    OcrError err;
    assert_ok(image_probe(twice, 0, 10000, &info, &err), &err);
    assert_int_equal(info.width, 48);
    assert_int_equal(info.height, 32);
    assert_unreadable(twice, OCR_IMAGE_DAMAGED, "two SOF");
    free_bytes(twice);
    free_bytes(jpeg);

    uint8_t *markers = malloc(3 + 2 * 100000);
    memcpy(markers, "\xFF\xD8", 2);
    for (int i = 0; i < 100000; i++)
        memcpy(markers + 2 + 2 * i, "\xFF\xD0", 2);
    assert_unreadable((OcrBytes){markers, 2 + 2 * 100000}, OCR_IMAGE_DAMAGED, "no frame header");
    free(markers);
}

/* A caller that kept the wrong file's header is told so before anything is written. */
static void test_other_header(void **state) {
    (void)state;
    OcrBytes small = make_grey_jpeg(16, 16), large = make_grey_jpeg(64, 16);
    OcrImageInfo info;
    OcrError err;
    RgbImage picture;
    assert_ok(image_probe(small, 0, 1000, &info, &err), &err);
    uint8_t *buffer = malloc(image_decode_bytes(&info));
    assert_fails(image_decode(large, &info, NULL, buffer, &picture, &err), &err, OCR_IMAGE_DAMAGED,
                 "contradict");
    free(buffer);
    free_bytes(small);
    free_bytes(large);
}

/* Only a file of several scans has all its coefficients in memory. */
static void test_library_bytes(void **state) {
    (void)state;
    for (int components = 1; components <= 4; components += components) {
        JpegRecipe recipe =
            recipe_of(50, 40, components, components == 1 ? JCS_GRAYSCALE : JCS_UNKNOWN);
        uint8_t *samples = noise(9, 50, 40, components);
        for (int progressive = 0; progressive < 2; progressive++) {
            recipe.progressive = progressive;
            OcrBytes jpeg = make_jpeg(&recipe, samples);
            OcrImageInfo info;
            OcrError err;
            assert_ok(image_probe(jpeg, 0, 2000, &info, &err), &err);
            assert_int_equal(info.library_bytes, progressive ? 50 * 40 * 2 * components : 0);
            free_bytes(jpeg);
        }
        free(samples);
    }
}

/* A sound progressive file whose coefficients come bit by bit, in a scan each. */
static void test_too_many_scans(void **state) {
    (void)state;
    jpeg_scan_info scans[1 + 63 * 2];
    int count = 0;
    scans[count++] = (jpeg_scan_info){1, {0}, 0, 0, 0, 0};
    for (int i = 1; i < 64; i++)
        scans[count++] = (jpeg_scan_info){1, {0}, i, i, 0, 1};
    for (int i = 1; i < 64; i++)
        scans[count++] = (jpeg_scan_info){1, {0}, i, i, 1, 0};
    JpegRecipe recipe = recipe_of(32, 32, 1, JCS_GRAYSCALE);
    recipe.scans = scans;
    uint8_t *samples = flat_blocks(32, 32, 1);

    recipe.scan_count = count;
    OcrBytes bomb = make_jpeg(&recipe, samples);
    assert_unreadable(bomb, OCR_IMAGE_UNSUPPORTED, "more than 100 scans");
    free_bytes(bomb);

    recipe.scan_count = 100;
    OcrBytes sound = make_jpeg(&recipe, samples);
    uint8_t *rgb = malloc(32 * 32 * 3);
    for (int i = 0; i < 32 * 32; i++)
        memset(rgb + 3 * i, samples[i], 3);
    assert_picture(sound, 32, 32, rgb);
    free(rgb);
    free_bytes(sound);
    free(samples);
}

static void test_interrupts(void **state) {
    (void)state;
    for (int progressive = 0; progressive < 2; progressive++) {
        OcrBytes jpeg = color_jpeg(300, 400, progressive);
        /* once for each row of pixels, and in progressive files for each row of blocks in a scan */
        assert_interruptible(jpeg, progressive ? 400 + 10 * 25 : 400, 60);
        free_bytes(jpeg);
    }
    /* A header of many segments, too, is left between two pieces of the file. */
    OcrBytes jpeg = make_grey_jpeg(8, 8);
    for (int i = 0; i < 20; i++) {
        uint8_t *filler = calloc(1, 60000);
        OcrBytes longer = with_segment(jpeg, 0xE7, filler, 60000);
        free(filler);
        free_bytes(jpeg);
        jpeg = longer;
    }
    assert_interruptible(jpeg, 20 + 8 - 2, 100);
    free_bytes(jpeg);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_color_spaces),  cmocka_unit_test(test_ways_of_coding),
        cmocka_unit_test(test_truncation),    cmocka_unit_test(test_data_missing),
        cmocka_unit_test(test_bit_flips),     cmocka_unit_test(test_harmless),
        cmocka_unit_test(test_unsupported),   cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_headers),       cmocka_unit_test(test_other_header),
        cmocka_unit_test(test_library_bytes), cmocka_unit_test(test_too_many_scans),
        cmocka_unit_test(test_interrupts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
