/* image.c: recognising files, limits, orientation; the goldens' pixels. */
#include "pictures.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <png.h>

static const char *const golden_cases[] = {
    "nano_alpha_tiny.json",      "nano_exif6_base.json",
    "nano_page_small_tiny.json", "nano_page_tall_grey_gundam.json",
    "nano_palette_base.json",    "nano_scan_wide_base.json",
};

static void test_goldens(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof golden_cases / sizeof *golden_cases; i++) {
        json_t *root = golden_json(golden_cases[i]);
        const char *name, *file_sha256, *rgb_sha256;
        int width, height;
        assert_int_equal(json_unpack(root, "{s:{s:s, s:s, s:s, s:[i,i]}}", "image", "file", &name,
                                     "sha256", &file_sha256, "rgb_sha256", &rgb_sha256, "rgb_size",
                                     &width, &height),
                         0);
        char path[100], sum[65];
        snprintf(path, sizeof path, "images/%s", name);
        OcrBytes file = read_file(golden_path(path));
        sha256_hex(file.data, file.size, sum);
        assert_string_equal(sum, file_sha256);

        OcrError err;
        RgbImage picture;
        assert_ok(read_picture(file, NULL, &picture, &err), &err);
        assert_int_equal(picture.width, width);
        assert_int_equal(picture.height, height);
        sha256_hex(picture.pixels, (size_t)width * (size_t)height * 3, sum);
        assert_string_equal(sum, rgb_sha256);
        free(picture.pixels);

        assert_truncations_fail(file, 40);
        survive_bit_flips(file, i, 40);
        free_bytes(file);
        json_decref(root);
    }
}

static void test_not_images(void **state) {
    (void)state;
    const struct {
        const char *bytes;
        size_t size;
        OcrCode code;
        const char *part;
    } files[] = {
        {"", 0, OCR_IMAGE_EMPTY, "no bytes"},
        {"\xFF", 1, OCR_IMAGE_FORMAT, "1 bytes that begin with ff)"},
        {"\xFF\xD8", 2, OCR_IMAGE_FORMAT, "ff d8)"},
        {"\x89PNG\r\n\x1A", 7, OCR_IMAGE_FORMAT, "89 50 4e 47"},
        {"\x89PNG\n\x1A\n", 7, OCR_IMAGE_FORMAT, "89 50 4e 47"}, /* line ends converted */
        {"GIF89a\1\0\1\0", 10, OCR_IMAGE_FORMAT, "47 49 46 38"},
        {"%PDF-1.7\n", 9, OCR_IMAGE_FORMAT, "25 50 44 46"},
        {"\0\0\0\0\0\0\0\0\0\0\0", 11, OCR_IMAGE_FORMAT, "00 00 00 00"},
    };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        uint8_t *copy = malloc(files[i].size + 1); /* +1: malloc(0) may be NULL */
        memcpy(copy, files[i].bytes, files[i].size);
        assert_unreadable((OcrBytes){copy, files[i].size}, files[i].code, files[i].part);
        free(copy);
    }
    assert_unreadable((OcrBytes){NULL, 0}, OCR_IMAGE_EMPTY, "no bytes");
}

static void test_pixel_limit(void **state) {
    (void)state;
    OcrBytes files[] = {make_grey_jpeg(30, 20), make_grey_png(30, 20, false)};
    for (int i = 0; i < 2; i++) {
        OcrImageInfo info;
        OcrError err;
        assert_ok(image_probe(files[i], 0, 600, &info, &err), &err);
        assert_int_equal(info.format, i == 0 ? OCR_FORMAT_JPEG : OCR_FORMAT_PNG);
        assert_int_equal(info.width, 30);
        assert_int_equal(info.height, 20);
        assert_int_equal(image_decode_bytes(&info), 30 * 20 * 3);
        assert_fails(image_probe(files[i], 0, 599, &info, &err), &err, OCR_IMAGE_TOO_LARGE, "599");
        free_bytes(files[i]);
    }
}

/* Spec 2.2, pixel by pixel: where the upright pixel x, y comes from in a stored w x h picture. */
static void source_of(int orientation, int w, int h, int x, int y, int *sx, int *sy) {
    const int table[9][2] = {
        {0, 0}, {x, y},         {w - 1 - x, y},         {w - 1 - x, h - 1 - y}, {x, h - 1 - y},
        {y, x}, {y, h - 1 - x}, {w - 1 - y, h - 1 - x}, {w - 1 - y, x},
    };
    *sx = table[orientation][0];
    *sy = table[orientation][1];
}

/* plain: without EXIF; turned: the same with it */
static void check_orientation(OcrBytes plain, OcrBytes turned, int orientation) {
    OcrError err;
    OcrImageInfo info;
    RgbImage stored;
    assert_ok(read_picture(plain, NULL, &stored, &err), &err);
    assert_ok(image_probe(turned, 0, 1000000, &info, &err), &err);
    assert_int_equal(info.orientation, orientation);
    assert_int_equal(info.stored_width, stored.width);
    assert_int_equal(info.stored_height, stored.height);

    int width = orientation >= 5 ? stored.height : stored.width;
    int height = orientation >= 5 ? stored.width : stored.height;
    uint8_t *upright = malloc((size_t)width * (size_t)height * 3);
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) {
            int sx, sy;
            source_of(orientation, stored.width, stored.height, x, y, &sx, &sy);
            memcpy(upright + 3 * (y * width + x), stored.pixels + 3 * (sy * stored.width + sx), 3);
        }
    assert_picture(turned, width, height, upright);
    free(upright);
    free(stored.pixels);
}

