/*
 * reader.h - what image.c needs from the reader of one file format.
 *
 * A reader deals with the picture as it is stored; turning it upright and
 * judging its size is image.c's business. Each reader is one file and keeps the
 * error jumps of its library inside.
 */
#ifndef OCR_READER_H
#define OCR_READER_H

#include "base/status.h"
#include "base/types.h"

#include <string.h>

typedef struct ImageReader {
    /* Do the file's first bytes say that it is of this format? */
    bool (*matches)(OcrBytes file);

    /* Number of pictures in the file; NULL where the format holds one. */
    OcrCode (*count)(OcrBytes file, int *pages, OcrError *err);

    /*
     * Headers of picture info->page, without allocating: fills stored_width and
     * stored_height (0..INT_MAX, unchecked), library_bytes where it is not 0 and,
     * where the file has a sound one, orientation.
     */
    OcrCode (*probe)(OcrBytes file, OcrImageInfo *info, OcrError *err);

    /*
     * pixels: [stored_height][stored_width][3]. What the library says of the
     * picture's size is checked against info. interrupted may be NULL.
     */
    OcrCode (*decode)(OcrBytes file, const OcrImageInfo *info, bool (*interrupted)(void),
                      uint8_t *pixels, OcrError *err);
} ImageReader;

extern const ImageReader jpeg_reader;
extern const ImageReader png_reader;
extern const ImageReader tiff_reader;
extern const ImageReader webp_reader;
extern const ImageReader pnm_reader;

/* What the headers of a JPEG say, up to its first scan; zeros where they are broken. */
typedef struct JpegHeader {
    bool framed; /* there is a frame header: the next three are from there */
    int width, height, components;
    bool several_scans; /* progressive, arithmetic, a scan for each colour: several passes */
} JpegHeader;

JpegHeader jpeg_header(OcrBytes file);

static inline bool begins_with(OcrBytes file, const char *signature, size_t size) {
    return file.size >= size && memcmp(file.data, signature, size) == 0;
}

/*
 * What light paper of this brightness sends back through the ink of one colour,
 * for CMYK: brightness is 255 minus black. The rounded division by 255 is
 * Pillow's (spec 2.2).
 */
static inline uint8_t through_ink(int brightness, int ink) {
    int t = ink * brightness + 128;
    return (uint8_t)(brightness - ((t + (t >> 8)) >> 8));
}

#endif
