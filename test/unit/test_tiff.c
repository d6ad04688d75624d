/* tiff.c: kinds of samples, strips, tiles, planes, pages; hostile directories. */
#include "tiffs.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

static const TiffRecipe plain = {.width = 37,
                                 .height = 29,
                                 .photometric = PHOTOMETRIC_MINISBLACK,
                                 .bits = 8,
                                 .samples = 1,
                                 .compression = COMPRESSION_NONE};

static int inked(int brightness, int ink) {
    return (int)((2 * brightness * (255 - ink) + 255) / 510); /* rounded to the nearest */
}

/* What a pixel of these samples looks like: the high byte of 16 bits, extra samples dropped. */
static void expected_rgb(const TiffRecipe *recipe, const uint16_t *s, uint8_t *rgb) {
    int most = (1 << recipe->bits) - 1, high = recipe->bits == 16 ? 8 : 0;
    for (int c = 0; c < 3; c++)
        switch (recipe->photometric) {
        case PHOTOMETRIC_MINISWHITE:
            rgb[c] = (uint8_t)(high ? 255 - (s[0] >> 8) : (most - s[0]) * 255 / most);
            break;
        case PHOTOMETRIC_MINISBLACK:
            rgb[c] = (uint8_t)(high ? s[0] >> 8 : s[0] * 255 / most);
            break;
        case PHOTOMETRIC_PALETTE:
            rgb[c] = test_palette()[3 * s[0] + c];
            break;
        case PHOTOMETRIC_RGB:
            rgb[c] = (uint8_t)(s[c] >> high);
            break;
        case PHOTOMETRIC_SEPARATED:
            rgb[c] = (uint8_t)inked(255 - (s[3] >> high), s[c] >> high);
            break;
        }
}

static OcrBytes make_one(const TiffRecipe *recipe, const uint16_t *samples) {
    return make_tiff(recipe, &samples, 1);
}

static void check(const TiffRecipe *recipe) {
    int pixels = recipe->width * recipe->height;
    uint16_t *samples = random_tiff_samples(recipe, 1);
    uint8_t *rgb = malloc((size_t)pixels * 3);
    for (int i = 0; i < pixels; i++)
        expected_rgb(recipe, samples + i * recipe->samples, rgb + 3 * i);
    OcrBytes tiff = make_one(recipe, samples);
    assert_picture(tiff, recipe->width, recipe->height, rgb);
    free_bytes(tiff);
    free(rgb);
    free(samples);
}

/* Every layout of a kind of samples: strips and tiles, together and in planes, both byte orders. */
static int check_layouts(TiffRecipe recipe) {
    const int sizes[][2] = {{37, 29}, {1, 1}, {2, 5}, {64, 48}};
    const char *const modes[] = {"wl", "wb", "w8"};
    int kinds = 0;
    for (int layout = 0; layout < 6; layout++) {
        recipe.tile = layout % 3 == 2 ? 16 : 0;
        recipe.rows = layout % 3 == 1 ? 7 : 0;
        recipe.separate = layout >= 3;
        recipe.mode = modes[layout % 3];
        for (int i = 0; i < 4; i++) {
            recipe.width = sizes[i][0];
            recipe.height = sizes[i][1];
            check(&recipe);
        }
        kinds++;
    }
    return kinds;
}

static void test_every_kind(void **state) {
    (void)state;
    const struct {
        int photometric, samples, least_bits, most_bits;
    } kinds[] = {
        {PHOTOMETRIC_MINISWHITE, 1, 1, 16}, {PHOTOMETRIC_MINISBLACK, 1, 1, 16},
        {PHOTOMETRIC_MINISBLACK, 2, 1, 16}, {PHOTOMETRIC_PALETTE, 1, 1, 8},
        {PHOTOMETRIC_RGB, 3, 8, 16},        {PHOTOMETRIC_RGB, 4, 8, 16},
        {PHOTOMETRIC_RGB, 6, 8, 16},        {PHOTOMETRIC_SEPARATED, 4, 8, 16},
        {PHOTOMETRIC_SEPARATED, 5, 8, 16},
    };
    const int compressions[] = {COMPRESSION_NONE, COMPRESSION_LZW, COMPRESSION_PACKBITS,
                                COMPRESSION_ADOBE_DEFLATE, COMPRESSION_DEFLATE};
    int done = 0;
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
        for (int bits = kinds[k].least_bits; bits <= kinds[k].most_bits; bits *= 2) {
            TiffRecipe recipe = {.photometric = kinds[k].photometric,
                                 .bits = bits,
                                 .samples = kinds[k].samples,
                                 .compression = compressions[done % 5]};
            if (bits >= 8 && recipe.compression == COMPRESSION_LZW)
                recipe.predictor = 2;
            check_layouts(recipe);
            done++;
        }
    assert_int_equal(done, 3 * 5 + 4 + 5 * 2);
}

