#include "vision/tiff_paint.h"

#include "base/numbers.h"
#include "vision/reader.h"

void tiff_paint_greys(TiffPaint *paint, bool zero_is_white) {
    int most = paint->bits < 8 ? (1 << paint->bits) - 1 : 255;
    for (int i = 0; i <= most; i++)
        memset(paint->palette[i], (zero_is_white ? most - i : i) * (255 / most), 3);
}

static bool in_planes(const TiffPaint *paint) {
    return paint->together < paint->samples && paint->kind != PAINT_PALETTE;
}

int tiff_paint_planes(const TiffPaint *paint) {
    if (!in_planes(paint))
        return 1;
    return paint->kind == PAINT_RGB ? 3 : 4;
}

/* A byte for each of `count` samples: of 16 bits the high one. */
static const uint8_t *unpack(int bits, const uint8_t *raw, int count, uint8_t *scratch) {
    if (bits == 8)
        return raw;
    if (bits == 16) {
        for (int i = 0; i < count; i++) {
            uint16_t sample;
            memcpy(&sample, raw + 2 * (size_t)i, 2);
            scratch[i] = (uint8_t)(sample >> 8);
        }
        return scratch;
    }
    int mask = (1 << bits) - 1;
    for (int i = 0, shift = 8 - bits; i < count; i++, shift = (shift - bits) & 7) {
        scratch[i] = (uint8_t)(*raw >> shift & mask);
        raw += shift == 0;
    }
    return scratch;
}

/* A colour before it was multiplied by its alpha, rounded as Pillow does. */
static uint8_t divided(int color, int alpha) {
    return alpha == 0 ? 0 : (uint8_t)min_int(color * 255 / alpha, 255);
}

/* s: [pixels][together], rgb: [pixels][3] */
static void paint_pixels(const TiffPaint *paint, const uint8_t *s, int pixels, uint8_t *rgb) {
    bool premultiplied = paint->premultiplied;
    TiffPaintKind kind = paint->kind;
    int step = paint->together;
    for (int x = 0; x < pixels; x++, s += step, rgb += 3) {
        if (kind == PAINT_PALETTE)
            memcpy(rgb, paint->palette[s[0]], 3);
        else if (kind == PAINT_RGB && !premultiplied)
            memcpy(rgb, s, 3);
        else
            for (int c = 0; c < 3; c++)
                rgb[c] = premultiplied ? divided(s[c], s[3]) : through_ink(255 - s[3], s[c]);
    }
}

/*
 * Of CMYK black, the last plane, comes first and leaves the paper's brightness
 * in rgb, on which the other inks are put. s: [pixels], rgb: [pixels][3]
 */
static void paint_plane(TiffPaintKind kind, int plane, const uint8_t *s, int pixels, uint8_t *rgb) {
    for (int x = 0; x < pixels; x++, rgb += 3) {
        if (kind == PAINT_RGB)
            rgb[plane] = s[x];
        else if (plane == 3)
            memset(rgb, 255 - s[x], 3);
        else
            rgb[plane] = through_ink(rgb[plane], s[x]);
    }
}

void tiff_paint_row(const TiffPaint *paint, int plane, const uint8_t *raw, uint8_t *scratch,
                    int pixels, uint8_t *rgb) {
    const uint8_t *samples = unpack(paint->bits, raw, pixels * paint->together, scratch);
    if (in_planes(paint))
        paint_plane(paint->kind, plane, samples, pixels, rgb);
    else
        paint_pixels(paint, samples, pixels, rgb);
}
