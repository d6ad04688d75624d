#include "pictures.h"

#include <stdlib.h>
#include <string.h>

#include <png.h>
#include <zlib.h>

#define MANY_PIXELS 100000000

static uint8_t *checked_malloc(size_t size) {
    uint8_t *block = malloc(size > 0 ? size : 1);
    assert_non_null(block);
    return block;
}

uint8_t *noise(uint64_t seed, int width, int height, int channels) {
    size_t size = (size_t)width * (size_t)height * (size_t)channels;
    uint8_t *samples = checked_malloc(size);
    for (size_t i = 0; i < size; i++)
        samples[i] = (uint8_t)random_next(&seed);
    return samples;
}

/* ---- making ---- */

OcrBytes make_jpeg(const JpegRecipe *recipe, const uint8_t *samples) {
    struct jpeg_compress_struct library;
    struct jpeg_error_mgr errors;
    unsigned char *data = NULL;
    unsigned long size = 0;
    library.err = jpeg_std_error(&errors);
    jpeg_create_compress(&library);
    jpeg_mem_dest(&library, &data, &size);
    library.image_width = (JDIMENSION)recipe->width;
    library.image_height = (JDIMENSION)recipe->height;
    library.input_components = recipe->components;
    library.in_color_space = recipe->given;
    jpeg_set_defaults(&library);
    jpeg_set_colorspace(&library, recipe->stored);
    jpeg_set_quality(&library, 100, TRUE);
    int sampling = recipe->luma_sampling > 0 ? recipe->luma_sampling : 1;
    for (int i = 0; i < recipe->components; i++) {
        bool chroma = i == 1 || i == 2;
        library.comp_info[i].h_samp_factor = chroma ? 1 : sampling;
        library.comp_info[i].v_samp_factor = chroma ? 1 : sampling;
    }
    library.restart_interval = (unsigned)recipe->restart;
    library.write_Adobe_marker = recipe->adobe;
    if (recipe->progressive)
        jpeg_simple_progression(&library);
    if (recipe->scans) {
        library.scan_info = recipe->scans;
        library.num_scans = recipe->scan_count;
    }
    jpeg_start_compress(&library, TRUE);
    while (library.next_scanline < library.image_height) {
        JSAMPROW row = (JSAMPROW)samples +
                       (size_t)library.next_scanline * (size_t)(recipe->width * recipe->components);
        jpeg_write_scanlines(&library, &row, 1);
    }
    jpeg_finish_compress(&library);
    jpeg_destroy_compress(&library);

    uint8_t *copy = checked_malloc(size); /* the library's block may be larger than the file */
    memcpy(copy, data, size);
    free(data);
    return (OcrBytes){copy, size};
}

OcrBytes make_grey_jpeg(int width, int height) {
    JpegRecipe recipe = {.width = width,
                         .height = height,
                         .components = 1,
                         .given = JCS_GRAYSCALE,
                         .stored = JCS_GRAYSCALE};
    uint8_t *samples = noise(1, width, height, 1);
    OcrBytes jpeg = make_jpeg(&recipe, samples);
    free(samples);
    return jpeg;
}

int png_channels(int color_type) {
    switch (color_type) {
    case PNG_COLOR_TYPE_RGB:
        return 3;
    case PNG_COLOR_TYPE_GRAY_ALPHA:
        return 2;
    case PNG_COLOR_TYPE_RGB_ALPHA:
        return 4;
    default:
        return 1;
    }
}

const uint8_t *test_palette(void) {
    static uint8_t palette[256 * 3];
    for (int i = 0; i < 256; i++) {
        palette[3 * i] = (uint8_t)i;
        palette[3 * i + 1] = (uint8_t)(255 - i);
        palette[3 * i + 2] = (uint8_t)(i * 7);
    }
    return palette;
}

static void append(png_structp library, png_bytep data, size_t size) {
    OcrBytes *file = png_get_io_ptr(library);
    uint8_t *grown = realloc((void *)file->data, file->size + size);
    assert_non_null(grown);
    memcpy(grown + file->size, data, size);
    *file = (OcrBytes){grown, file->size + size};
}

static void add_transparency(png_structp library, png_infop header, const PngRecipe *recipe,
                             const uint16_t *samples) {
    static png_byte alphas[256];
    png_color_16 color = {.gray = samples[0]};
    if (recipe->color_type == PNG_COLOR_TYPE_PALETTE) {
        for (int i = 0; i < 256; i++)
            alphas[i] = (png_byte)(i * 3);
        png_set_tRNS(library, header, alphas, 1 << recipe->depth, NULL);
        return;
    }
    if (recipe->color_type == PNG_COLOR_TYPE_RGB)
        color = (png_color_16){.red = samples[0], .green = samples[1], .blue = samples[2]};
    png_set_tRNS(library, header, NULL, 1, &color);
}