static void test_fax(void **state) {
    (void)state;
    const int compressions[] = {COMPRESSION_CCITTRLE, COMPRESSION_CCITTFAX3, COMPRESSION_CCITTFAX4};
    for (int i = 0; i < 3; i++)
        for (int white = 0; white < 2; white++)
            check_layouts(
                (TiffRecipe){.photometric = white ? PHOTOMETRIC_MINISWHITE : PHOTOMETRIC_MINISBLACK,
                             .bits = 1,
                             .samples = 1,
                             .compression = compressions[i]});
}

/* Colours that were multiplied by their alpha are divided by it again. */
static void test_premultiplied(void **state) {
    (void)state;
    TiffRecipe recipe = plain;
    recipe.photometric = PHOTOMETRIC_RGB;
    recipe.samples = 4;
    recipe.width = 6;
    recipe.height = 1;
    recipe.extra = EXTRASAMPLE_ASSOCALPHA;
    const uint16_t samples[] = {10, 20, 30, 255, 10, 20, 30, 100, 1,  2,  3,  0,
                                50, 60, 70, 40,  0,  0,  0,  128, 64, 64, 64, 128};
    const uint8_t rgb[] = {10, 20, 30, 25, 51, 76, 0, 0, 0, 255, 255, 255, 0, 0, 0, 127, 127, 127};
    OcrBytes tiff = make_one(&recipe, samples);
    assert_picture(tiff, 6, 1, rgb);
    free_bytes(tiff);
    recipe.extra = EXTRASAMPLE_UNASSALPHA;
    const uint8_t kept[] = {10, 20, 30, 10, 20, 30, 1, 2, 3, 50, 60, 70, 0, 0, 0, 64, 64, 64};
    tiff = make_one(&recipe, samples);
    assert_picture(tiff, 6, 1, kept);
    free_bytes(tiff);
}

static void test_orientations(void **state) {
    (void)state;
    TiffRecipe recipe = plain;
    recipe.width = 2;
    recipe.height = 1;
    const uint16_t samples[] = {10, 200};
    for (int orientation = 1; orientation <= 8; orientation++) {
        recipe.orientation = orientation;
        OcrBytes tiff = make_one(&recipe, samples);
        bool swapped = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
        uint8_t rgb[6];
        memset(rgb, swapped ? 200 : 10, 3);
        memset(rgb + 3, swapped ? 10 : 200, 3);
        assert_picture(tiff, orientation < 5 ? 2 : 1, orientation < 5 ? 1 : 2, rgb);
        free_bytes(tiff);
    }
}

/* ---- pages ---- */

static OcrCode read_page(OcrBytes file, int page, OcrImageInfo *info, uint8_t *first,
                         OcrError *err) {
    RgbImage picture;
    OcrCode code = image_probe(file, page, 1000000, info, err);
    if (code != OCR_OK)
        return code;
    void *buffer = malloc(image_decode_bytes(info));
    code = image_decode(file, info, NULL, buffer, &picture, err);
    if (code == OCR_OK)
        *first = picture.pixels[0];
    free(buffer);
    return code;
}

/* Page i is (10 + i) x 3 pixels of value 50 + i. subfiles: type of each page */
static OcrBytes make_pages(int pages, const int *subfiles) {
    TiffRecipe recipes[10];
    uint16_t samples[10][60];
    const uint16_t *all[10];
    for (int i = 0; i < pages; i++) {
        recipes[i] = plain;
        recipes[i].width = 10 + i;
        recipes[i].height = 3;
        recipes[i].subfile = subfiles ? subfiles[i] : 0;
        for (int j = 0; j < 60; j++)
            samples[i][j] = (uint16_t)(50 + i);
        all[i] = samples[i];
    }
    return make_tiff(recipes, all, pages);
}

