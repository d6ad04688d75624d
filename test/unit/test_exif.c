/* exif.c: orientation from sound blocks, 1 from broken ones. */
#include "support.h"

#include "vision/exif.h"

#include "pictures.h"

#include <stdlib.h>
#include <string.h>

static void test_sound_blocks(void **state) {
    (void)state;
    for (int little = 0; little < 2; little++)
        for (int orientation = 1; orientation <= 8; orientation++) {
            OcrBytes tiff = make_exif(orientation, little);
            assert_int_equal(exif_orientation(tiff), orientation);
            free_bytes(tiff);
        }
}

static void test_values_out_of_range(void **state) {
    (void)state;
    const int values[] = {0, 9, 10, 255, 256, 0x0600, 65535};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        for (int little = 0; little < 2; little++) {
            OcrBytes tiff = make_exif(values[i], little);
            assert_int_equal(exif_orientation(tiff), 1);
            free_bytes(tiff);
        }
}

/* A sound block that says 6, big endian, with bytes replaced. */
static int orientation_with(size_t at, const char *bytes, size_t count) {
    OcrBytes tiff = make_exif(6, false);
    memcpy((uint8_t *)tiff.data + at, bytes, count);
    int orientation = exif_orientation(tiff);
    free_bytes(tiff);
    return orientation;
}

static void test_fields(void **state) {
    (void)state;
    assert_int_equal(orientation_with(0, "XX", 2), 1);         /* neither II nor MM */
    assert_int_equal(orientation_with(3, "+", 1), 1);          /* not 42 */
    assert_int_equal(orientation_with(4, "\0\0\0\x27", 4), 1); /* directory at the last byte */
    assert_int_equal(orientation_with(4, "\0\0\0\x28", 4), 1); /* behind the end */
    assert_int_equal(orientation_with(4, "\xff\xff\xff\xff", 4), 1);
    assert_int_equal(orientation_with(4, "\0\0\0\0", 4), 1);    /* on the header itself */
    assert_int_equal(orientation_with(8, "\0\0", 2), 1);        /* no entries */
    assert_int_equal(orientation_with(8, "\xff\xff", 2), 6);    /* more than there are */
    assert_int_equal(orientation_with(24, "\0\x02", 2), 1);     /* text */
    assert_int_equal(orientation_with(26, "\0\0\0\x02", 4), 1); /* two values */
    assert_int_equal(orientation_with(24, "\0\x04\0\0\0\x01\0\0\0\x08", 10), 8); /* 32 bits */
    assert_int_equal(orientation_with(24, "\0\x04\0\0\0\x01\0\x06\0\0", 10), 1);
}

/* Cut anywhere, it says 1 until the entry is whole, and nothing is read behind the end. */
static void test_cut_short(void **state) {
    (void)state;
    OcrBytes whole = make_exif(3, true);
    for (size_t size = 0; size <= whole.size; size++) {
        uint8_t *part = malloc(size > 0 ? size : 1);
        memcpy(part, whole.data, size);
        assert_int_equal(exif_orientation((OcrBytes){part, size}), size >= 34 ? 3 : 1);
        free(part);
    }
    free_bytes(whole);
}

static void test_noise(void **state) {
    (void)state;
    uint64_t seed = 5;
    for (int i = 0; i < 20000; i++) {
        OcrBytes tiff = make_exif(6, i % 2);
        for (int n = random_between(&seed, 1, 6); n > 0; n--)
            ((uint8_t *)tiff.data)[random_next(&seed) % tiff.size] = (uint8_t)random_next(&seed);
        int orientation = exif_orientation(tiff);
        assert_in_range(orientation, 1, 8);
        free_bytes(tiff);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sound_blocks), cmocka_unit_test(test_values_out_of_range),
        cmocka_unit_test(test_fields),       cmocka_unit_test(test_cut_short),
        cmocka_unit_test(test_noise),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
