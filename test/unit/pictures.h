/*
 * pictures.h - image files made on the spot, and ways to harm them.
 *
 * Files are malloc'ed with exactly their size; free_bytes releases them.
 */
#ifndef TEST_PICTURES_H
#define TEST_PICTURES_H

#include "support.h"

#include "kernels/pool.h"
#include "vision/image.h"

#include <stdio.h>
#include <jpeglib.h>

/* A picture of the given size and number of channels, with noise in it. */
uint8_t *noise(uint64_t seed, int width, int height, int channels);

typedef struct JpegRecipe {
    int width, height, components;
    J_COLOR_SPACE given;         /* of the samples */
    J_COLOR_SPACE stored;        /* in the file */
    bool adobe;                  /* write Adobe's marker */
    int luma_sampling;           /* n x n luma samples for one of chroma; 0: 1 */
    int restart;                 /* blocks between restart markers; 0: none */
    const jpeg_scan_info *scans; /* [scan_count] of a progressive file; NULL: sequential */
    int scan_count;
    bool progressive; /* with the library's own scans */
} JpegRecipe;

/* samples: [height][width][components]. Quality 100, so that flat blocks keep their value. */
OcrBytes make_jpeg(const JpegRecipe *recipe, const uint8_t *samples);
/* A grey one of noise. */
OcrBytes make_grey_jpeg(int width, int height);

typedef struct PngRecipe {
    int width, height;
    int color_type, depth;
    bool interlaced, transparency; /* a tRNS chunk */
    OcrBytes exif;                 /* an eXIf chunk with this body; none if empty */
} PngRecipe;

int png_channels(int color_type); /* samples a pixel in the file */
/* palette: [256][3]. A fixed one, every entry different. */
const uint8_t *test_palette(void);
/* samples: [height][width][channels], each below 2^depth. */
OcrBytes make_png(const PngRecipe *recipe, const uint16_t *samples);
OcrBytes make_grey_png(int width, int height, bool interlaced);

/* A TIFF block that says `orientation`, in either byte order. */
OcrBytes make_exif(int orientation, bool little);
/* The JPEG with one more segment right behind its first marker. */
OcrBytes with_segment(OcrBytes jpeg, int marker, const void *body, size_t size);
/* The JPEG with the TIFF block as its EXIF. */
OcrBytes with_exif(OcrBytes jpeg, OcrBytes tiff);
/* Offset of the length field of the n-th chunk (from 0) of this type. */
size_t find_chunk(OcrBytes png, const char *type, int n);
/* Make the checksum of the chunk at this offset right again. */
void mend_chunk(OcrBytes png, size_t at);

/*
 * Probe and decode into a block of exactly the size asked for. On success the
 * picture's pixels are the caller's to free.
 */
OcrCode read_picture(OcrBytes file, bool (*interrupted)(void), RgbImage *picture, OcrError *err);

/* Decoding succeeds and gives width x height pixels equal to rgb [height][width][3]. */
void assert_picture(OcrBytes file, int width, int height, const uint8_t *rgb);
/* Decoding fails with this code. */
void assert_unreadable(OcrBytes file, OcrCode code, const char *part);

/* Every beginning of the file, at most `most` of them evenly spread, is an error of damage. */
void assert_truncations_fail(OcrBytes file, int most);
/* `rounds` copies with 1..4 bits turned over each decode or fail, but nothing worse. */
void survive_bit_flips(OcrBytes file, uint64_t seed, int rounds);

/*
 * Interrupt the decoding at the first call of the predicate, at the second and
 * so on, at most `most` of them evenly spread; it is called at least `least`
 * times in a decoding that is left alone.
 */
void assert_interruptible(OcrBytes file, int least, int most);

/* Pools of one thread and of three, for tests whose results must not depend on it. */
extern OcrPool *pools[2];
int start_pools(void **state);
int stop_pools(void **state);

#endif