static void assert_page(OcrBytes file, int page, int width, int first) {
    OcrImageInfo info;
    OcrError err;
    uint8_t value;
    assert_ok(read_page(file, page, &info, &value, &err), &err);
    assert_int_equal(info.page, page);
    assert_int_equal(info.width, width);
    assert_int_equal(value, first);
}

static int pages_of(OcrBytes file) {
    OcrError err;
    int pages;
    assert_ok(image_count(file, &pages, &err), &err);
    return pages;
}

static void test_pages(void **state) {
    (void)state;
    OcrBytes tiff = make_pages(10, NULL);
    OcrImageInfo info;
    OcrError err;
    uint8_t value;
    assert_int_equal(pages_of(tiff), 10);
    for (int i = 9; i >= 0; i--)
        assert_page(tiff, i, 10 + i, 50 + i);
    assert_fails(read_page(tiff, 10, &info, &value, &err), &err, OCR_IMAGE_EMPTY, "only 10 pages");

    put_le(tiff, find_link(tiff, 3), (uint32_t)tiff.size - 1, 4); /* the chain leaves the file */
    assert_int_equal(pages_of(tiff), 5);
    assert_page(tiff, 3, 13, 53);
    assert_fails(read_page(tiff, 4, &info, &value, &err), &err, OCR_IMAGE_DAMAGED, "outside");
    free_bytes(tiff);
}

static void test_thumbnails(void **state) {
    (void)state;
    const int subfiles[] = {FILETYPE_REDUCEDIMAGE, FILETYPE_PAGE, FILETYPE_REDUCEDIMAGE,
                            FILETYPE_MASK | FILETYPE_PAGE, 0};
    OcrBytes tiff = make_pages(5, subfiles);
    assert_int_equal(pages_of(tiff), 3); /* the first one counts whatever it is */
    assert_page(tiff, 0, 10, 50);
    assert_page(tiff, 1, 11, 51);
    assert_page(tiff, 2, 14, 54);
    free_bytes(tiff);
}

/* Directories of 4096 entries, four bytes apart: a small file that takes long to go through. */
static void test_directories_on_top_of_each_other(void **state) {
    (void)state;
    enum { DIRECTORIES = 5000, FIRST = 8, LINK = 2 + 4096 * 12 };
    OcrBytes tiff = {NULL, FIRST + LINK + 4 * DIRECTORIES};
    uint8_t *bytes = malloc(tiff.size);
    tiff.data = bytes;
    memcpy(bytes, "II*\0", 4);
    put_le(tiff, 4, FIRST, 4);
    for (size_t at = FIRST; at + 1 < tiff.size; at += 2)
        put_le(tiff, at, 4096, 2);
    for (uint32_t i = 0; i < DIRECTORIES; i++)
        put_le(tiff, FIRST + LINK + 4 * i, i + 1 < DIRECTORIES ? FIRST + 4 * (i + 1) : 0, 4);
    OcrError err;
    int pages;
    assert_fails(image_count(tiff, &pages, &err), &err, OCR_IMAGE_DAMAGED, "entries");
    free(bytes);
}

static void test_rings(void **state) {
    (void)state;
    OcrBytes tiff = make_pages(3, NULL);
    OcrError err;
    int pages;
    for (int from = 0; from < 3; from++) {
        uint32_t first = get_le(tiff.data + 4, 4);
        uint32_t kept = get_le(tiff.data + find_link(tiff, from), 4);
        size_t link = find_link(tiff, from);
        put_le(tiff, link, first, 4);
        assert_fails(image_count(tiff, &pages, &err), &err, OCR_IMAGE_DAMAGED, "ring");
        assert_page(tiff, 0, 10, 50); /* it is found before the ring closes */
        put_le(tiff, link, kept, 4);
    }
    free_bytes(tiff);
}

/* ---- damage ---- */

