/* pnm.c: headers, the three kinds, and where one picture of a stream ends. */
#include "pictures.h"

#include "vision/pnm.h"

#include <stdlib.h>
#include <string.h>

/* A file of a header and as many bytes 0, 1, 2 ... as are asked for. */
static OcrBytes make(const char *header, int samples) {
    size_t size = strlen(header);
    uint8_t *data = malloc(size + (size_t)samples);
    memcpy(data, header, size);
    for (int i = 0; i < samples; i++)
        data[size + (size_t)i] = (uint8_t)i;
    return (OcrBytes){data, size + (size_t)samples};
}

static void check(const char *header, int samples, int width, int height, const uint8_t *rgb) {
    OcrBytes file = make(header, samples);
    OcrError err;
    uint64_t length;
    assert_picture(file, width, height, rgb);
    for (size_t size = 0; size <= file.size; size++) {
        assert_ok(pnm_length((OcrBytes){file.data, size}, &length, &err), &err);
        assert_int_equal(length, size < strlen(header) ? 0 : file.size);
    }
    assert_truncations_fail(file, (int)file.size);
    free_bytes(file);
}

static void test_kinds(void **state) {
    (void)state;
    const uint8_t grey[] = {0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3};
    const uint8_t color[] = {0, 1, 2, 3, 4, 5};
    uint8_t bits[9 * 2 * 3];
    check("P5 2 2 255\n", 4, 2, 2, grey);
    check("P5\n# by hand\n2#two\n\t2 # and\n # more\n255\r", 4, 2, 2, grey);
    check("P6\n2 1\n255\n", 6, 2, 1, color);

    /* Rows begin with a byte; 1 is black: 0, 1 / 2, 3 */
    memset(bits, 255, sizeof bits);
    memset(bits + 3 * (9 + 6), 0, 3);
    check("P4 9 2\n", 4, 9, 2, bits);
}

static void test_headers(void **state) {
    (void)state;
    const struct {
        const char *header;
        OcrCode code;
    } cases[] = {
        {"P1 1 1 ", OCR_IMAGE_FORMAT},
        {"P7\n", OCR_IMAGE_FORMAT},
        {"P5x1 1 255 ", OCR_IMAGE_FORMAT},
        {"P5 0 1 255\n", OCR_IMAGE_EMPTY},
        {"P5 1 1 65535\n", OCR_IMAGE_DAMAGED},
        {"P5 1 1 15\n", OCR_IMAGE_DAMAGED},
        {"P5 -1 1 255\n", OCR_IMAGE_DAMAGED},
        {"P5 1 x 255\n", OCR_IMAGE_DAMAGED},
        {"P5 1 1 255", OCR_IMAGE_DAMAGED},
        {"P5 1 1 255x", OCR_IMAGE_DAMAGED},
        {"P5 # 1 1 255 ", OCR_IMAGE_DAMAGED},
        {"P5 99999999999 1 255 ", OCR_IMAGE_DAMAGED},
        {"P6 2147483647 2147483647 255 ", OCR_IMAGE_TOO_LARGE},
        {"P5 3000000 1 255 ", OCR_IMAGE_TOO_LARGE},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        OcrBytes file = make(cases[i].header, 0);
        assert_unreadable(file, cases[i].code, "");
        free_bytes(file);
    }
}

static void test_length(void **state) {
    (void)state;
    OcrError err;
    uint64_t length;
    OcrBytes huge = make("P6 2147483647 2147483647 255 ", 0), broken = make("P6 1 1 256 ", 0);
    assert_ok(pnm_length(huge, &length, &err), &err);
    assert_int_equal(length, 29 + 3ull * 2147483647 * 2147483647);
    assert_fails(pnm_length(broken, &length, &err), &err, OCR_IMAGE_DAMAGED, "PNM");
    assert_fails(pnm_length((OcrBytes){(const uint8_t *)"GIF8", 4}, &length, &err), &err,
                 OCR_IMAGE_DAMAGED, "PNM");
    free_bytes(huge);
    free_bytes(broken);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_headers),
        cmocka_unit_test(test_length),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
