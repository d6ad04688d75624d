#include "vision/annotate.h"

#include "base/character.h"
#include "base/hash.h"
#include "base/numbers.h"
#include "vision/face.h"
#include "vision/image.h"
#include "vision/jpeg_write.h"

#include <stdio.h>
#include <string.h>

/* One pixel of a letter, and the breadth of a line, for this many pixels of width and height. */
#define SIDES_PER_PEN 800

/* Longest label, in characters; what is longer is cut. */
#define MAX_LABEL 40

typedef struct Colour {
    uint8_t red, green, blue;
} Colour;

static const Colour white = {255, 255, 255};

/* Labels that the model gives to the parts of a document. White letters are legible on all. */
static const struct {
    const char *label;
    Colour colour;
} colours[] = {
    {"title", {0xB3, 0x26, 0x1E}},         {"sub_title", {0xA8, 0x59, 0x0A}},
    {"text", {0x1F, 0x5F, 0xBF}},          {"image", {0x1B, 0x7A, 0x3D}},
    {"image_caption", {0x4E, 0x70, 0x1B}}, {"table", {0x7A, 0x2F, 0xA8}},
    {"table_caption", {0xA0, 0x30, 0x7F}}, {"table_footnote", {0x6B, 0x4F, 0x6B}},
    {"equation", {0x0B, 0x72, 0x85}},
};
#define COLOURS (sizeof colours / sizeof *colours)

static Colour colour_of(OcrText label) {
    for (size_t i = 0; i < COLOURS; i++)
        if (strlen(colours[i].label) == label.length &&
            memcmp(colours[i].label, label.bytes, label.length) == 0)
            return colours[i].colour;
    return colours[hash_bytes(0, label.bytes, label.length) % COLOURS].colour;
}

/* As much of the box as lies in the picture. */
static void fill(const RgbImage *picture, OcrBox box, Colour colour) {
    int left = max_int(box.left, 0), right = min_int(box.right, picture->width);
    int top = max_int(box.top, 0), bottom = min_int(box.bottom, picture->height);
    for (int y = top; y < bottom; y++)
        for (int x = left; x < right; x++)
            memcpy(picture->pixels + 3 * ((size_t)y * (size_t)picture->width + (size_t)x), &colour,
                   3);
}

/* Lines that are pen broad, inside the box; a narrower one becomes a line, be it at the edge. */
static void draw_frame(const RgbImage *picture, OcrBox box, int pen, Colour colour) {
    box.left = min_int(box.left, picture->width - pen);
    box.top = min_int(box.top, picture->height - pen);
    box.right = max_int(box.right, box.left + pen);
    box.bottom = max_int(box.bottom, box.top + pen);
    fill(picture, (OcrBox){box.left, box.top, box.right, box.top + pen}, colour);
    fill(picture, (OcrBox){box.left, box.bottom - pen, box.right, box.bottom}, colour);
    fill(picture, (OcrBox){box.left, box.top, box.left + pen, box.bottom}, colour);
    fill(picture, (OcrBox){box.right - pen, box.top, box.right, box.bottom}, colour);
}

/* Into characters of the face; returns how many. */
static int letters_of(const OcrRegion *region, char letters[MAX_LABEL]) {
    int count = snprintf(letters, MAX_LABEL, "%d ", region->block);
    OcrText rest = region->label;
    while (rest.length > 0 && count < MAX_LABEL) {
        int size = utf8_character(rest.bytes, rest.length);
        bool printable = *rest.bytes >= ' ' && *rest.bytes < FACE_UNKNOWN;
        letters[count++] = printable ? *rest.bytes : FACE_UNKNOWN;
        size = size > 0 ? size : -size;
        rest.bytes += size;
        rest.length -= (size_t)size;
    }
    return count;
}

/* White on a tag that sits on the upper left corner, below the edge where there is no room above.
 */
static void draw_tag(const RgbImage *picture, const OcrRegion *region, int pen, Colour colour) {
    char letters[MAX_LABEL];
    int count = letters_of(region, letters);
    int width = pen * (count * (FACE_WIDTH + 1) + 1), height = pen * (FACE_HEIGHT + 1);
    int left = max_int(min_int(region->box.left, picture->width - width), 0);
    int top = region->box.top < height ? region->box.top : region->box.top - height;
    top = max_int(min_int(top, picture->height - height), 0);
    fill(picture, (OcrBox){left, top, left + width, top + height}, colour);
    for (int i = 0; i < count; i++, left += pen * (FACE_WIDTH + 1))
        for (int y = 0; y < FACE_HEIGHT; y++)
            for (int x = 0; x < FACE_WIDTH; x++)
                if (face_ink(letters[i], x, y)) {
                    OcrBox dot = {left + pen * (x + 1), top + pen * (y + 1), left + pen * (x + 2),
                                  top + pen * (y + 2)};
                    fill(picture, dot, white);
                }
}

/* First all frames: a tag is to be read, whatever box begins beside it. */
static OcrCode draw(const RgbImage *picture, const OcrAnnotation *annotation,
                    bool (*interrupted)(void), OcrError *err) {
    int pen = max_int((picture->width + picture->height) / SIDES_PER_PEN, 1);
    for (int tags = 0; tags < 2; tags++)
        for (int i = 0; i < annotation->region_count; i++) {
            const OcrRegion *region = &annotation->regions[i];
            if (!region->has_box)
                continue;
            if (interrupted && interrupted())
                return ocr_fail(err, OCR_INTERRUPTED, "interrupted while drawing boxes");
            Colour colour = colour_of(region->label);
            if (tags)
                draw_tag(picture, region, pen, colour);
            else
                draw_frame(picture, region->box, pen, colour);
        }
    return OCR_OK;
}

OcrCode annotate_bytes(const OcrImageInfo *image, size_t *bytes, OcrError *err) {
    if (image->width > JPEG_MAX_SIDE || image->height > JPEG_MAX_SIDE)
        return ocr_fail(err, OCR_IMAGE_UNSUPPORTED,
                        "the image is %d x %d pixels; as a JPEG it may have at most %d on a side",
                        image->width, image->height, JPEG_MAX_SIDE);
    *bytes = image_decode_bytes(image) + jpeg_write_bytes(image->width, image->height);
    return OCR_OK;
}

OcrCode annotate_picture(const OcrAnnotation *annotation, bool (*interrupted)(void), void *block,
                         OcrBytes *jpeg, OcrError *err) {
    uint8_t *file = (uint8_t *)block + image_decode_bytes(annotation->image);
    RgbImage picture;
    size_t size;
    OcrCode code =
        image_decode(annotation->file, annotation->image, interrupted, block, &picture, err);
    if (!code)
        code = draw(&picture, annotation, interrupted, err);
    if (!code)
        code = jpeg_write(&picture, interrupted, file, &size, err);
    if (!code)
        *jpeg = (OcrBytes){file, size};
    return code;
}