static void test_truncation(void **state) {
    (void)state;
    const int compressions[] = {COMPRESSION_NONE,      COMPRESSION_LZW,
                                COMPRESSION_PACKBITS,  COMPRESSION_ADOBE_DEFLATE,
                                COMPRESSION_CCITTFAX3, COMPRESSION_CCITTFAX4};
    for (int i = 0; i < 6; i++)
        for (int tile = 0; tile <= 16; tile += 16) {
            TiffRecipe recipe = plain;
            recipe.bits = i < 4 ? 8 : 1;
            recipe.compression = compressions[i];
            recipe.tile = tile;
            recipe.rows = 10;
            uint16_t *samples = random_tiff_samples(&recipe, 3);
            OcrBytes tiff = make_one(&recipe, samples);
            assert_truncations_fail(tiff, (int)tiff.size);
            survive_bit_flips(tiff, (uint64_t)i, 1500);
            free_bytes(tiff);
            free(samples);
        }
}

/* Strips of compressed data that end before their rows do. */
static void test_short_strips(void **state) {
    (void)state;
    const int compressions[] = {COMPRESSION_LZW, COMPRESSION_PACKBITS, COMPRESSION_ADOBE_DEFLATE,
                                COMPRESSION_CCITTFAX4};
    for (int i = 0; i < 4; i++) {
        TiffRecipe recipe = plain;
        recipe.bits = i < 3 ? 8 : 1;
        recipe.compression = compressions[i];
        uint16_t *samples = random_tiff_samples(&recipe, 4);
        OcrBytes tiff = make_one(&recipe, samples);
        size_t bytes = find_entry(tiff, TIFFTAG_STRIPBYTECOUNTS) + 8;
        uint32_t size = get_le(tiff.data + bytes, 4);
        for (uint32_t kept = 1; kept < size / 2; kept += 5) { /* 0: the library guesses */
            put_le(tiff, bytes, kept, 4);
            assert_unreadable(tiff, OCR_IMAGE_DAMAGED, "damaged or cut short");
        }
        free_bytes(tiff);
        free(samples);
    }
}

/* A warning that does no harm is not what is wrong with the file. */
static void test_warnings(void **state) {
    (void)state;
    TiffRecipe recipe = plain;
    recipe.compression = COMPRESSION_LZW;
    recipe.orientation = 1;
    uint16_t *samples = random_tiff_samples(&recipe, 4);
    OcrBytes tiff = make_one(&recipe, samples);
    OcrError err;
    RgbImage picture;
    put_le(tiff, find_entry(tiff, TIFFTAG_ORIENTATION), 275, 2); /* a tag that nobody knows */
    assert_ok(read_picture(tiff, NULL, &picture, &err), &err);
    free(picture.pixels);
    put_le(tiff, find_entry(tiff, TIFFTAG_STRIPBYTECOUNTS) + 8, 100, 4);
    assert_fails(read_picture(tiff, NULL, &picture, &err), &err, OCR_IMAGE_DAMAGED, "cut short: ");
    assert_null(strstr(err.message, "275"));
    free_bytes(tiff);
    free(samples);
}

/* What the library says in two lines is not taken for the words of another program. */
static void test_messages_of_two_lines(void **state) {
    (void)state;
    JpegRecipe recipe = {.width = 50,
                         .height = 40,
                         .components = 1,
                         .given = JCS_GRAYSCALE,
                         .stored = JCS_GRAYSCALE,
                         .luma_sampling = 2};
    uint8_t *samples = noise(6, 50, 40, 1);
    OcrBytes jpeg = make_jpeg(&recipe, samples), tiff = wrap_jpeg(jpeg, 50, 40, 1);
    assert_unreadable(tiff, OCR_IMAGE_DAMAGED, "2,2 Apparently should be 1,1");
    free_bytes(tiff);
    free_bytes(jpeg);
    free(samples);
}

