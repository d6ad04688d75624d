/*
 * tiffs.h - TIFF files made on the spot.
 */
#ifndef TEST_TIFFS_H
#define TEST_TIFFS_H

#include "pictures.h"

#include <tiffio.h>

typedef struct TiffRecipe {
    int width, height;
    int photometric, bits, samples; /* of a pixel */
    int compression;
    bool separate;    /* a plane for each sample */
    int tile;         /* side of the tiles; 0: strips */
    int rows;         /* in a strip; 0: all */
    int predictor;    /* 0: none */
    int orientation;  /* 0: not said */
    int extra;        /* kind of the first extra sample; 0: not said */
    int subfile;      /* type; 0: not said */
    const char *mode; /* of TIFFOpen; NULL: "w" */
} TiffRecipe;

/* samples of each page: [height][width][samples], each below 2^bits. */
OcrBytes make_tiff(const TiffRecipe *recipes, const uint16_t *const *samples, int pages);

/* A page whose one strip is this JPEG, grey if it has one component and YCbCr if three. */
OcrBytes wrap_jpeg(OcrBytes jpeg, int width, int height, int components);

/* The samples of one page, at random. */
uint16_t *random_tiff_samples(const TiffRecipe *recipe, uint64_t seed);

/* Offset of a tag's entry in the first directory of a little-endian classic TIFF. */
size_t find_entry(OcrBytes tiff, int tag);
/* Offset of the field that links the n-th directory (from 0) to the next one; n -1: the header's.
 */
size_t find_link(OcrBytes tiff, int n);

uint32_t get_le(const uint8_t *p, int bytes);
void put_le(OcrBytes file, size_t at, uint32_t value, int bytes);

#endif
