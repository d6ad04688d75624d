/*
 * jpeg.c - JPEG by libjpeg-turbo.
 *
 * Grey, YCbCr and RGB files become RGB inside the library; CMYK and YCCK become
 * CMYK there and RGB here. Accurate inverse DCT, smooth chroma upsampling and no
 * scaling make the pixels equal to the reference's (spec 2.2).
 *
 * The library's memory: it calls malloc itself, up to 8 bytes a pixel for a
 * progressive file, and jpeg_destroy_decompress releases all of it, on every
 * way out.
 *
 * Its errors: a jump from wherever it is into decode_pixels. Everything that
 * changes meanwhile lives in a JpegReader in the frame of the caller, which the
 * jump leaves alone, so no variable needs to be volatile.
 *
 * Its warnings: those that tell of picture data that are missing or were
 * replaced by zeros count as errors, since the rest of the page would come out
 * grey (a file cut short gives one of them, or runs out of bytes). Those about
 * bytes between markers, version numbers, colour hints and the order of scans
 * leave every coefficient in place and are passed over. JPEG has no checksums:
 * turned-over bits that still make codes are beyond anybody's notice.
 */
#include "vision/reader.h"

#include "vision/exif.h"

#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <jpeglib.h>
#include <jerror.h>

enum {
    MARKER_TEM = 0x01,
    MARKER_SOF0 = 0xC0, /* the first of sixteen, among them: */
    MARKER_SOF1 = 0xC1, /* sequential with Huffman codes, as SOF0; later ones are not */
    MARKER_DHT = 0xC4,
    MARKER_JPG = 0xC8,
    MARKER_DAC = 0xCC,
    MARKER_RST0 = 0xD0,
    MARKER_SOI = 0xD8, /* follows RST7, and EOI follows it */
    MARKER_EOI = 0xD9,
    MARKER_SOS = 0xDA,
    MARKER_APP1 = 0xE1
};

/* Headers with more markers than any camera writes are not searched to their end. */
#define MAX_HEADER_MARKERS 4096

/* Real progressive files have about ten scans; each one costs a pass over the whole picture. */
#define MAX_SCANS 100

/* The library gets the file in pieces of this size; between two of them it can be interrupted. */
#define PIECE 65536

/* ---- headers ---- */

typedef struct Segment {
    int marker;
    OcrBytes body; /* without marker and length; empty for markers that stand alone */
} Segment;

/*
 * The marker at or after *at, found as the library finds it: anything up to an
 * FF is passed over, and FF may be repeated. false where the file ends.
 */
static bool next_segment(OcrBytes file, size_t *at, Segment *segment) {
    const uint8_t *end = file.data + file.size;
    const uint8_t *p = memchr(file.data + *at, 0xFF, file.size - *at);
    while (p && p < end && *p == 0xFF)
        p++;
    if (!p || p == end)
        return false;
    *segment = (Segment){.marker = *p++};
    bool alone = segment->marker == 0 || segment->marker == MARKER_TEM ||
                 (segment->marker >= MARKER_RST0 && segment->marker <= MARKER_EOI);
    if (!alone) {
        size_t length = end - p < 2 ? 0 : (size_t)p[0] << 8 | p[1]; /* its own two bytes included */
        if (length < 2 || length > (size_t)(end - p))
            return false;
        segment->body = (OcrBytes){p + 2, length - 2};
        p += length;
    }
    *at = (size_t)(p - file.data);
    return true;
}

/* The header ends with the first scan, or with the picture. */
static bool is_in_header(const Segment *segment) {
    return segment->marker != MARKER_SOS && segment->marker != MARKER_EOI;
}

static bool is_frame_header(const Segment *segment) {
    return segment->marker >= MARKER_SOF0 && segment->marker < MARKER_SOF0 + 16 &&
           segment->marker != MARKER_DHT && segment->marker != MARKER_JPG &&
           segment->marker != MARKER_DAC && segment->body.size >= 6;
}

JpegHeader jpeg_header(OcrBytes file) {
    JpegHeader header = {0};
    Segment segment;
    size_t at = 0;
    for (int i = 0; i < MAX_HEADER_MARKERS; i++) {
        if (!next_segment(file, &at, &segment))
            return header;
        const uint8_t *body = segment.body.data;
        if (!header.framed && is_frame_header(&segment)) {
            /* precision, height, width, components */
            header.framed = true;
            header.height = body[1] << 8 | body[2];
            header.width = body[3] << 8 | body[4];
            header.components = body[5];
            header.several_scans = segment.marker > MARKER_SOF1;
        } else if (!is_in_header(&segment)) { /* a scan begins with its number of components */
            header.several_scans |= segment.body.size > 0 && body[0] < header.components;
            return header;
        }
    }
    header.several_scans = true;
    return header;
}