/* The library takes a tile whose lines end too early for a whole one. */
static void test_short_fax_tiles(void **state) {
    (void)state;
    const int compressions[] = {COMPRESSION_CCITTRLE, COMPRESSION_CCITTFAX3, COMPRESSION_CCITTFAX4};
    for (int i = 0; i < 3; i++) {
        TiffRecipe recipe = plain;
        recipe.bits = 1;
        recipe.width = recipe.height = recipe.tile = 16;
        recipe.compression = compressions[i];
        uint16_t *samples = random_tiff_samples(&recipe, 4);
        OcrBytes tiff = make_one(&recipe, samples);
        size_t bytes = find_entry(tiff, TIFFTAG_TILEBYTECOUNTS) + 8;
        uint32_t size = get_le(tiff.data + bytes, 4);
        for (uint32_t kept = 1; kept < size - 8; kept++) {
            put_le(tiff, bytes, kept, 4);
            assert_unreadable(tiff, OCR_IMAGE_DAMAGED, "damaged or cut short");
        }
        free_bytes(tiff);
        free(samples);
    }
}

/* The picture with another value of a tag. */
static void assert_refused(int tag, uint32_t value, OcrCode code, const char *part) {
    TiffRecipe recipe = plain;
    recipe.tile = tag == TIFFTAG_TILEWIDTH || tag == TIFFTAG_TILELENGTH ? 16 : 0;
    uint16_t *samples = random_tiff_samples(&recipe, 5);
    OcrBytes tiff = make_one(&recipe, samples);
    size_t entry = find_entry(tiff, tag);
    put_le(tiff, entry + 8, value, get_le(tiff.data + entry + 2, 2) == TIFF_SHORT ? 2 : 4);
    assert_unreadable(tiff, code, part);
    free_bytes(tiff);
    free(samples);
}

static void test_hostile_tags(void **state) {
    (void)state;
    assert_refused(TIFFTAG_IMAGEWIDTH, 0, OCR_IMAGE_EMPTY, "0 x 29");
    assert_refused(TIFFTAG_IMAGEWIDTH, 65535, OCR_IMAGE_DAMAGED, "");
    assert_refused(TIFFTAG_IMAGELENGTH, 60000, OCR_IMAGE_DAMAGED, "");
    assert_refused(TIFFTAG_IMAGELENGTH, 30, OCR_IMAGE_DAMAGED, ""); /* a row that is not there */
    assert_refused(TIFFTAG_BITSPERSAMPLE, 3, OCR_IMAGE_UNSUPPORTED, "3 bits");
    assert_refused(TIFFTAG_BITSPERSAMPLE, 32, OCR_IMAGE_UNSUPPORTED, "32 bits");
    assert_refused(TIFFTAG_BITSPERSAMPLE, 16, OCR_IMAGE_DAMAGED, "");
    assert_refused(TIFFTAG_SAMPLESPERPIXEL, 65535, OCR_IMAGE_UNSUPPORTED, "65535 samples");
    assert_refused(TIFFTAG_SAMPLESPERPIXEL, 2, OCR_IMAGE_DAMAGED, "");
    assert_refused(TIFFTAG_COMPRESSION, COMPRESSION_OJPEG, OCR_IMAGE_UNSUPPORTED, "compression 6");
    assert_refused(TIFFTAG_COMPRESSION, 12345, OCR_IMAGE_UNSUPPORTED, "compression 12345");
    assert_refused(TIFFTAG_PHOTOMETRIC, PHOTOMETRIC_CIELAB, OCR_IMAGE_UNSUPPORTED, "colour (8");
    assert_refused(TIFFTAG_PHOTOMETRIC, PHOTOMETRIC_RGB, OCR_IMAGE_DAMAGED, "1 samples instead");
    assert_refused(TIFFTAG_PHOTOMETRIC, PHOTOMETRIC_PALETTE, OCR_IMAGE_DAMAGED, "palette");
    assert_refused(TIFFTAG_STRIPOFFSETS, 0x7fffffff, OCR_IMAGE_DAMAGED, "damaged or cut short");
    assert_refused(TIFFTAG_TILEWIDTH, 0, OCR_IMAGE_DAMAGED, "");
    assert_refused(TIFFTAG_TILEWIDTH, 60000, OCR_IMAGE_DAMAGED, "");
    assert_refused(TIFFTAG_TILELENGTH, 65520, OCR_IMAGE_DAMAGED, "");
}

static void assert_recipe_unsupported(const TiffRecipe *recipe, const char *part) {
    uint16_t *samples = random_tiff_samples(recipe, 5);
    OcrBytes tiff = make_one(recipe, samples);
    assert_unreadable(tiff, OCR_IMAGE_UNSUPPORTED, part);
    free_bytes(tiff);
    free(samples);
}

