/*
 * types.h - the few types that both sides of the door speak of.
 */
#ifndef OCR_TYPES_H
#define OCR_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How a picture is cut into views (spec 2.1). */
typedef enum OcrMode {
    OCR_MODE_AUTO, /* what the model recommends for the picture's size */
    OCR_MODE_TINY,
    OCR_MODE_SMALL,
    OCR_MODE_BASE,
    OCR_MODE_LARGE,
    OCR_MODE_GUNDAM,
    OCR_MODE_GUNDAM_M
} OcrMode;

#define OCR_MODE_COUNT 7

/* "gundam-m" and the like, as in SQL. */
const char *ocr_mode_name(OcrMode mode);
/* false if name is no mode; *mode is then untouched. */
bool ocr_mode_parse(const char *name, OcrMode *mode);

typedef enum OcrImageFormat {
    OCR_FORMAT_JPEG,
    OCR_FORMAT_PNG,
    OCR_FORMAT_TIFF,
    OCR_FORMAT_WEBP,
    OCR_FORMAT_PNM
} OcrImageFormat;

/* What the headers of an image file say. */
typedef struct OcrImageInfo {
    OcrImageFormat format;
    int page;                        /* which of the file's pictures, from 0 */
    int width, height;               /* upright, that is, after EXIF orientation; at least 1 */
    int stored_width, stored_height; /* as the file has them */
    int orientation;                 /* EXIF 1..8; 1 where absent or broken */
    size_t library_bytes; /* what the format's library may allocate to decode it, rows aside */
} OcrImageInfo;

/* The bytes of a file, owned by the caller and unchanged while in use. */
typedef struct OcrBytes {
    const uint8_t *data;
    size_t size;
} OcrBytes;

/* A text, or a part of one; no NUL ends it. */
typedef struct OcrText {
    const char *bytes; /* UTF-8 */
    size_t length;
} OcrText;

/* Of the upright picture, in pixels; y grows downwards. right and bottom lie just outside. */
typedef struct OcrBox {
    int left, top, right, bottom; /* 0 <= left <= right <= width, and so downwards */
} OcrBox;

/*
 * A part of a page's text, and where it stands (spec 7). What one markup of the
 * model announces is a block. It has a region for each of its boxes, or a single
 * one without a box; the first of them holds the block's text. What the model
 * writes ahead of all markup is a block too, without label and box.
 */
typedef struct OcrRegion {
    int block;     /* from 1, in the order of the text */
    OcrText label; /* "title", "table" or any other text; bytes NULL: none */
    OcrText text;  /* stripped; bytes NULL: it stands in the block's first region */
    bool has_box;
    OcrBox box;
} OcrRegion;

/* A picture, and what is to be drawn into it. */
typedef struct OcrAnnotation {
    OcrBytes file;
    const OcrImageInfo *image; /* of the file */
    const OcrRegion *regions;  /* [region_count] of this picture */
    int region_count;
} OcrAnnotation;

/* How a smaller copy of a model holds its matrices. */
typedef enum OcrQuantType { OCR_QUANT_Q8, OCR_QUANT_Q4 } OcrQuantType;

/* Why a page's text ends where it does. */
typedef enum OcrFinish {
    OCR_FINISH_STOP,   /* the model said so */
    OCR_FINISH_LENGTH, /* max_tokens, or the model's context is full */
    OCR_FINISH_LOOP,   /* one phrase over and over; the repeats are cut off */
    OCR_FINISH_UNSURE  /* too little confidence, in all or at the end; what lacks it is cut off */
} OcrFinish;

#endif