static bool is_exif(const Segment *segment) {
    return segment->marker == MARKER_APP1 && segment->body.size >= 6 &&
           memcmp(segment->body.data, "Exif\0\0", 6) == 0;
}

static bool matches(OcrBytes file) {
    return begins_with(file, "\xFF\xD8\xFF", 3);
}

static int stored_orientation(OcrBytes file) {
    Segment segment;
    size_t at = 2;
    for (int i = 0;
         i < MAX_HEADER_MARKERS && next_segment(file, &at, &segment) && is_in_header(&segment); i++)
        if (is_exif(&segment))
            return exif_orientation((OcrBytes){segment.body.data + 6, segment.body.size - 6});
    return 1;
}

static OcrCode probe(OcrBytes file, OcrImageInfo *info, OcrError *err) {
    JpegHeader header = jpeg_header(file);
    if (!header.framed)
        return ocr_fail(err, OCR_IMAGE_DAMAGED,
                        "the JPEG is damaged or cut short: it has no frame header");
    info->stored_width = header.width;
    info->stored_height = header.height;
    info->orientation = stored_orientation(file);
    if (header.several_scans) /* all coefficients are kept, in 16 bits each */
        info->library_bytes =
            2 * (size_t)header.components * (size_t)header.width * (size_t)header.height;
    return OCR_OK;
}

/* ---- pixels ---- */

typedef struct JpegReader {
    struct jpeg_decompress_struct library;
    struct jpeg_error_mgr errors;
    struct jpeg_source_mgr source;
    struct jpeg_progress_mgr progress;
    OcrBytes rest; /* of the file, not yet given to the library */
    bool (*interrupted)(void);
    OcrError *err;
    jmp_buf jump; /* out of the library, once err is filled */
} JpegReader;

static JpegReader *reader_of(void *library) {
    return ((j_common_ptr)library)->client_data;
}

static OcrCode code_of_message(int message) {
    switch (message) {
    case JERR_OUT_OF_MEMORY:
        return OCR_OUT_OF_MEMORY;
    case JERR_IMAGE_TOO_BIG:
    case JERR_WIDTH_OVERFLOW:
        return OCR_IMAGE_TOO_LARGE;
    case JERR_SOF_UNSUPPORTED:
    case JERR_BAD_PRECISION:
    case JERR_COMPONENT_COUNT:
    case JERR_CCIR601_NOTIMPL:
    case JERR_FRACT_SAMPLE_NOTIMPL:
    case JERR_CONVERSION_NOTIMPL:
    case JERR_ARITH_NOTIMPL:
        return OCR_IMAGE_UNSUPPORTED;
    default:
        return OCR_IMAGE_DAMAGED;
    }
}

static void on_error(j_common_ptr library) {
    JpegReader *reader = reader_of(library);
    char text[JMSG_LENGTH_MAX];
    reader->errors.format_message(library, text);
    OcrCode code = code_of_message(reader->errors.msg_code);
    ocr_fail(reader->err, code, "%s: %s",
             code == OCR_IMAGE_DAMAGED ? "the JPEG is damaged or cut short"
                                       : "the JPEG cannot be read",
             text);
    longjmp(reader->jump, 1);
}

/* Levels below 0 are warnings, the others traces. */
static void on_message(j_common_ptr library, int level) {
    if (level >= 0)
        return;
    switch (library->err->msg_code) {
    case JWRN_HIT_MARKER:
    case JWRN_HUFF_BAD_CODE:
    case JWRN_ARITH_BAD_CODE:
    case JWRN_MUST_RESYNC:
        on_error(library);
    }
}

static void print_nothing(j_common_ptr library) {
    (void)library;
}

static void stop_if_interrupted(JpegReader *reader) {
    if (reader->interrupted && reader->interrupted()) {
        ocr_fail(reader->err, OCR_INTERRUPTED, "interrupted while decoding a JPEG");
        longjmp(reader->jump, 1);
    }
}

/* Called for every row of blocks that is read and every row of pixels that is made. */
static void on_progress(j_common_ptr library) {
    JpegReader *reader = reader_of(library);
    stop_if_interrupted(reader);
    if (reader->library.input_scan_number > MAX_SCANS) {
        ocr_fail(reader->err, OCR_IMAGE_UNSUPPORTED, "the JPEG has more than %d scans", MAX_SCANS);
        longjmp(reader->jump, 1);
    }
}