/* A tile or a row is unpacked in one go, so there is a limit to it. */
static void test_large_tiles(void **state) {
    (void)state;
    TiffRecipe recipe = plain;
    recipe.compression = COMPRESSION_ADOBE_DEFLATE;
    recipe.tile = 2048;
    recipe.bits = 16;
    check(&recipe);
    recipe.bits = 8;
    recipe.photometric = PHOTOMETRIC_RGB;
    recipe.samples = 3;
    assert_recipe_unsupported(&recipe, "tiles of 2048 x 2048 pixels, 12582912 bytes");
    recipe = plain;
    recipe.compression = COMPRESSION_ADOBE_DEFLATE;
    recipe.tile = 2064;
    assert_recipe_unsupported(&recipe, "2064 x 2064");
}

static void test_long_rows(void **state) {
    (void)state;
    TiffRecipe recipe = plain;
    recipe.photometric = PHOTOMETRIC_RGB;
    recipe.width = 1000000;
    recipe.height = 1;
    recipe.bits = 16;
    recipe.samples = 4;
    check(&recipe);
    recipe.samples = 5;
    assert_recipe_unsupported(&recipe, "rows of 1000000 x 1 pixels, 10000000 bytes");
}

/* A JPEG in a TIFF looks as it does alone; damage is seen there, too, and so are several scans. */
static void test_jpeg(void **state) {
    (void)state;
    static const jpeg_scan_info scan_each[] = {
        {1, {0}, 0, 63, 0, 0}, {1, {1}, 0, 63, 0, 0}, {1, {2}, 0, 63, 0, 0}};
    const JpegRecipe recipes[] = {
        {.components = 1, .given = JCS_GRAYSCALE, .stored = JCS_GRAYSCALE},
        {.components = 3, .given = JCS_RGB, .stored = JCS_YCbCr, .luma_sampling = 2},
        {.components = 3, .given = JCS_RGB, .stored = JCS_YCbCr, .restart = 2},
        {.components = 3, .given = JCS_RGB, .stored = JCS_YCbCr, .progressive = true},
        {.components = 3,
         .given = JCS_RGB,
         .stored = JCS_YCbCr,
         .scans = scan_each,
         .scan_count = 3},
    };
    for (int i = 0; i < 5; i++) {
        JpegRecipe recipe = recipes[i];
        recipe.width = 50;
        recipe.height = 40;
        uint8_t *samples = noise(6, 50, 40, recipe.components);
        OcrBytes jpeg = make_jpeg(&recipe, samples);
        OcrBytes tiff = wrap_jpeg(jpeg, 50, 40, recipe.components);
        if (i < 3) {
            OcrError err;
            RgbImage alone;
            assert_ok(read_picture(jpeg, NULL, &alone, &err), &err);
            assert_picture(tiff, 50, 40, alone.pixels);
            survive_bit_flips(tiff, 7, 1000);
            memset((uint8_t *)tiff.data + 8 + jpeg.size / 2, 0, jpeg.size / 4);
            assert_unreadable(tiff, OCR_IMAGE_DAMAGED, "damaged");
            free(alone.pixels);
        } else {
            assert_unreadable(tiff, OCR_IMAGE_UNSUPPORTED, "one scan");
        }
        free_bytes(tiff);
        free_bytes(jpeg);
        free(samples);
    }
}

/* A JPEG that does not fill its strip leaves nothing of the memory's in the picture. */
static void test_small_jpegs(void **state) {
    (void)state;
    const int sizes[][2] = {{16, 40}, {500, 16}, {499, 40}, {500, 39}, {501, 40}};
    for (int i = 0; i < 5; i++) {
        OcrBytes jpeg = make_grey_jpeg(sizes[i][0], sizes[i][1]);
        OcrBytes tiff = wrap_jpeg(jpeg, 500, 40, 1);
        assert_unreadable(tiff, OCR_IMAGE_DAMAGED, "instead of 500 x 40");
        free_bytes(tiff);
        free_bytes(jpeg);
    }
    OcrBytes high = make_grey_jpeg(50, 48), tiff = wrap_jpeg(high, 50, 40, 1);
    OcrError err;
    RgbImage whole;
    assert_ok(read_picture(high, NULL, &whole, &err), &err);
    assert_picture(tiff, 50, 40, whole.pixels);
    free(whole.pixels);
    free_bytes(tiff);
    free_bytes(high);
}