static void test_orientations(void **state) {
    (void)state;
    const int sizes[][2] = {{150, 67}, {64, 128}, {1, 9}, {9, 1}, {1, 1}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int orientation = 1; orientation <= 8; orientation++) {
            int width = sizes[i][0], height = sizes[i][1];
            OcrBytes exif = make_exif(orientation, orientation % 2);
            OcrBytes jpeg = make_grey_jpeg(width, height), turned = with_exif(jpeg, exif);
            check_orientation(jpeg, turned, orientation);
            free_bytes(jpeg);
            free_bytes(turned);

            PngRecipe recipe = {
                .width = width, .height = height, .color_type = PNG_COLOR_TYPE_GRAY, .depth = 16};
            uint16_t *samples = malloc((size_t)(width * height) * sizeof *samples);
            for (int j = 0; j < width * height; j++)
                samples[j] = (uint16_t)(j * 13 << 8);
            OcrBytes png = make_png(&recipe, samples);
            recipe.exif = exif;
            turned = make_png(&recipe, samples);
            check_orientation(png, turned, orientation);
            free_bytes(png);
            free_bytes(turned);
            free_bytes(exif);
            free(samples);
        }
}

/* Only the first EXIF counts, and a broken one leaves the picture as it is. */
static void test_odd_exif(void **state) {
    (void)state;
    OcrBytes jpeg = make_grey_jpeg(20, 10), six = make_exif(6, true), nine = make_exif(9, true);
    OcrBytes cut = {six.data, 20};
    OcrBytes inner = with_exif(jpeg, six), broken = with_exif(inner, nine);
    OcrBytes shortened = with_exif(jpeg, cut), empty = with_exif(jpeg, (OcrBytes){six.data, 0});
    OcrBytes files[] = {broken, shortened, empty};
    for (int i = 0; i < 3; i++)
        check_orientation(jpeg, files[i], 1);
    for (int i = 0; i < 3; i++)
        free_bytes(files[i]);
    free_bytes(inner);
    free_bytes(six);
    free_bytes(nine);
    free_bytes(jpeg);
}

static void test_interrupted_turn(void **state) {
    (void)state;
    OcrBytes exif = make_exif(5, true), plain = make_grey_jpeg(300, 200);
    OcrBytes jpeg = with_exif(plain, exif);
    assert_interruptible(jpeg, 200 + 4 * 5, 500);
    free_bytes(jpeg);
    free_bytes(plain);
    free_bytes(exif);
}

/* The libraries would print their complaints if they were let. */
static void test_silence(void **state) {
    (void)state;
    FILE *caught = tmpfile();
    int streams[2] = {dup(STDOUT_FILENO), dup(STDERR_FILENO)};
    fflush(NULL);
    dup2(fileno(caught), STDOUT_FILENO);
    dup2(fileno(caught), STDERR_FILENO);
    const char *const formats[] = {"formats/bits_group3.tif", "formats/bits_group4.tif",
                                   "formats/rgb_jpeg.tif", "formats/grey_lzw.tif",
                                   "formats/lossy.webp"};
    OcrBytes files[] = {make_grey_jpeg(40, 40),
                        make_grey_png(40, 40, true),
                        read_file(golden_path(formats[0])),
                        read_file(golden_path(formats[1])),
                        read_file(golden_path(formats[2])),
                        read_file(golden_path(formats[3])),
                        read_file(golden_path(formats[4]))};
    uint64_t seed = 1;
    for (int i = 0; i < 2000; i++) {
        uint8_t *data = (uint8_t *)files[i % 7].data;
        size_t at = random_next(&seed) % files[i % 7].size;
        uint8_t kept = data[at];
        data[at] = (uint8_t)random_next(&seed);
        OcrError err;
        RgbImage picture;
        if (read_picture(files[i % 7], NULL, &picture, &err) == OCR_OK)
            free(picture.pixels);
        data[at] = kept;
    }
    fflush(NULL);
    dup2(streams[0], STDOUT_FILENO);
    dup2(streams[1], STDERR_FILENO);
    close(streams[0]);
    close(streams[1]);
    fseek(caught, 0, SEEK_END);
    assert_int_equal(ftell(caught), 0);
    fclose(caught);
    for (int i = 0; i < 7; i++)
        free_bytes(files[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_goldens),     cmocka_unit_test(test_not_images),
        cmocka_unit_test(test_pixel_limit), cmocka_unit_test(test_orientations),
        cmocka_unit_test(test_odd_exif),    cmocka_unit_test(test_interrupted_turn),
        cmocka_unit_test(test_silence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