OcrBytes make_png(const PngRecipe *recipe, const uint16_t *samples) {
    OcrBytes file = {NULL, 0};
    png_structp library = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop header = png_create_info_struct(library);
    if (setjmp(png_jmpbuf(library)))
        fail_msg("libpng could not write the test's picture");
    png_set_write_fn(library, &file, append, NULL);
    png_set_IHDR(library, header, (png_uint_32)recipe->width, (png_uint_32)recipe->height,
                 recipe->depth, recipe->color_type,
                 recipe->interlaced ? PNG_INTERLACE_ADAM7 : PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_set_gAMA(library, header, 0.3); /* which nobody may apply */
    if (recipe->color_type == PNG_COLOR_TYPE_PALETTE)
        png_set_PLTE(library, header, (png_const_colorp)test_palette(), 1 << recipe->depth);
    if (recipe->transparency)
        add_transparency(library, header, recipe, samples);
    if (recipe->exif.size > 0)
        png_set_eXIf_1(library, header, (png_uint_32)recipe->exif.size,
                       (png_bytep)recipe->exif.data);
    png_write_info(library, header);
    png_set_packing(library); /* a byte a sample for depths below 8, too */

    size_t row_samples = (size_t)recipe->width * (size_t)png_channels(recipe->color_type);
    size_t sample_bytes = recipe->depth == 16 ? 2 : 1, row_bytes = row_samples * sample_bytes;
    uint8_t *rows = checked_malloc(row_bytes * (size_t)recipe->height);
    for (size_t i = 0; i < row_samples * (size_t)recipe->height; i++) {
        if (sample_bytes == 2)
            rows[2 * i] = (uint8_t)(samples[i] >> 8);
        rows[sample_bytes * (i + 1) - 1] = (uint8_t)samples[i];
    }
    int passes = png_set_interlace_handling(library);
    for (int pass = 0; pass < passes; pass++)
        for (int y = 0; y < recipe->height; y++)
            png_write_row(library, rows + row_bytes * (size_t)y);
    png_write_end(library, NULL);
    png_destroy_write_struct(&library, &header);
    free(rows);
    return file;
}

OcrBytes make_grey_png(int width, int height, bool interlaced) {
    PngRecipe recipe = {
        .width = width, .height = height, .color_type = PNG_COLOR_TYPE_GRAY, .depth = 8};
    recipe.interlaced = interlaced;
    size_t count = (size_t)width * (size_t)height;
    uint16_t *samples = (uint16_t *)checked_malloc(count * sizeof *samples);
    uint64_t seed = 2;
    for (size_t i = 0; i < count; i++)
        samples[i] = (uint8_t)random_next(&seed);
    OcrBytes png = make_png(&recipe, samples);
    free(samples);
    return png;
}

OcrBytes make_exif(int orientation, bool little) {
    static const uint8_t big[] = {'M', 'M', 0, '*', 0, 0, 0, 8,               /* directory at 8 */
                                  0,   2,                                     /* entries */
                                  1,   14,  0, 2,   0, 0, 0, 2, 'x', 0, 0, 0, /* a description */
                                  1,   18,  0, 3,   0, 0, 0, 1, 0,   0, 0, 0, /* orientation */
                                  0,   0,   0, 0};
    static const uint8_t small[] = {'I', 'I', '*', 0, 8, 0, 0, 0,               /**/
                                    2,   0,                                     /**/
                                    14,  1,   2,   0, 2, 0, 0, 0, 'x', 0, 0, 0, /**/
                                    18,  1,   3,   0, 1, 0, 0, 0, 0,   0, 0, 0, /**/
                                    0,   0,   0,   0};
    uint8_t *tiff = checked_malloc(sizeof big);
    memcpy(tiff, little ? small : big, sizeof big);
    tiff[30] = (uint8_t)(little ? orientation : orientation >> 8);
    tiff[31] = (uint8_t)(little ? orientation >> 8 : orientation);
    return (OcrBytes){tiff, sizeof big};
}

OcrBytes with_segment(OcrBytes jpeg, int marker, const void *body, size_t size) {
    uint8_t *data = checked_malloc(jpeg.size + size + 4);
    memcpy(data, jpeg.data, 2);
    data[2] = 0xFF;
    data[3] = (uint8_t)marker;
    data[4] = (uint8_t)((size + 2) >> 8);
    data[5] = (uint8_t)(size + 2);
    memcpy(data + 6, body, size);
    memcpy(data + 6 + size, jpeg.data + 2, jpeg.size - 2);
    return (OcrBytes){data, jpeg.size + size + 4};
}

OcrBytes with_exif(OcrBytes jpeg, OcrBytes tiff) {
    uint8_t *body = checked_malloc(tiff.size + 6);
    memcpy(body, "Exif\0\0", 6);
    memcpy(body + 6, tiff.data, tiff.size);
    OcrBytes result = with_segment(jpeg, 0xE1, body, tiff.size + 6);
    free(body);
    return result;
}

size_t find_chunk(OcrBytes png, const char *type, int n) {
    for (size_t at = 8; at + 12 <= png.size; at += 12 + png_get_uint_32(png.data + at))
        if (memcmp(png.data + at + 4, type, 4) == 0 && n-- == 0)
            return at;
    fail_msg("no %s chunk", type);
    return 0;
}

void mend_chunk(OcrBytes png, size_t at) {
    uint8_t *chunk = (uint8_t *)png.data + at;
    uint32_t size = png_get_uint_32(chunk);
    png_save_uint_32(chunk + 8 + size, (png_uint_32)crc32(0, chunk + 4, size + 4));
}

/* ---- reading ---- */

OcrCode read_picture(OcrBytes file, bool (*interrupted)(void), RgbImage *picture, OcrError *err) {
    OcrImageInfo info;
    OcrCode code = image_probe(file, 0, MANY_PIXELS, &info, err);
    if (code != OCR_OK)
        return code;
    uint8_t *buffer = checked_malloc(image_decode_bytes(&info));
    code = image_decode(file, &info, interrupted, buffer, picture, err);
    if (code != OCR_OK) {
        free(buffer);
        return code;
    }
    assert_ptr_equal(picture->pixels, buffer);
    assert_int_equal(picture->width, info.width);
    assert_int_equal(picture->height, info.height);
    return OCR_OK;
}

void assert_picture(OcrBytes file, int width, int height, const uint8_t *rgb) {
    OcrError err;
    RgbImage picture;
    assert_ok(read_picture(file, NULL, &picture, &err), &err);
    assert_int_equal(picture.width, width);
    assert_int_equal(picture.height, height);
    assert_memory_equal(picture.pixels, rgb, (size_t)width * (size_t)height * 3);
    free(picture.pixels);
}

void assert_unreadable(OcrBytes file, OcrCode code, const char *part) {
    OcrError err;
    RgbImage picture;
    assert_fails(read_picture(file, NULL, &picture, &err), &err, code, part);
}

/* ---- harming ---- */

static OcrBytes beginning(OcrBytes file, size_t size) {
    uint8_t *copy = checked_malloc(size);
    memcpy(copy, file.data, size);
    return (OcrBytes){copy, size};
}

void assert_truncations_fail(OcrBytes file, int most) {
    size_t step = (file.size + (size_t)most - 1) / (size_t)most;
    for (size_t size = 0; size < file.size; size += step) {
        OcrBytes part = beginning(file, size);
        OcrError err;
        RgbImage picture;
        OcrCode code = read_picture(part, NULL, &picture, &err);
        OcrCode expected = size == 0                               ? OCR_IMAGE_EMPTY
                           : size < 12 && code == OCR_IMAGE_FORMAT ? OCR_IMAGE_FORMAT
                                                                   : OCR_IMAGE_DAMAGED;
        if (code != expected)
            fail_msg("%zu of %zu bytes: code %d: %s", size, file.size, (int)code,
                     code == OCR_OK ? "decoded" : err.message);
        free_bytes(part);
    }
}

void survive_bit_flips(OcrBytes file, uint64_t seed, int rounds) {
    int readable = 0;
    for (int i = 0; i < rounds; i++) {
        OcrBytes copy = beginning(file, file.size);
        for (int flips = random_between(&seed, 1, 4); flips > 0; flips--) {
            uint64_t bit = random_next(&seed) % (file.size * 8);
            ((uint8_t *)copy.data)[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        OcrError err = {OCR_OK, ""};
        RgbImage picture;
        if (read_picture(copy, NULL, &picture, &err) == OCR_OK) {
            readable++;
            free(picture.pixels);
        } else {
            assert_true(err.code != OCR_OK && err.message[0] != '\0');
        }
        free_bytes(copy);
    }
    assert_true(readable < rounds); /* else the flips never reached the decoder */
}

static int calls, calls_allowed;

static bool count_down(void) {
    return ++calls > calls_allowed;
}

void assert_interruptible(OcrBytes file, int least, int most) {
    OcrError err;
    RgbImage picture;
    calls = 0;
    calls_allowed = INT32_MAX;
    assert_ok(read_picture(file, count_down, &picture, &err), &err);
    free(picture.pixels);
    int total = calls;
    assert_true(total >= least);

    for (calls_allowed = 0; calls_allowed < total; calls_allowed += total / most + 1) {
        calls = 0;
        assert_fails(read_picture(file, count_down, &picture, &err), &err, OCR_INTERRUPTED,
                     "interrupted");
        assert_int_equal(calls, calls_allowed + 1);
    }
}

OcrPool *pools[2];

int start_pools(void **state) {
    (void)state;
    OcrError err;
    return pool_create(1, &pools[0], &err) != OCR_OK || pool_create(3, &pools[1], &err) != OCR_OK;
}

int stop_pools(void **state) {
    (void)state;
    pool_destroy(pools[0]);
    pool_destroy(pools[1]);
    return 0;
}
