#include "tiffs.h"

#include <stdlib.h>
#include <string.h>

/* ---- a file in memory for the library to write ---- */

typedef struct Growing {
    uint8_t *data;
    size_t size, at;
} Growing;

static tmsize_t on_write(thandle_t handle, void *data, tmsize_t size) {
    Growing *file = handle;
    size_t end = file->at + (size_t)size;
    if (end > file->size) {
        file->data = realloc(file->data, end);
        assert_non_null(file->data);
        memset(file->data + file->size, 0, end - file->size);
        file->size = end;
    }
    memcpy(file->data + file->at, data, (size_t)size);
    file->at = end;
    return size;
}

static tmsize_t on_read(thandle_t handle, void *data, tmsize_t size) {
    Growing *file = handle;
    if (file->at + (size_t)size > file->size)
        return 0;
    memcpy(data, file->data + file->at, (size_t)size);
    file->at += (size_t)size;
    return size;
}

static toff_t on_seek(thandle_t handle, toff_t offset, int whence) {
    Growing *file = handle;
    file->at = offset + (whence == SEEK_CUR ? file->at : whence == SEEK_END ? file->size : 0);
    return file->at;
}

static int on_close(thandle_t handle) {
    (void)handle;
    return 0;
}

static toff_t on_size(thandle_t handle) {
    return ((Growing *)handle)->size;
}

/* ---- pages ---- */

/* `count` samples that lie `step` apart, packed into bits as the library wants them. */
static void pack(const TiffRecipe *recipe, const uint16_t *samples, int count, int step,
                 uint8_t *out) {
    memset(out, 0, ((size_t)count * (size_t)recipe->bits + 7) / 8);
    for (int i = 0; i < count; i++) {
        uint16_t sample = samples[i * step];
        if (recipe->bits == 16)
            memcpy(out + 2 * i, &sample, 2);
        else
            out[i * recipe->bits / 8] |=
                (uint8_t)(sample << (8 - recipe->bits - i * recipe->bits % 8));
    }
}

static void write_tags(TIFF *tiff, const TiffRecipe *recipe) {
    TIFFSetField(tiff, TIFFTAG_IMAGEWIDTH, recipe->width);
    TIFFSetField(tiff, TIFFTAG_IMAGELENGTH, recipe->height);
    TIFFSetField(tiff, TIFFTAG_BITSPERSAMPLE, recipe->bits);
    TIFFSetField(tiff, TIFFTAG_SAMPLESPERPIXEL, recipe->samples);
    TIFFSetField(tiff, TIFFTAG_PHOTOMETRIC, recipe->photometric);
    TIFFSetField(tiff, TIFFTAG_COMPRESSION, recipe->compression);
    TIFFSetField(tiff, TIFFTAG_PLANARCONFIG,
                 recipe->separate ? PLANARCONFIG_SEPARATE : PLANARCONFIG_CONTIG);
    if (recipe->tile > 0) {
        TIFFSetField(tiff, TIFFTAG_TILEWIDTH, recipe->tile);
        TIFFSetField(tiff, TIFFTAG_TILELENGTH, recipe->tile);
    } else {
        TIFFSetField(tiff, TIFFTAG_ROWSPERSTRIP, recipe->rows ? recipe->rows : recipe->height);
    }
    if (recipe->predictor > 0)
        TIFFSetField(tiff, TIFFTAG_PREDICTOR, recipe->predictor);
    if (recipe->orientation > 0)
        TIFFSetField(tiff, TIFFTAG_ORIENTATION, recipe->orientation);
    if (recipe->subfile > 0)
        TIFFSetField(tiff, TIFFTAG_SUBFILETYPE, recipe->subfile);
    if (recipe->extra > 0) {
        uint16_t kinds[] = {(uint16_t)recipe->extra};
        TIFFSetField(tiff, TIFFTAG_EXTRASAMPLES, 1, kinds);
    }
    if (recipe->photometric == PHOTOMETRIC_PALETTE) {
        uint16_t colors[3][256];
        for (int i = 0; i < 256; i++)
            for (int c = 0; c < 3; c++)
                colors[c][i] = (uint16_t)(test_palette()[3 * i + c] << 8 | 0x5A);
        TIFFSetField(tiff, TIFFTAG_COLORMAP, colors[0], colors[1], colors[2]);
    }
}

/* A plane's samples [height][width][together], from where the plane begins. */
static void write_plane(TIFF *tiff, const TiffRecipe *recipe, const uint16_t *samples, int plane) {
    int together = recipe->separate ? 1 : recipe->samples;
    int step = recipe->separate ? recipe->samples : 1, row = recipe->width * recipe->samples;
    int side = recipe->tile;
    uint8_t *out = calloc(1, (size_t)(TIFFScanlineSize(tiff) + TIFFTileSize(tiff)) + 16);
    if (side == 0)
        for (int y = 0; y < recipe->height; y++) {
            pack(recipe, samples + y * row, recipe->width * together, step, out);
            assert_int_equal(TIFFWriteScanline(tiff, out, (uint32_t)y, (uint16_t)plane), 1);
        }
    for (int top = 0; side > 0 && top < recipe->height; top += side)
        for (int left = 0; left < recipe->width; left += side) {
            int columns = recipe->width - left < side ? recipe->width - left : side;
            int bottom = recipe->height - top < side ? recipe->height : top + side;
            for (int y = top; y < bottom; y++)
                pack(recipe, samples + y * row + left * recipe->samples, columns * together, step,
                     out + (y - top) * TIFFTileRowSize(tiff));
            assert_true(
                TIFFWriteTile(tiff, out, (uint32_t)left, (uint32_t)top, 0, (uint16_t)plane) > 0);
        }
    free(out);
}

