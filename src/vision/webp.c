/*
 * webp.c - WebP by libwebp: still pictures, lossy and lossless.
 *
 * Alpha is dropped, not composited, as in the reference (spec 2.2). Animations
 * are refused.
 *
 * The library is given the file in pieces, between which it can be interrupted;
 * a piece decodes as many rows as it completes. What it allocates is freed with
 * its decoder. A file that is shorter than it says,
 * and data that end too early, are errors; there are no checksums.
 */
#include "vision/reader.h"

#include "vision/exif.h"

#include <webp/decode.h>

/*
 * A file is a list of chunks in a frame of 12 bytes: "RIFF", size, "WEBP". A
 * chunk is a name in 4 bytes, the size of its body in 4, and the body, filled up
 * to an even size.
 */
#define FRAME_SIZE 12
#define CHUNK_HEAD 8

/* A file has about ten chunks; more than these are not searched for its EXIF. */
#define MAX_CHUNKS 1000

#define FLAG_EXIF 0x08 /* in the first byte of VP8X: there is a chunk EXIF */

/* The library gets the file in pieces: so many, but not smaller than this. */
#define PIECES 500
#define SMALLEST_PIECE 128

#define LIBRARY_BYTES 5 /* a pixel */

/* ---- headers ---- */

static bool matches(OcrBytes file) {
    return file.size >= FRAME_SIZE && memcmp(file.data, "RIFF", 4) == 0 &&
           memcmp(file.data + 8, "WEBP", 4) == 0;
}

static uint32_t get32(const uint8_t *p) {
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* The body of the chunk of this name; no bytes if there is none that is whole. */
static OcrBytes find_chunk(OcrBytes file, const char *name) {
    size_t at = FRAME_SIZE;
    for (int i = 0; i < MAX_CHUNKS && file.size - at >= CHUNK_HEAD; i++) {
        const uint8_t *chunk = file.data + at;
        size_t size = get32(chunk + 4), room = file.size - at - CHUNK_HEAD;
        if (size > room)
            break;
        if (memcmp(chunk, name, 4) == 0)
            return (OcrBytes){chunk + CHUNK_HEAD, size};
        if (size == room)
            break;
        at += CHUNK_HEAD + size + size % 2;
    }
    return (OcrBytes){NULL, 0};
}

static OcrCode damage(OcrError *err) {
    return ocr_fail(err, OCR_IMAGE_DAMAGED, "the WebP is damaged or cut short");
}

static int stored_orientation(OcrBytes file) {
    OcrBytes header = find_chunk(file, "VP8X");
    if (header.size == 0 || !(header.data[0] & FLAG_EXIF))
        return 1;
    OcrBytes exif = find_chunk(file, "EXIF");
    if (begins_with(exif, "Exif\0\0", 6)) /* as in JPEG; it should not be there */
        exif = (OcrBytes){exif.data + 6, exif.size - 6};
    return exif_orientation(exif);
}

static OcrCode probe(OcrBytes file, OcrImageInfo *info, OcrError *err) {
    WebPBitstreamFeatures features;
    if (WebPGetFeatures(file.data, file.size, &features) != VP8_STATUS_OK)
        return damage(err);
    if (features.has_animation)
        return ocr_fail(err, OCR_IMAGE_UNSUPPORTED,
                        "the WebP is an animation; still pictures are read");
    info->stored_width = features.width;
    info->stored_height = features.height;
    info->orientation = stored_orientation(file);
    info->library_bytes = LIBRARY_BYTES * (size_t)features.width * (size_t)features.height;
    return OCR_OK;
}

/* ---- pixels ---- */

static OcrCode decode_pieces(WebPIDecoder *library, OcrBytes file, bool (*interrupted)(void),
                             OcrError *err) {
    size_t piece = file.size / PIECES;
    if (piece < SMALLEST_PIECE)
        piece = SMALLEST_PIECE;
    for (size_t given = 0; given < file.size;) {
        if (interrupted && interrupted())
            return ocr_fail(err, OCR_INTERRUPTED, "interrupted while decoding a WebP");
        given = file.size - given > piece ? given + piece : file.size;
        switch (WebPIUpdate(library, file.data, given)) {
        case VP8_STATUS_OK:
            return OCR_OK;
        case VP8_STATUS_SUSPENDED:
            break;
        case VP8_STATUS_OUT_OF_MEMORY:
            return ocr_fail(err, OCR_OUT_OF_MEMORY, "no memory for decoding a WebP");
        default:
            return damage(err);
        }
    }
    return damage(err);
}

static OcrCode decode(OcrBytes file, const OcrImageInfo *info, bool (*interrupted)(void),
                      uint8_t *pixels, OcrError *err) {
    size_t row_bytes = 3 * (size_t)info->stored_width;
    WebPDecoderConfig config;
    if (get32(file.data + 4) > file.size - 8)
        return damage(err);
    if (!WebPInitDecoderConfig(&config))
        return ocr_fail(err, OCR_SYSTEM, "libwebp is not the version that this was built with");
    if (WebPGetFeatures(file.data, file.size, &config.input) != VP8_STATUS_OK ||
        config.input.width != info->stored_width || config.input.height != info->stored_height)
        return damage(err);
    config.output.colorspace = MODE_RGB;
    config.output.is_external_memory = 1;
    config.output.u.RGBA.rgba = pixels;
    config.output.u.RGBA.stride = (int)row_bytes;
    config.output.u.RGBA.size = row_bytes * (size_t)info->stored_height;
    WebPIDecoder *library = WebPIDecode(NULL, 0, &config);
    if (!library)
        return ocr_fail(err, OCR_OUT_OF_MEMORY, "no memory for decoding a WebP");
    OcrCode code = decode_pieces(library, file, interrupted, err);
    WebPIDelete(library);
    return code;
}

const ImageReader webp_reader = {matches, NULL, probe, decode};
