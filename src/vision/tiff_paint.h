/*
 * tiff_paint.h - what the samples of a TIFF look like: rows of RGB.
 */
#ifndef OCR_TIFF_PAINT_H
#define OCR_TIFF_PAINT_H

#include "base/types.h"

typedef enum TiffPaintKind { PAINT_PALETTE, PAINT_RGB, PAINT_CMYK } TiffPaintKind;

typedef struct TiffPaint {
    TiffPaintKind kind;
    int bits;                /* of a sample: 1, 2, 4, 8, 16; 8 or 16 but for PAINT_PALETTE */
    int samples;             /* of a pixel; those beyond its colour are dropped */
    int together;            /* samples side by side in a row: all, or 1 if each has a plane */
    bool premultiplied;      /* RGB that was multiplied by the alpha that follows it */
    uint8_t palette[256][3]; /* of PAINT_PALETTE: by sample, or its high byte */
} TiffPaint;

/* The palette of greys. */
void tiff_paint_greys(TiffPaint *paint, bool zero_is_white);

/* How many planes there are to paint, in falling order: 1 if samples lie together. */
int tiff_paint_planes(const TiffPaint *paint);

/*
 * Paint a row, or its part in one plane. raw: the samples, those of 16 bits in
 * this machine's byte order; scratch: [pixels][together]; rgb: [pixels][3], which
 * holds the planes painted before.
 */
void tiff_paint_row(const TiffPaint *paint, int plane, const uint8_t *raw, uint8_t *scratch,
                    int pixels, uint8_t *rgb);

#endif
