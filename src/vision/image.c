/*
 * image.c - which reader a file needs, and the turn that makes it upright.
 */
#include "vision/image.h"

#include "base/numbers.h"
#include "vision/reader.h"

#include <stdio.h>
#include <string.h>

/* libpng works row by row; this keeps a row, and so the wait for an interrupt, short. */
#define MAX_SIDE 1000000

static const ImageReader *const readers[] = {
    [OCR_FORMAT_JPEG] = &jpeg_reader, [OCR_FORMAT_PNG] = &png_reader,
    [OCR_FORMAT_TIFF] = &tiff_reader, [OCR_FORMAT_WEBP] = &webp_reader,
    [OCR_FORMAT_PNM] = &pnm_reader,
};

static OcrCode recognise(OcrBytes file, OcrImageFormat *format, OcrError *err) {
    if (file.size == 0)
        return ocr_fail(err, OCR_IMAGE_EMPTY, "the image has no bytes");
    for (size_t i = 0; i < sizeof readers / sizeof *readers; i++)
        if (readers[i]->matches(file)) {
            *format = (OcrImageFormat)i;
            return OCR_OK;
        }
    char start[4 * 3 + 1] = "";
    for (size_t i = 0; i < 4 && i < file.size; i++)
        snprintf(start + 3 * i, sizeof start - 3 * i, " %02x", file.data[i]);
    return ocr_fail(err, OCR_IMAGE_FORMAT,
                    "not an image of a known format (%zu bytes that begin with%s)", file.size,
                    start);
}

OcrCode image_count(OcrBytes file, int *pages, OcrError *err) {
    OcrImageFormat format;
    OcrCode code = recognise(file, &format, err);
    *pages = 1;
    return code == OCR_OK && readers[format]->count ? readers[format]->count(file, pages, err)
                                                    : code;
}

OcrCode image_probe(OcrBytes file, int page, int64_t max_pixels, OcrImageInfo *info,
                    OcrError *err) {
    OcrImageInfo found = {.page = page, .orientation = 1};
    OcrCode code = recognise(file, &found.format, err);
    if (code == OCR_OK && page > 0 && !readers[found.format]->count)
        return ocr_fail(err, OCR_IMAGE_EMPTY, "the image has one page");
    if (code == OCR_OK)
        code = readers[found.format]->probe(file, &found, err);
    if (code != OCR_OK)
        return code;

    int width = found.stored_width, height = found.stored_height;
    if (width == 0 || height == 0)
        return ocr_fail(err, OCR_IMAGE_EMPTY, "the image is %d x %d pixels: there is nothing in it",
                        width, height);
    if (width > MAX_SIDE || height > MAX_SIDE)
        return ocr_fail(err, OCR_IMAGE_TOO_LARGE,
                        "the image is %d x %d pixels; a side may have at most %d", width, height,
                        MAX_SIDE);
    if ((int64_t)width * height > max_pixels)
        return ocr_fail(err, OCR_IMAGE_TOO_LARGE,
                        "the image is %d x %d pixels, more than the %lld that are allowed", width,
                        height, (long long)max_pixels);
    bool on_its_side = found.orientation >= 5;
    found.width = on_its_side ? height : width;
    found.height = on_its_side ? width : height;
    *info = found;
    return OCR_OK;
}

static size_t stored_bytes(const OcrImageInfo *info) {
    return (size_t)info->stored_width * (size_t)info->stored_height * 3;
}

size_t image_decode_bytes(const OcrImageInfo *info) {
    return stored_bytes(info) * (info->orientation == 1 ? 1 : 2);
}

/*
 * Where an upright pixel lies in the stored picture (spec 2.2): mirrored counts
 * columns from the right, flipped counts rows from below, transposed swaps the
 * upright row and column first.
 */
static const struct {
    bool mirrored, flipped, transposed;
} turns[9] = {
    [2] = {true, false, false}, [3] = {true, true, false}, [4] = {false, true, false},
    [5] = {false, false, true}, [6] = {false, true, true}, [7] = {true, true, true},
    [8] = {true, false, true},
};

/* Pixels move in squares of this side, so that both pictures stay in the cache. */
#define SQUARE 64

/* stored: [stored_height][stored_width][3], upright: [height][width][3] */
static OcrCode turn_upright(const OcrImageInfo *info, const uint8_t *stored,
                            bool (*interrupted)(void), uint8_t *upright, OcrError *err) {
    bool mirrored = turns[info->orientation].mirrored;
    bool flipped = turns[info->orientation].flipped;
    ptrdiff_t row = 3 * (ptrdiff_t)info->stored_width;
    ptrdiff_t across = mirrored ? -3 : 3, down = flipped ? -row : row;
    stored += (mirrored ? row - 3 : 0) + (flipped ? row * (info->stored_height - 1) : 0);
    if (turns[info->orientation].transposed) {
        ptrdiff_t swap = across;
        across = down;
        down = swap;
    }

    for (int top = 0; top < info->height; top += SQUARE)
        for (int left = 0; left < info->width; left += SQUARE) {
            if (interrupted && interrupted())
                return ocr_fail(err, OCR_INTERRUPTED, "interrupted while turning an image");
            int bottom = min_int(top + SQUARE, info->height);
            int right = min_int(left + SQUARE, info->width);
            for (int y = top; y < bottom; y++) {
                uint8_t *to = upright + 3 * ((ptrdiff_t)y * info->width + left);
                const uint8_t *from = stored + y * down + left * across;
                for (int x = left; x < right; x++, to += 3, from += across)
                    memcpy(to, from, 3);
            }
        }
    return OCR_OK;
}

OcrCode image_decode(OcrBytes file, const OcrImageInfo *info, bool (*interrupted)(void),
                     void *buffer, RgbImage *out, OcrError *err) {
    uint8_t *upright = buffer;
    uint8_t *stored = info->orientation == 1 ? upright : upright + stored_bytes(info);
    OcrCode code = readers[info->format]->decode(file, info, interrupted, stored, err);
    if (code == OCR_OK && stored != upright)
        code = turn_upright(info, stored, interrupted, upright, err);
    if (code == OCR_OK)
        *out = (RgbImage){upright, info->width, info->height};
    return code;
}
