/* TIFF, WebP and PNM files made by other programs: their pixels are Pillow's, and damage is seen.
 */
#include "pictures.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>

/* Calls the function with each file of goldens/formats, and with its pages in sums.json. */
static void each_file(void (*check)(const char *name, OcrBytes file, json_t *pages)) {
    json_t *sums = golden_json("formats/sums.json"), *pages;
    const char *name;
    assert_true(json_object_size(sums) > 30);
    json_object_foreach(sums, name, pages) {
        char path[100];
        snprintf(path, sizeof path, "formats/%s", name);
        OcrBytes file = read_file(golden_path(path));
        check(name, file, pages);
        free_bytes(file);
    }
    json_decref(sums);
}

static void check_pixels(const char *name, OcrBytes file, json_t *pages) {
    OcrError err;
    int count;
    assert_ok(image_count(file, &count, &err), &err);
    assert_int_equal(count, json_array_size(pages));
    for (int i = 0; i < count; i++) {
        int width, height;
        const char *expected;
        char sum[65];
        OcrImageInfo info;
        RgbImage picture;
        json_unpack(json_array_get(pages, (size_t)i), "[i,i,s]", &width, &height, &expected);
        assert_ok(image_probe(file, i, 1000000, &info, &err), &err);
        assert_int_equal(info.page, i);
        assert_int_equal(info.width, width);
        assert_int_equal(info.height, height);
        void *buffer = malloc(image_decode_bytes(&info));
        if (image_decode(file, &info, NULL, buffer, &picture, &err) != OCR_OK)
            fail_msg("%s: %s", name, err.message);
        sha256_hex(picture.pixels, (size_t)width * (size_t)height * 3, sum);
        if (strcmp(sum, expected) != 0)
            fail_msg("%s, page %d: other pixels", name, i);
        free(buffer);
    }
}

static void test_pixels(void **state) {
    (void)state;
    each_file(check_pixels);
}

/* A file cut anywhere is damaged, unless what is missing is no part of its first page. */
static void check_truncation(const char *name, OcrBytes file, json_t *pages) {
    if (json_array_size(pages) == 1 && strcmp(name, "turned8.webp") != 0)
        assert_truncations_fail(file, 400);
}

static void test_truncation(void **state) {
    (void)state;
    each_file(check_truncation);
}

static void check_flips(const char *name, OcrBytes file, json_t *pages) {
    (void)pages;
    bool mostly_samples = strstr(name, ".p") || strstr(name, "raw");
    survive_bit_flips(file, strlen(name), mostly_samples ? 3000 : 300);
}

static void test_bit_flips(void **state) {
    (void)state;
    each_file(check_flips);
}

static void check_interrupts(const char *name, OcrBytes file, json_t *pages) {
    (void)name, (void)pages;
    assert_interruptible(file, 1, 20);
}

static void test_interrupts(void **state) {
    (void)state;
    each_file(check_interrupts);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pixels),
        cmocka_unit_test(test_truncation),
        cmocka_unit_test(test_bit_flips),
        cmocka_unit_test(test_interrupts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