/* Strips or tiles of JPEG, of which the second says that it has fewer rows. */
static void test_jpeg_strips_and_tiles(void **state) {
    (void)state;
    for (int tile = 0; tile <= 16; tile += 16) {
        TiffRecipe recipe = plain;
        recipe.compression = COMPRESSION_JPEG;
        recipe.rows = 16;
        recipe.tile = tile;
        uint16_t *samples = random_tiff_samples(&recipe, 12);
        OcrBytes tiff = make_one(&recipe, samples);
        OcrError err;
        RgbImage picture;
        assert_ok(read_picture(tiff, NULL, &picture, &err), &err);
        free(picture.pixels);
        size_t entry = find_entry(tiff, tile ? TIFFTAG_TILEOFFSETS : TIFFTAG_STRIPOFFSETS);
        size_t at = get_le(tiff.data + get_le(tiff.data + entry + 8, 4) + 4, 4);
        while (memcmp(tiff.data + at, "\xFF\xC0", 2) != 0)
            at++;
        assert_int_equal(tiff.data[at + 6], tile ? 16 : 13);
        ((uint8_t *)tiff.data)[at + 6] = 8;
        assert_unreadable(tiff, OCR_IMAGE_DAMAGED, tile ? "16 x 8 pixels" : "37 x 8 pixels");
        free_bytes(tiff);
        free(samples);
    }
}

static int same_rows(const TiffRecipe *recipe, const uint16_t *samples, const uint8_t *rgb) {
    int same = 0;
    for (int y = 0; y < recipe->height; y++) {
        int x = 0;
        while (x < recipe->width && rgb[3 * x] == 255 * samples[x])
            x++;
        same += x == recipe->width;
        samples += recipe->width;
        rgb += 3 * recipe->width;
    }
    return same;
}

/*
 * A fault in a line of a group 3 fax leaves the other lines whole and the page
 * readable, unless it joins two lines, so that one is missing at the end.
 */
static void test_bad_lines(void **state) {
    (void)state;
    TiffRecipe recipe = plain;
    recipe.bits = 1;
    recipe.compression = COMPRESSION_CCITTFAX3;
    uint16_t *samples = random_tiff_samples(&recipe, 8);
    OcrBytes tiff = make_one(&recipe, samples);
    uint32_t data = get_le(tiff.data + find_entry(tiff, TIFFTAG_STRIPOFFSETS) + 8, 4);
    int readable = 0;
    for (uint32_t at = data; at < data + 300; at += 10) {
        OcrError err;
        RgbImage picture;
        ((uint8_t *)tiff.data)[at] ^= 0x10;
        if (read_picture(tiff, NULL, &picture, &err) == OCR_OK) {
            readable++;
            assert_in_range(same_rows(&recipe, samples, picture.pixels), recipe.height - 2,
                            recipe.height);
            free(picture.pixels);
        } else {
            assert_int_equal(err.code, OCR_IMAGE_DAMAGED);
        }
        ((uint8_t *)tiff.data)[at] ^= 0x10;
    }
    assert_true(readable > 15);
    free_bytes(tiff);
    free(samples);
}

static void test_pixel_limit(void **state) {
    (void)state;
    uint16_t *samples = random_tiff_samples(&plain, 5);
    OcrBytes tiff = make_one(&plain, samples);
    OcrImageInfo info;
    OcrError err;
    assert_ok(image_probe(tiff, 0, 37 * 29, &info, &err), &err);
    assert_int_equal(info.format, OCR_FORMAT_TIFF);
    assert_fails(image_probe(tiff, 0, 37 * 29 - 1, &info, &err), &err, OCR_IMAGE_TOO_LARGE, "37 x");
    free_bytes(tiff);
    free(samples);
}

