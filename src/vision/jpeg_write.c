/*
 * jpeg_write.c - JPEG by libjpeg-turbo: sequential, with the library's own tables.
 *
 * Such a file is written while rows come in, so the library holds a few of them
 * and no more. Its errors jump from wherever it is into write_pixels; what
 * changes meanwhile lives in a JpegWriter in the frame of the caller.
 */
#include "vision/jpeg_write.h"

#include "base/numbers.h"

#include <setjmp.h>
#include <stdio.h>

#include <jpeglib.h>
#include <jerror.h>

/* Hardly to be told from the original, and colours are kept at half the resolution. */
#define QUALITY 85

/* Between two pieces of this height the library can be interrupted: a row of its blocks. */
#define PIECE 16

typedef struct JpegWriter {
    struct jpeg_compress_struct library;
    struct jpeg_error_mgr errors;
    struct jpeg_destination_mgr target;
    uint8_t *buffer; /* [room] */
    size_t room;
    bool (*interrupted)(void);
    OcrError *err;
    jmp_buf jump; /* out of the library, once err is filled */
} JpegWriter;

static JpegWriter *writer_of(void *library) {
    return ((j_common_ptr)library)->client_data;
}

static void on_error(j_common_ptr library) {
    JpegWriter *writer = writer_of(library);
    char text[JMSG_LENGTH_MAX];
    writer->errors.format_message(library, text);
    OcrCode code =
        writer->errors.msg_code == JERR_OUT_OF_MEMORY ? OCR_OUT_OF_MEMORY : OCR_IMAGE_UNSUPPORTED;
    ocr_fail(writer->err, code, "the picture cannot be written as a JPEG: %s", text);
    longjmp(writer->jump, 1);
}

static void on_message(j_common_ptr library, int level) {
    (void)library;
    (void)level;
}

static void print_nothing(j_common_ptr library) {
    (void)library;
}

static void target_start(j_compress_ptr library) {
    JpegWriter *writer = writer_of(library);
    writer->target.next_output_byte = writer->buffer;
    writer->target.free_in_buffer = writer->room;
}

/* Called when the buffer is full, which is larger than any file of the picture's size. */
static boolean target_full(j_compress_ptr library) {
    ERREXIT(library, JERR_FILE_WRITE);
    return FALSE;
}

static void target_end(j_compress_ptr library) {
    (void)library;
}

static void set_up(JpegWriter *writer) {
    j_compress_ptr library = &writer->library;
    library->client_data = writer;
    library->err = jpeg_std_error(&writer->errors);
    writer->errors.error_exit = on_error;
    writer->errors.emit_message = on_message;
    writer->errors.output_message = print_nothing;
    writer->target = (struct jpeg_destination_mgr){.init_destination = target_start,
                                                   .empty_output_buffer = target_full,
                                                   .term_destination = target_end};
}

/* The only function that the library's errors jump to. */
static OcrCode write_pixels(JpegWriter *writer, const RgbImage *picture) {
    j_compress_ptr library = &writer->library;
    if (setjmp(writer->jump))
        return writer->err->code;

    jpeg_create_compress(library);
    library->dest = &writer->target;
    library->image_width = (JDIMENSION)picture->width;
    library->image_height = (JDIMENSION)picture->height;
    library->input_components = 3;
    library->in_color_space = JCS_RGB;
    jpeg_set_defaults(library);
    jpeg_set_quality(library, QUALITY, TRUE);
    jpeg_start_compress(library, TRUE);

    size_t row_bytes = 3 * (size_t)picture->width;
    while (library->next_scanline < library->image_height) {
        if (writer->interrupted && writer->interrupted())
            return ocr_fail(writer->err, OCR_INTERRUPTED, "interrupted while writing a JPEG");
        for (int i = 0; i < PIECE && library->next_scanline < library->image_height; i++) {
            uint8_t *row = picture->pixels + row_bytes * library->next_scanline;
            jpeg_write_scanlines(library, &row, 1);
        }
    }
    jpeg_finish_compress(library);
    return OCR_OK;
}

static size_t whole_blocks(int side) {
    return (size_t)ceil_div(side, 16) * 16;
}

/*
 * Samples are a byte each, 1.5 of them a pixel; noise at this quality is not
 * made smaller, and twice as much is more than it grows. Headers take the rest.
 */
size_t jpeg_write_bytes(int width, int height) {
    return 3 * whole_blocks(width) * whole_blocks(height) + 2048;
}

OcrCode jpeg_write(const RgbImage *picture, bool (*interrupted)(void), uint8_t *buffer,
                   size_t *size, OcrError *err) {
    JpegWriter writer = {.buffer = buffer,
                         .room = jpeg_write_bytes(picture->width, picture->height),
                         .interrupted = interrupted,
                         .err = err};
    set_up(&writer);
    OcrCode code = write_pixels(&writer, picture);
    jpeg_destroy_compress(&writer.library);
    *size = writer.room - writer.target.free_in_buffer;
    return code;
}