OcrBytes make_tiff(const TiffRecipe *recipes, const uint16_t *const *samples, int pages) {
    Growing file = {0};
    const char *mode = recipes[0].mode ? recipes[0].mode : "w";
    TIFFErrorHandler kept = TIFFSetWarningHandler(NULL);
    TIFF *tiff = TIFFClientOpen("test", mode, &file, on_read, on_write, on_seek, on_close, on_size,
                                NULL, NULL);
    assert_non_null(tiff);
    for (int i = 0; i < pages; i++) {
        write_tags(tiff, &recipes[i]);
        for (int plane = 0; plane < (recipes[i].separate ? recipes[i].samples : 1); plane++)
            write_plane(tiff, &recipes[i], samples[i] + plane, plane);
        assert_true(TIFFWriteDirectory(tiff));
    }
    TIFFClose(tiff);
    TIFFSetWarningHandler(kept);
    uint8_t *copy = malloc(file.size);
    memcpy(copy, file.data, file.size);
    free(file.data);
    return (OcrBytes){copy, file.size};
}

OcrBytes wrap_jpeg(OcrBytes jpeg, int width, int height, int components) {
    const uint32_t tags[][3] = {/* tag, type, value */
                                {TIFFTAG_IMAGEWIDTH, TIFF_LONG, (uint32_t)width},
                                {TIFFTAG_IMAGELENGTH, TIFF_LONG, (uint32_t)height},
                                {TIFFTAG_BITSPERSAMPLE, TIFF_SHORT, 8},
                                {TIFFTAG_COMPRESSION, TIFF_SHORT, COMPRESSION_JPEG},
                                {TIFFTAG_PHOTOMETRIC, TIFF_SHORT,
                                 components == 1 ? PHOTOMETRIC_MINISBLACK : PHOTOMETRIC_YCBCR},
                                {TIFFTAG_STRIPOFFSETS, TIFF_LONG, 8},
                                {TIFFTAG_SAMPLESPERPIXEL, TIFF_SHORT, (uint32_t)components},
                                {TIFFTAG_ROWSPERSTRIP, TIFF_LONG, (uint32_t)height},
                                {TIFFTAG_STRIPBYTECOUNTS, TIFF_LONG, (uint32_t)jpeg.size}};
    uint32_t count = sizeof tags / sizeof *tags;
    size_t directory = 8 + jpeg.size + jpeg.size % 2, size = directory + 2 + 12 * count + 4;
    OcrBytes file = {calloc(1, size), size};
    memcpy((uint8_t *)file.data, "II*", 3);
    memcpy((uint8_t *)file.data + 8, jpeg.data, jpeg.size);
    put_le(file, 4, (uint32_t)directory, 4);
    put_le(file, directory, count, 2);
    for (size_t i = 0, at = directory + 2; i < count; i++, at += 12) {
        put_le(file, at, tags[i][0], 2);
        put_le(file, at + 2, tags[i][1], 2);
        put_le(file, at + 4, 1, 4);
        put_le(file, at + 8, tags[i][2], 4);
    }
    return file;
}

uint16_t *random_tiff_samples(const TiffRecipe *recipe, uint64_t seed) {
    size_t count = (size_t)recipe->width * (size_t)recipe->height * (size_t)recipe->samples;
    uint16_t *samples = malloc(count * sizeof *samples);
    for (size_t i = 0; i < count; i++)
        samples[i] = (uint16_t)(random_next(&seed) & ((1u << recipe->bits) - 1));
    return samples;
}

/* ---- fields of a file ---- */

uint32_t get_le(const uint8_t *p, int bytes) {
    uint32_t value = 0;
    for (int i = 0; i < bytes; i++)
        value |= (uint32_t)p[i] << 8 * i;
    return value;
}

void put_le(OcrBytes file, size_t at, uint32_t value, int bytes) {
    assert_true(at + (size_t)bytes <= file.size);
    for (int i = 0; i < bytes; i++)
        ((uint8_t *)file.data)[at + (size_t)i] = (uint8_t)(value >> 8 * i);
}

size_t find_entry(OcrBytes tiff, int tag) {
    size_t at = get_le(tiff.data + 4, 4);
    for (uint32_t i = 0; i < get_le(tiff.data + at, 2); i++)
        if (get_le(tiff.data + at + 2 + 12 * i, 2) == (uint32_t)tag)
            return at + 2 + 12 * i;
    fail_msg("no tag %d", tag);
    return 0;
}

size_t find_link(OcrBytes tiff, int n) {
    size_t at = 4;
    for (; n >= 0; n--) {
        at = get_le(tiff.data + at, 4);
        at += 2 + 12 * get_le(tiff.data + at, 2);
    }
    return at;
}
