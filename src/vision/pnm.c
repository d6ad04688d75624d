/*
 * pnm.c - portable bitmaps, greymaps and pixmaps: what programs that draw pages
 * write, one picture after the other.
 *
 * The binary kinds are read, P4, P5 and P6, with 255 as the largest sample.
 */
#include "vision/pnm.h"

#include "vision/reader.h"

#include <limits.h>

typedef enum Found { FOUND_SOUND, FOUND_CUT, FOUND_BROKEN } Found;

typedef struct Header {
    int kind; /* 4: bits, 1 is black; 5: greys; 6: RGB */
    int width, height;
    size_t size; /* of the header */
} Header;

static bool is_blank(uint8_t c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool is_digit(uint8_t c) {
    return c >= '0' && c <= '9';
}

static bool matches(OcrBytes file) {
    return file.size >= 3 && file.data[0] == 'P' && file.data[1] >= '4' && file.data[1] <= '6' &&
           is_blank(file.data[2]);
}

/* The number at *at, behind blanks and comments, which go from # to the line's end. */
static Found next_number(OcrBytes file, size_t *at, int *number) {
    size_t i = *at;
    for (bool comment = false; i < file.size; i++) {
        comment = comment ? file.data[i] != '\n' : file.data[i] == '#';
        if (!comment && !is_blank(file.data[i]))
            break;
    }
    if (i < file.size && !is_digit(file.data[i]))
        return FOUND_BROKEN;
    int64_t value = 0;
    for (; i < file.size && is_digit(file.data[i]); i++) {
        value = value * 10 + (file.data[i] - '0');
        if (value > INT_MAX)
            return FOUND_BROKEN;
    }
    *number = (int)value;
    *at = i;
    return i < file.size ? FOUND_SOUND : FOUND_CUT;
}

/* Kind, width, height, for greys and colours the largest sample; one blank ends it. */
static Found read_header(OcrBytes file, Header *header) {
    *header = (Header){.size = 2};
    if (file.size < 3)
        return FOUND_CUT;
    if (!matches(file))
        return FOUND_BROKEN;
    header->kind = file.data[1] - '0';
    int largest = 255;
    Found found = next_number(file, &header->size, &header->width);
    if (found == FOUND_SOUND)
        found = next_number(file, &header->size, &header->height);
    if (found == FOUND_SOUND && header->kind > 4)
        found = next_number(file, &header->size, &largest);
    if (found == FOUND_SOUND && (largest != 255 || !is_blank(file.data[header->size++])))
        found = FOUND_BROKEN;
    return found;
}

static uint64_t row_bytes(const Header *header) {
    uint64_t width = (uint64_t)header->width;
    return header->kind == 4 ? (width + 7) / 8 : header->kind == 5 ? width : 3 * width;
}

static OcrCode broken(OcrError *err) {
    return ocr_fail(err, OCR_IMAGE_DAMAGED,
                    "the PNM is damaged, cut short, or not of 8 bits for a sample");
}

OcrCode pnm_length(OcrBytes beginning, uint64_t *length, OcrError *err) {
    Header header;
    *length = 0;
    switch (read_header(beginning, &header)) {
    case FOUND_BROKEN:
        return broken(err);
    case FOUND_CUT:
        return OCR_OK;
    case FOUND_SOUND: /* at most 3 * 2^31 * 2^31 */
        *length = header.size + row_bytes(&header) * (uint64_t)header.height;
    }
    return OCR_OK;
}

static OcrCode probe(OcrBytes file, OcrImageInfo *info, OcrError *err) {
    Header header;
    if (read_header(file, &header) != FOUND_SOUND)
        return broken(err);
    info->stored_width = header.width;
    info->stored_height = header.height;
    return OCR_OK;
}

/* from: a row of the file, rgb: [width][3] */
static void read_row(const Header *header, const uint8_t *from, uint8_t *rgb) {
    if (header->kind == 6) {
        memcpy(rgb, from, row_bytes(header));
        return;
    }
    for (int x = 0; x < header->width; x++, rgb += 3) {
        bool black = header->kind == 4 && from[x / 8] >> (7 - x % 8) & 1;
        memset(rgb, header->kind == 5 ? from[x] : black ? 0 : 255, 3);
    }
}

static OcrCode decode(OcrBytes file, const OcrImageInfo *info, bool (*interrupted)(void),
                      uint8_t *pixels, OcrError *err) {
    Header header;
    if (read_header(file, &header) != FOUND_SOUND || header.width != info->stored_width ||
        header.height != info->stored_height ||
        row_bytes(&header) * (uint64_t)header.height > file.size - header.size)
        return broken(err);
    const uint8_t *from = file.data + header.size;
    for (int y = 0; y < header.height; y++) {
        if (interrupted && interrupted())
            return ocr_fail(err, OCR_INTERRUPTED, "interrupted while decoding a PNM");
        read_row(&header, from, pixels + 3 * (size_t)y * (size_t)header.width);
        from += row_bytes(&header);
    }
    return OCR_OK;
}

const ImageReader pnm_reader = {matches, NULL, probe, decode};
