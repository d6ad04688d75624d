/*
 * png.c - PNG by libpng.
 *
 * Every colour type and depth becomes 8-bit RGB inside the library. Alpha is
 * dropped, not composited, as in the reference (spec 2.2): colours hidden under
 * transparency show. Of 16-bit samples the high byte is kept, for grey too,
 * where versions of the reference disagree.
 *
 * Damage: a critical chunk whose checksum is wrong, missing data and a missing
 * end are errors. The other chunks are passed over unread, so what is wrong in
 * them does not matter, and neither can a compressed text or profile swell: the
 * library holds a few rows and zlib's window, whatever the file says. Only
 * eXIf is looked at, by probe, and only if its checksum is right.
 *
 * Errors jump from the library into decode_pixels; see jpeg.c.
 */
#include "vision/reader.h"

#include "vision/exif.h"

#include <limits.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <png.h>
#include <zlib.h>

#define SIGNATURE_SIZE 8
#define IHDR_SIZE 13

/* How far eXIf is searched for, in chunks, which hold 8 kB as a rule; and how large it may be. */
#define MAX_CHUNKS 1000000
#define MAX_CHECKED_SIZE (1 << 24)

/* ---- headers ---- */

typedef struct Chunk {
    const uint8_t *type; /* 4 letters */
    OcrBytes body;
} Chunk;

/* The chunk at *at; false if the file ends before the chunk does. */
static bool next_chunk(OcrBytes file, size_t *at, Chunk *chunk) {
    const uint8_t *start = file.data + *at;
    size_t left = file.size - *at;
    if (left < 12)
        return false;
    size_t size = png_get_uint_32(start);
    if (size > left - 12)
        return false;
    *chunk = (Chunk){start + 4, {start + 8, size}};
    *at += size + 12;
    return true;
}

static bool is_type(const Chunk *chunk, const char *type) {
    return memcmp(chunk->type, type, 4) == 0;
}

/* The checksum covers type and body and follows them. */
static bool is_sound(const Chunk *chunk) {
    return chunk->body.size <= MAX_CHECKED_SIZE &&
           crc32(0, chunk->type, (uInt)chunk->body.size + 4) ==
               png_get_uint_32(chunk->body.data + chunk->body.size);
}

static bool matches(OcrBytes file) {
    return begins_with(file, "\x89PNG\r\n\x1A\n", SIGNATURE_SIZE);
}

static OcrCode probe(OcrBytes file, OcrImageInfo *info, OcrError *err) {
    size_t at = SIGNATURE_SIZE;
    Chunk chunk;
    if (!next_chunk(file, &at, &chunk) || !is_type(&chunk, "IHDR") ||
        chunk.body.size != IHDR_SIZE || !is_sound(&chunk))
        return ocr_fail(err, OCR_IMAGE_DAMAGED,
                        "the PNG is damaged or cut short: it has no sound header");
    uint32_t width = png_get_uint_32(chunk.body.data);
    uint32_t height = png_get_uint_32(chunk.body.data + 4);
    if (width > INT_MAX || height > INT_MAX)
        return ocr_fail(err, OCR_IMAGE_DAMAGED, "the PNG is damaged: its size is impossible");
    info->stored_width = (int)width;
    info->stored_height = (int)height;

    for (int i = 0; i < MAX_CHUNKS && next_chunk(file, &at, &chunk); i++)
        if (is_type(&chunk, "eXIf")) {
            if (is_sound(&chunk))
                info->orientation = exif_orientation(chunk.body);
            break;
        }
    return OCR_OK;
}

/* ---- pixels ---- */

typedef struct PngReader {
    png_structp library;
    png_infop header;
    OcrBytes rest; /* of the file, not yet given to the library */
    bool (*interrupted)(void);
    bool out_of_memory; /* an allocation has failed; the library then reports an error */
    OcrError *err;
    jmp_buf jump; /* out of the library, once err is filled */
} PngReader;