/* Directories of many entries, one in another: nothing takes long. */
static void test_many_directories(void **state) {
    (void)state;
    size_t size = 3 << 20;
    uint8_t *data = calloc(1, size);
    memcpy(data, "II*\0\x08\0\0\0", 8);
    OcrBytes file = {data, size};
    for (uint32_t i = 0, at = 8; i < 70000; i++, at += 24) {
        put_le(file, at, 1, 2);            /* an entry of tag 0, */
        put_le(file, at + 14, at + 24, 4); /* then the link */
    }
    OcrError err;
    OcrImageInfo info;
    int pages;
    clock_t begin = clock();
    assert_fails(image_count(file, &pages, &err), &err, OCR_IMAGE_DAMAGED, "more than 65535");
    assert_fails(image_probe(file, 60000, 1000, &info, &err), &err, OCR_IMAGE_DAMAGED, "size");
    assert_true(clock() - begin < CLOCKS_PER_SEC / 2);
    free(data);
}

/* Bytes of the directory, and of what follows it, at random. */
static void test_noise(void **state) {
    (void)state;
    TiffRecipe recipe = plain;
    recipe.tile = 16;
    uint16_t *samples = random_tiff_samples(&recipe, 6);
    OcrBytes tiff = make_one(&recipe, samples);
    size_t directory = get_le(tiff.data + 4, 4);
    uint64_t seed = 9;
    for (int i = 0; i < 5000; i++) {
        uint8_t *copy = malloc(tiff.size);
        memcpy(copy, tiff.data, tiff.size);
        for (int n = random_between(&seed, 1, 3); n > 0; n--)
            copy[directory + random_next(&seed) % (tiff.size - directory)] =
                (uint8_t)random_next(&seed);
        OcrError err = {OCR_OK, ""};
        RgbImage picture;
        if (read_picture((OcrBytes){copy, tiff.size}, NULL, &picture, &err) == OCR_OK)
            free(picture.pixels);
        else
            assert_true(err.message[0] != '\0');
        free(copy);
    }
    free_bytes(tiff);
    free(samples);
}

static void test_other_header(void **state) {
    (void)state;
    OcrBytes tiff = make_pages(2, NULL);
    OcrImageInfo info;
    OcrError err;
    RgbImage picture;
    assert_ok(image_probe(tiff, 1, 1000, &info, &err), &err);
    void *buffer = malloc(image_decode_bytes(&info));
    info.page = 0; /* of another width */
    assert_fails(image_decode(tiff, &info, NULL, buffer, &picture, &err), &err, OCR_IMAGE_DAMAGED,
                 "contradict");
    free(buffer);
    free_bytes(tiff);
}

static void test_interrupts(void **state) {
    (void)state;
    for (int tile = 0; tile <= 16; tile += 16) {
        TiffRecipe recipe = plain;
        recipe.width = 50;
        recipe.height = 90;
        recipe.tile = tile;
        recipe.compression = COMPRESSION_LZW;
        uint16_t *samples = random_tiff_samples(&recipe, 7);
        OcrBytes tiff = make_one(&recipe, samples);
        assert_interruptible(tiff, tile ? 4 * 6 : 90, 60);
        free_bytes(tiff);
        free(samples);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_kind),
        cmocka_unit_test(test_fax),
        cmocka_unit_test(test_premultiplied),
        cmocka_unit_test(test_jpeg),
        cmocka_unit_test(test_small_jpegs),
        cmocka_unit_test(test_jpeg_strips_and_tiles),
        cmocka_unit_test(test_orientations),
        cmocka_unit_test(test_pages),
        cmocka_unit_test(test_thumbnails),
        cmocka_unit_test(test_rings),
        cmocka_unit_test(test_directories_on_top_of_each_other),
        cmocka_unit_test(test_truncation),
        cmocka_unit_test(test_short_strips),
        cmocka_unit_test(test_short_fax_tiles),
        cmocka_unit_test(test_warnings),
        cmocka_unit_test(test_messages_of_two_lines),
        cmocka_unit_test(test_hostile_tags),
        cmocka_unit_test(test_large_tiles),
        cmocka_unit_test(test_long_rows),
        cmocka_unit_test(test_bad_lines),
        cmocka_unit_test(test_pixel_limit),
        cmocka_unit_test(test_many_directories),
        cmocka_unit_test(test_noise),
        cmocka_unit_test(test_other_header),
        cmocka_unit_test(test_interrupts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
