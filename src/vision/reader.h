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

typedef struct ImageReader {
    const char *signature; /* the file's first bytes */
    size_t signature_size;

    /*
     * Headers only, without allocating: fills stored_width and stored_height
     * (0..INT_MAX, unchecked) and, where the file has a sound one, orientation.
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

#endif