static void source_start(j_decompress_ptr library) {
    (void)library;
}

static boolean source_fill(j_decompress_ptr library) {
    JpegReader *reader = reader_of(library);
    stop_if_interrupted(reader);
    if (reader->rest.size == 0)
        ERREXIT(library, JERR_INPUT_EOF);
    size_t size = reader->rest.size < PIECE ? reader->rest.size : PIECE;
    reader->source.next_input_byte = reader->rest.data;
    reader->source.bytes_in_buffer = size;
    reader->rest.data += size;
    reader->rest.size -= size;
    return TRUE;
}

static void source_skip(j_decompress_ptr library, long count) {
    struct jpeg_source_mgr *source = library->src;
    while (count > 0) {
        if (source->bytes_in_buffer == 0)
            source_fill(library);
        size_t size = source->bytes_in_buffer;
        if ((size_t)count < size)
            size = (size_t)count;
        source->next_input_byte += size;
        source->bytes_in_buffer -= size;
        count -= (long)size;
    }
}

static void source_end(j_decompress_ptr library) {
    (void)library;
}

/*
 * cmyk: [width][4], rgb: [width][3]. The samples are taken for inverted ink, as Adobe
 * writes it, whether or not its marker is there: so does Pillow, through which the
 * official pipeline reads.
 */
static void rgb_from_cmyk(const uint8_t *cmyk, int width, uint8_t *rgb) {
    for (int x = 0; x < width; x++, cmyk += 4, rgb += 3) {
        for (int i = 0; i < 3; i++)
            rgb[i] = through_ink(cmyk[3], 255 - cmyk[i]);
    }
}

static void set_up(JpegReader *reader) {
    j_decompress_ptr library = &reader->library;
    library->client_data = reader;
    library->err = jpeg_std_error(&reader->errors);
    reader->errors.error_exit = on_error;
    reader->errors.emit_message = on_message;
    reader->errors.output_message = print_nothing;
    reader->source = (struct jpeg_source_mgr){
        .init_source = source_start,
        .fill_input_buffer = source_fill,
        .skip_input_data = source_skip,
        .resync_to_restart = jpeg_resync_to_restart,
        .term_source = source_end,
    };
    reader->progress.progress_monitor = on_progress;
}

/* The only function that the library's errors jump to. */
static OcrCode decode_pixels(JpegReader *reader, const OcrImageInfo *info, uint8_t *pixels) {
    j_decompress_ptr library = &reader->library;
    if (setjmp(reader->jump))
        return reader->err->code;

    jpeg_create_decompress(library);
    library->src = &reader->source;
    library->progress = &reader->progress;
    jpeg_read_header(library, TRUE);
    if (library->image_width != (JDIMENSION)info->stored_width ||
        library->image_height != (JDIMENSION)info->stored_height)
        return ocr_fail(reader->err, OCR_IMAGE_DAMAGED,
                        "the JPEG is damaged: its headers contradict each other");
    int components = library->num_components;
    if (components != 1 && components != 3 && components != 4)
        return ocr_fail(reader->err, OCR_IMAGE_UNSUPPORTED,
                        "the JPEG has %d colour components; 1, 3 and 4 are read", components);

    library->out_color_space = components == 4 ? JCS_CMYK : JCS_RGB;
    library->dct_method = JDCT_ISLOW;
    library->do_fancy_upsampling = TRUE;
    jpeg_start_decompress(library);

    size_t row_bytes = 3 * (size_t)info->stored_width;
    JSAMPARRAY cmyk = NULL; /* one row, freed with the library */
    if (components == 4)
        cmyk = library->mem->alloc_sarray((j_common_ptr)library, JPOOL_IMAGE,
                                          library->output_width * 4, 1);
    while (library->output_scanline < library->output_height) {
        uint8_t *row = pixels + row_bytes * library->output_scanline;
        jpeg_read_scanlines(library, cmyk ? cmyk : &row, 1);
        if (cmyk)
            rgb_from_cmyk(cmyk[0], info->stored_width, row);
    }
    jpeg_finish_decompress(library); /* reads up to the end mark */
    return OCR_OK;
}

static OcrCode decode(OcrBytes file, const OcrImageInfo *info, bool (*interrupted)(void),
                      uint8_t *pixels, OcrError *err) {
    JpegReader reader = {.rest = file, .interrupted = interrupted, .err = err};
    set_up(&reader);
    OcrCode code = decode_pixels(&reader, info, pixels);
    jpeg_destroy_decompress(&reader.library);
    return code;
}

const ImageReader jpeg_reader = {matches, NULL, probe, decode};