static void on_error(png_structp library, png_const_charp text) {
    PngReader *reader = png_get_error_ptr(library);
    if (reader->out_of_memory)
        ocr_fail(reader->err, OCR_OUT_OF_MEMORY, "no memory for decoding a PNG");
    else
        ocr_fail(reader->err, OCR_IMAGE_DAMAGED, "the PNG is damaged or cut short: %s", text);
    longjmp(reader->jump, 1);
}

/* What libpng merely warns of leaves the pixels whole. */
static void on_warning(png_structp library, png_const_charp text) {
    (void)library;
    (void)text;
}

static png_voidp allocate(png_structp library, png_alloc_size_t size) {
    PngReader *reader = png_get_mem_ptr(library);
    void *block = malloc(size);
    if (!block)
        reader->out_of_memory = true;
    return block;
}

static void release(png_structp library, png_voidp block) {
    (void)library;
    free(block);
}

static void stop_if_interrupted(PngReader *reader) {
    if (reader->interrupted && reader->interrupted()) {
        ocr_fail(reader->err, OCR_INTERRUPTED, "interrupted while decoding a PNG");
        longjmp(reader->jump, 1);
    }
}

static void on_read(png_structp library, png_bytep out, size_t size) {
    PngReader *reader = png_get_io_ptr(library);
    stop_if_interrupted(reader);
    if (size > reader->rest.size)
        png_error(library, "unexpected end of file");
    memcpy(out, reader->rest.data, size);
    reader->rest.data += size;
    reader->rest.size -= size;
}

/* Whatever the file holds, rows come out as [width][3] bytes. Returns the number of passes. */
static int ask_for_rgb(png_structp library) {
    png_set_palette_to_rgb(library);
    png_set_expand_gray_1_2_4_to_8(library);
    png_set_strip_16(library);
    png_set_gray_to_rgb(library);
    png_set_strip_alpha(library);
    return png_set_interlace_handling(library);
}

/* The only function that the library's errors jump to. */
static OcrCode decode_pixels(PngReader *reader, const OcrImageInfo *info, uint8_t *pixels) {
    if (setjmp(reader->jump))
        return reader->err->code;

    reader->library = png_create_read_struct_2(PNG_LIBPNG_VER_STRING, reader, on_error, on_warning,
                                               reader, allocate, release);
    if (reader->library)
        reader->header = png_create_info_struct(reader->library);
    if (!reader->header)
        return ocr_fail(reader->err, OCR_OUT_OF_MEMORY, "libpng could not be started");

    png_structp library = reader->library;
    png_set_read_fn(library, reader, on_read);
    png_set_user_limits(library, (png_uint_32)info->stored_width, (png_uint_32)info->stored_height);
    png_set_keep_unknown_chunks(library, PNG_HANDLE_CHUNK_NEVER, NULL, -1); /* all but critical */
    png_read_info(library, reader->header);
    int passes = ask_for_rgb(library);
    png_read_update_info(library, reader->header);

    size_t row_bytes = 3 * (size_t)info->stored_width;
    if (png_get_image_height(library, reader->header) != (png_uint_32)info->stored_height ||
        png_get_rowbytes(library, reader->header) != row_bytes)
        return ocr_fail(reader->err, OCR_IMAGE_DAMAGED,
                        "the PNG is damaged: its headers contradict each other");
    for (int pass = 0; pass < passes; pass++)
        for (int y = 0; y < info->stored_height; y++) {
            stop_if_interrupted(reader);
            png_read_row(library, pixels + row_bytes * (size_t)y, NULL);
        }
    png_read_end(library, NULL); /* checks what follows the last row */
    return OCR_OK;
}

static OcrCode decode(OcrBytes file, const OcrImageInfo *info, bool (*interrupted)(void),
                      uint8_t *pixels, OcrError *err) {
    PngReader reader = {.rest = file, .interrupted = interrupted, .err = err};
    OcrCode code = decode_pixels(&reader, info, pixels);
    png_destroy_read_struct(&reader.library, &reader.header, NULL);
    return code;
}

const ImageReader png_reader = {matches, NULL, probe, decode};
