/* webp.c: pixels, chunks around the picture, damage. */
#include "pictures.h"

#include <stdlib.h>
#include <string.h>

#include <webp/encode.h>

/* rgb: [height][width][3], kept exactly */
static OcrBytes make_lossless(int width, int height, const uint8_t *rgb) {
    uint8_t *data, *copy;
    size_t size = WebPEncodeLosslessRGB(rgb, width, height, 3 * width, &data);
    assert_true(size > 0);
    copy = malloc(size);
    memcpy(copy, data, size);
    WebPFree(data);
    return (OcrBytes){copy, size};
}

static void put32(uint8_t *p, uint32_t value) {
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(value >> 8 * i);
}

/* The file with one more chunk at its end; with a VP8X in front of all others if it has none. */
static OcrBytes with_chunk(OcrBytes webp, const char *name, OcrBytes body, int flags, int width,
                           int height) {
    size_t filled = body.size + body.size % 2, size = webp.size + 18 + 8 + filled;
    uint8_t *data = calloc(1, size), *chunk = data + webp.size + 18;
    memcpy(data, webp.data, 12);
    put32(data + 4, (uint32_t)size - 8);
    memcpy(data + 12, "VP8X", 4);
    put32(data + 16, 10);
    data[20] = (uint8_t)flags;
    put32(data + 24, (uint32_t)width - 1);
    put32(data + 27, (uint32_t)height - 1);
    memcpy(data + 30, webp.data + 12, webp.size - 12);
    memcpy(chunk, name, 4);
    put32(chunk + 4, (uint32_t)body.size);
    memcpy(chunk + 8, body.data, body.size);
    return (OcrBytes){data, size};
}

static void test_lossless(void **state) {
    (void)state;
    const int sizes[][2] = {{1, 1}, {37, 29}, {300, 2}};
    for (int i = 0; i < 3; i++) {
        uint8_t *rgb = noise(1, sizes[i][0], sizes[i][1], 3);
        OcrBytes webp = make_lossless(sizes[i][0], sizes[i][1], rgb);
        assert_picture(webp, sizes[i][0], sizes[i][1], rgb);
        assert_truncations_fail(webp, 500);
        survive_bit_flips(webp, 5, 500);
        free_bytes(webp);
        free(rgb);
    }
}

static int orientation_of(OcrBytes file) {
    OcrImageInfo info;
    OcrError err;
    assert_ok(image_probe(file, 0, 1000, &info, &err), &err);
    return info.orientation;
}

static void test_orientation(void **state) {
    (void)state;
    uint8_t *rgb = noise(2, 6, 4, 3);
    OcrBytes webp = make_lossless(6, 4, rgb), exif = make_exif(6, true);
    uint8_t *prefixed = malloc(exif.size + 6);
    memcpy(prefixed, "Exif\0\0", 6);
    memcpy(prefixed + 6, exif.data, exif.size);
    OcrBytes files[] = {
        with_chunk(webp, "EXIF", exif, 0x08, 6, 4),
        with_chunk(webp, "EXIF", (OcrBytes){prefixed, exif.size + 6}, 0x08, 6, 4),
        with_chunk(webp, "EXIF", exif, 0, 6, 4), /* which the header does not speak of */
        with_chunk(webp, "XMP ", exif, 0x08, 6, 4),
        with_chunk(webp, "EXIF", (OcrBytes){exif.data, 21}, 0x08, 6, 4),
    };
    const int expected[] = {6, 6, 1, 1, 1};
    for (int i = 0; i < 5; i++) {
        assert_int_equal(orientation_of(files[i]), expected[i]);
        free_bytes(files[i]);
    }
    free(prefixed);
    free_bytes(exif);
    free_bytes(webp);
    free(rgb);
}

static void test_refused(void **state) {
    (void)state;
    uint8_t *rgb = noise(3, 6, 4, 3);
    OcrBytes webp = make_lossless(6, 4, rgb), nothing = {webp.data, 0};
    OcrBytes animation = with_chunk(webp, "ANMF", nothing, 0x02, 6, 4);
    assert_unreadable(animation, OCR_IMAGE_UNSUPPORTED, "animation");
    OcrBytes large = with_chunk(webp, "XMP ", nothing, 0, 7, 4); /* than its picture is */
    assert_unreadable(large, OCR_IMAGE_DAMAGED, "damaged");
    OcrBytes huge = with_chunk(webp, "XMP ", nothing, 0, 16000000, 200);
    assert_unreadable(huge, OCR_IMAGE_DAMAGED, "damaged");
    put32((uint8_t *)webp.data + 4, (uint32_t)webp.size); /* more than there is */
    assert_unreadable(webp, OCR_IMAGE_DAMAGED, "damaged");
    free_bytes(huge);
    free_bytes(large);
    free_bytes(animation);
    free_bytes(webp);
    free(rgb);
}

static void test_limits(void **state) {
    (void)state;
    uint8_t *rgb = noise(4, 30, 20, 3);
    OcrBytes webp = make_lossless(30, 20, rgb);
    OcrImageInfo info;
    OcrError err;
    RgbImage picture;
    assert_ok(image_probe(webp, 0, 600, &info, &err), &err);
    assert_int_equal(info.format, OCR_FORMAT_WEBP);
    assert_int_equal(info.library_bytes, 600 * 5);
    assert_fails(image_probe(webp, 0, 599, &info, &err), &err, OCR_IMAGE_TOO_LARGE, "30 x 20");
    assert_fails(image_probe(webp, 1, 600, &info, &err), &err, OCR_IMAGE_EMPTY, "one page");

    assert_ok(image_probe(webp, 0, 600, &info, &err), &err);
    void *buffer = malloc(image_decode_bytes(&info));
    OcrBytes other = make_lossless(20, 30, rgb);
    assert_fails(image_decode(other, &info, NULL, buffer, &picture, &err), &err, OCR_IMAGE_DAMAGED,
                 "damaged");
    free(buffer);
    free_bytes(other);
    free_bytes(webp);
    free(rgb);
}

static void test_interrupts(void **state) {
    (void)state;
    uint8_t *rgb = noise(5, 200, 150, 3);
    OcrBytes webp = make_lossless(200, 150, rgb);
    assert_interruptible(webp, 450, 60);
    free_bytes(webp);
    free(rgb);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lossless),   cmocka_unit_test(test_orientation),
        cmocka_unit_test(test_refused),    cmocka_unit_test(test_limits),
        cmocka_unit_test(test_interrupts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
