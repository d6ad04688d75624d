/*
 * tiff.c - TIFF by libtiff: what scanners and fax machines write.
 *
 * Pages are found here, in the chain of the file's directories; the library is
 * shown one directory and unpacks its rows or tiles; samples become RGB here, a
 * row at a time. TIFFReadRGBAImage would need four more bytes a pixel, cannot be
 * interrupted, and multiplies colours by their alpha, which the reference drops.
 *
 * What is read: bilevel, grey and palette pictures of 1 to 16 bits, RGB and CMYK
 * of 8 and 16, with further samples such as alpha, which are dropped; strips and
 * tiles, samples together or in planes; uncompressed, PackBits, LZW, Deflate,
 * CCITT and JPEG. Of 16-bit samples the high byte is kept. What is not: YCbCr
 * outside JPEG, Lab, floating point, JPEG in several scans, and compressions that
 * no scanner writes, which would let a small file ask for much memory and time.
 *
 * Damage: the library's functions say so by what they return. Besides, its
 * messages about JPEG and CCITT group 4 count as damage, since what follows the
 * fault would be grey or noise. A bad line of a group 3 fax is that line's
 * affair, and such lines are common; but not in a tile, of which the library does
 * not say whether lines are missing at its end.
 *
 * The library reads through the callbacks below from the bytes in memory, and
 * allocates no block larger than the file and MAX_BLOCK. It speaks to on_message
 * alone.
 */
#include "vision/reader.h"

#include "base/numbers.h"
#include "vision/ifd.h"
#include "vision/tiff_paint.h"

#include <ctype.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include <tiffio.h>

/* Directories in a file. A chain that is longer is a ring. */
#define MAX_DIRECTORIES 65535

/* Entries in all of them: a directory has some 20, but hostile ones lie one on top of the other. */
#define MAX_ENTRIES (1 << 24)

/* Bits of the subfile type: a smaller copy of another picture, a mask for one. */
#define SUBFILE_NOT_A_PAGE (FILETYPE_REDUCEDIMAGE | FILETYPE_MASK)

/* A tile or a row is unpacked in one go, without a look at interrupts. */
#define MAX_PIXELS (4 << 20)
#define MAX_BYTES (8 << 20)
#define MAX_SAMPLES 16
#define MAX_BLOCK (64 << 20)

/* ---- headers ---- */

static bool matches(OcrBytes file) {
    TiffBlock block;
    uint64_t first;
    return tiff_block_open(file, &block, &first);
}

/* The first directory is a page whatever it says of itself; a broken one hides a page, too. */
static bool is_page(const TiffBlock *block, const Ifd *ifd, bool first) {
    uint64_t type;
    return first || !ifd_number(block, ifd, TAG_SUBFILE_TYPE, &type) ||
           !(type & SUBFILE_NOT_A_PAGE);
}

/* Where the directory of a page was found. */
typedef struct Place {
    TiffBlock block;
    uint64_t offset;
    Ifd ifd;   /* nothing in it if it does not lie in the file */
    int pages; /* up to this one, it included */
} Place;

/*
 * Follow the chain up to page `wanted` (from 0), or to the last one if there are
 * fewer. A link that leads out of the file counts as a page, which cannot be read.
 */
static OcrCode follow(OcrBytes file, int wanted, Place *place, OcrError *err) {
    uint64_t next;
    int entries = 0;
    *place = (Place){0};
    tiff_block_open(file, &place->block, &next);
    for (int links = 0; next != 0 && place->pages <= wanted; links++) {
        Ifd here;
        if (links == MAX_DIRECTORIES)
            return ocr_fail(err, OCR_IMAGE_DAMAGED,
                            "the TIFF is damaged: its directories are a ring, or more than %d",
                            MAX_DIRECTORIES);
        if (!ifd_read(&place->block, next, &here) || !here.whole)
            here = (Ifd){0};
        entries += here.count;
        if (entries > MAX_ENTRIES)
            return ocr_fail(err, OCR_IMAGE_DAMAGED,
                            "the TIFF is damaged: its directories have more than %d entries",
                            MAX_ENTRIES);
        if (is_page(&place->block, &here, links == 0)) {
            place->pages++;
            place->offset = next;
            place->ifd = here;
        }
        next = here.next;
    }
    if (place->pages == 0)
        return ocr_fail(err, OCR_IMAGE_DAMAGED, "the TIFF is damaged: it has no directory");
    return OCR_OK;
}

static OcrCode count(OcrBytes file, int *pages, OcrError *err) {
    Place last;
    OcrCode code = follow(file, INT_MAX, &last, err);
    *pages = last.pages;
    return code;
}

static OcrCode find_page(OcrBytes file, int page, Place *place, OcrError *err) {
    OcrCode code = follow(file, page, place, err);
    if (code != OCR_OK)
        return code;
    if (place->pages <= page)
        return ocr_fail(err, OCR_IMAGE_EMPTY, "the TIFF has only %d pages", place->pages);
    if (!place->ifd.whole)
        return ocr_fail(err, OCR_IMAGE_DAMAGED,
                        "the TIFF is damaged or cut short: a directory lies outside the file");
    return OCR_OK;
}

static OcrCode probe(OcrBytes file, OcrImageInfo *info, OcrError *err) {
    Place place;
    uint64_t width, height;
    OcrCode code = find_page(file, info->page, &place, err);
    if (code != OCR_OK)
        return code;
    if (!ifd_number(&place.block, &place.ifd, TAG_WIDTH, &width) ||
        !ifd_number(&place.block, &place.ifd, TAG_HEIGHT, &height) || width > INT_MAX ||
        height > INT_MAX)
        return ocr_fail(err, OCR_IMAGE_DAMAGED, "the TIFF is damaged: a page has no sound size");
    info->stored_width = (int)width;
    info->stored_height = (int)height;
    info->orientation = ifd_orientation(&place.block, &place.ifd);
    return OCR_OK;
}

/* ---- the library's view of the file ---- */

typedef struct TiffReader {
    TIFF *library;
    OcrBytes file;
    uint64_t at;         /* the next byte that the library reads */
    bool damaged;        /* it has said something that counts as damage */
    bool failed;         /* it has spoken of an error, which then is the complaint */
    char complaint[200]; /* its first error, else the first warning of damage, or "" */
    bool (*interrupted)(void);
    OcrError *err;

    /* The page in work. */
    Place place;
    int width, height, compression;
    int tile_width, tile_height; /* 0: there are rows instead of tiles */
    size_t row_bytes;            /* of a row, or a tile's row */
    TiffPaint paint;
    uint8_t *raw; /* a row or a tile as the library unpacks it */
    uint8_t *row; /* scratch for paint: a byte for each sample of a row */
} TiffReader;

static tmsize_t on_read(thandle_t handle, void *out, tmsize_t size) {
    TiffReader *reader = handle;
    uint64_t rest = reader->at < reader->file.size ? reader->file.size - reader->at : 0;
    if (size <= 0 || rest == 0)
        return 0;
    if ((uint64_t)size > rest)
        size = (tmsize_t)rest;
    memcpy(out, reader->file.data + reader->at, (size_t)size);
    reader->at += (uint64_t)size;
    return size;
}

static tmsize_t on_write(thandle_t handle, void *data, tmsize_t size) {
    (void)handle, (void)data, (void)size;
    return -1;
}

static toff_t on_seek(thandle_t handle, toff_t offset, int whence) {
    TiffReader *reader = handle;
    uint64_t base = whence == SEEK_CUR ? reader->at : whence == SEEK_END ? reader->file.size : 0;
    return reader->at = base + offset;
}

static int on_close(thandle_t handle) {
    (void)handle;
    return 0;
}

static toff_t on_size(thandle_t handle) {
    return ((TiffReader *)handle)->file.size;
}

/* So the library need not copy what it unpacks. */
static int on_map(thandle_t handle, void **base, toff_t *size) {
    TiffReader *reader = handle;
    *base = (void *)reader->file.data;
    *size = reader->file.size;
    return 1;
}

static void on_unmap(thandle_t handle, void *base, toff_t size) {
    (void)handle, (void)base, (void)size;
}

/* Does it count as damage that this part of the library has something to say? */
static bool is_of_damage(const TiffReader *reader, const char *module) {
    return module && (strcmp(module, "JPEGLib") == 0 || strcmp(module, "Fax4Decode") == 0 ||
                      (reader->tile_width > 0 && strncmp(module, "Fax3Decode", 10) == 0));
}

/* A line feed in the message would begin another program's words (status.h). */
static void on_message(TiffReader *reader, bool error, const char *module, const char *format,
                       va_list args) {
    bool damage = is_of_damage(reader, module);
    reader->damaged |= damage;
    if (error ? reader->failed : !damage || reader->complaint[0] != '\0')
        return;
    reader->failed = error;
    vsnprintf(reader->complaint, sizeof reader->complaint, format, args);
    for (char *c = reader->complaint; *c != '\0'; c++)
        if (iscntrl((unsigned char)*c))
            *c = ' ';
}

/* 'h': no directory yet; 'c': strips as they are in the file. */
#define OPEN_MODE "rhc"
#define CALLBACKS on_read, on_write, on_seek, on_close, on_size, on_map, on_unmap

#if TIFFLIB_VERSION >= 20221213

static int on_error(TIFF *library, void *reader, const char *module, const char *format,
                    va_list args) {
    (void)library;
    on_message(reader, true, module, format, args);
    return 1;
}

static int on_warning(TIFF *library, void *reader, const char *module, const char *format,
                      va_list args) {
    (void)library;
    on_message(reader, false, module, format, args);
    return 1;
}

static void open_library(TiffReader *reader) {
    TIFFOpenOptions *options = TIFFOpenOptionsAlloc();
    if (!options)
        return;
    TIFFOpenOptionsSetErrorHandlerExtR(options, on_error, reader);
    TIFFOpenOptionsSetWarningHandlerExtR(options, on_warning, reader);
    TIFFOpenOptionsSetMaxSingleMemAlloc(options, (tmsize_t)reader->file.size + MAX_BLOCK);
    reader->library = TIFFClientOpenExt("TIFF", OPEN_MODE, reader, CALLBACKS, options);
    TIFFOpenOptionsFree(options);
}

static void close_library(TiffReader *reader) {
    if (reader->library)
        TIFFClose(reader->library);
}

#else /* before 4.5 handlers were the process's: ours are there while a page is read */

static struct {
    TIFFErrorHandler error, warning;
    TIFFErrorHandlerExt error_of, warning_of;
} others;

static void on_error(thandle_t handle, const char *module, const char *format, va_list args) {
    if (handle)
        on_message(handle, true, module, format, args);
}

static void on_warning(thandle_t handle, const char *module, const char *format, va_list args) {
    if (handle)
        on_message(handle, false, module, format, args);
}

static void open_library(TiffReader *reader) {
    others.error = TIFFSetErrorHandler(NULL);
    others.warning = TIFFSetWarningHandler(NULL);
    others.error_of = TIFFSetErrorHandlerExt(on_error);
    others.warning_of = TIFFSetWarningHandlerExt(on_warning);
    reader->library = TIFFClientOpen("TIFF", OPEN_MODE, reader, CALLBACKS);
}

static void close_library(TiffReader *reader) {
    if (reader->library)
        TIFFClose(reader->library);
    TIFFSetErrorHandler(others.error);
    TIFFSetWarningHandler(others.warning);
    TIFFSetErrorHandlerExt(others.error_of);
    TIFFSetWarningHandlerExt(others.warning_of);
}

#endif

static OcrCode damage(TiffReader *reader) {
    return ocr_fail(reader->err, OCR_IMAGE_DAMAGED, "the TIFF is damaged or cut short%s%s",
                    reader->complaint[0] ? ": " : "", reader->complaint);
}

/* ---- what the page's tags say ---- */

static int short_tag(TiffReader *reader, uint32_t tag, int otherwise) {
    uint16_t value;
    return TIFFGetFieldDefaulted(reader->library, tag, &value) ? value : otherwise;
}

static OcrCode check_size(TiffReader *reader) {
    uint32_t width, height;
    if (!TIFFGetField(reader->library, TIFFTAG_IMAGEWIDTH, &width) ||
        !TIFFGetField(reader->library, TIFFTAG_IMAGELENGTH, &height) ||
        width != (uint32_t)reader->width || height != (uint32_t)reader->height)
        return ocr_fail(reader->err, OCR_IMAGE_DAMAGED,
                        "the TIFF is damaged: its headers contradict each other");
    return OCR_OK;
}

static OcrCode check_compression(TiffReader *reader) {
    reader->compression = short_tag(reader, TIFFTAG_COMPRESSION, COMPRESSION_NONE);
    switch (reader->compression) {
    case COMPRESSION_NONE:
    case COMPRESSION_CCITTRLE:
    case COMPRESSION_CCITTFAX3:
    case COMPRESSION_CCITTFAX4:
    case COMPRESSION_LZW:
    case COMPRESSION_JPEG:
    case COMPRESSION_ADOBE_DEFLATE:
    case COMPRESSION_DEFLATE:
    case COMPRESSION_PACKBITS:
        return OCR_OK;
    default:
        return ocr_fail(reader->err, OCR_IMAGE_UNSUPPORTED, "the TIFF's compression %d is not read",
                        reader->compression);
    }
}

static OcrCode check_samples(TiffReader *reader) {
    int format = short_tag(reader, TIFFTAG_SAMPLEFORMAT, SAMPLEFORMAT_UINT);
    int bits = reader->paint.bits = short_tag(reader, TIFFTAG_BITSPERSAMPLE, 1);
    reader->paint.samples = short_tag(reader, TIFFTAG_SAMPLESPERPIXEL, 1);
    bool separate = short_tag(reader, TIFFTAG_PLANARCONFIG, 0) == PLANARCONFIG_SEPARATE;
    reader->paint.together = separate ? 1 : reader->paint.samples;
    if (format != SAMPLEFORMAT_UINT && format != SAMPLEFORMAT_VOID)
        return ocr_fail(reader->err, OCR_IMAGE_UNSUPPORTED,
                        "the TIFF's samples are no whole numbers from 0 on");
    if (bits != 1 && bits != 2 && bits != 4 && bits != 8 && bits != 16)
        return ocr_fail(reader->err, OCR_IMAGE_UNSUPPORTED,
                        "the TIFF has %d bits for a sample; 1, 2, 4, 8 and 16 are read", bits);
    if (reader->paint.samples < 1 || reader->paint.samples > MAX_SAMPLES)
        return ocr_fail(reader->err, OCR_IMAGE_UNSUPPORTED,
                        "the TIFF has %d samples for a pixel; 1 to %d are read",
                        reader->paint.samples, MAX_SAMPLES);
    return OCR_OK;
}

static OcrCode color_palette(TiffReader *reader) {
    uint16_t *colors[3];
    if (reader->paint.bits > 8 ||
        !TIFFGetField(reader->library, TIFFTAG_COLORMAP, &colors[0], &colors[1], &colors[2]))
        return ocr_fail(reader->err, OCR_IMAGE_DAMAGED, "the TIFF is damaged: it has no palette");
    for (int i = 0; i < 1 << reader->paint.bits; i++)
        for (int c = 0; c < 3; c++)
            reader->paint.palette[i][c] = (uint8_t)(colors[c][i] >> 8);
    return OCR_OK;
}

/* The samples of a pixel that make its colour; 0 for a kind of colour that is not read. */
static int choose_paint(TiffReader *reader, int photometric) {
    reader->paint.kind = PAINT_RGB;
    switch (photometric) {
    case PHOTOMETRIC_MINISWHITE:
    case PHOTOMETRIC_MINISBLACK:
    case PHOTOMETRIC_PALETTE:
        reader->paint.kind = PAINT_PALETTE;
        return 1;
    case PHOTOMETRIC_RGB:
        return 3;
    case PHOTOMETRIC_YCBCR: /* libjpeg makes RGB of it */
        return reader->compression == COMPRESSION_JPEG && reader->paint.together == 3 &&
                       TIFFSetField(reader->library, TIFFTAG_JPEGCOLORMODE, JPEGCOLORMODE_RGB)
                   ? 3
                   : 0;
    case PHOTOMETRIC_SEPARATED:
        reader->paint.kind = PAINT_CMYK;
        return short_tag(reader, TIFFTAG_INKSET, INKSET_CMYK) == INKSET_CMYK ? 4 : 0;
    default:
        return 0;
    }
}

/* What samples mean; where the file does not say it, what is usual. */
static int photometric_of(const TiffReader *reader) {
    uint64_t said; /* by the file: the library takes a palette picture that has lost its palette
                      for a grey one */
    if (ifd_number(&reader->place.block, &reader->place.ifd, TAG_PHOTOMETRIC, &said))
        return said > INT_MAX ? INT_MAX : (int)said;
    switch (reader->compression) {
    case COMPRESSION_CCITTRLE:
    case COMPRESSION_CCITTFAX3:
    case COMPRESSION_CCITTFAX4:
        return PHOTOMETRIC_MINISWHITE;
    default:
        return reader->paint.samples < 3 ? PHOTOMETRIC_MINISBLACK : PHOTOMETRIC_RGB;
    }
}

static OcrCode check_colors(TiffReader *reader) {
    int photometric = photometric_of(reader);
    int colors = choose_paint(reader, photometric);
    if (colors == 0 || (colors > 1 && reader->paint.bits < 8))
        return ocr_fail(reader->err, OCR_IMAGE_UNSUPPORTED,
                        "the TIFF's kind of colour (%d, with %d bits) is not read", photometric,
                        reader->paint.bits);
    if (reader->paint.samples < colors)
        return ocr_fail(reader->err, OCR_IMAGE_DAMAGED,
                        "the TIFF is damaged: a pixel has %d samples instead of %d",
                        reader->paint.samples, colors);
    uint16_t extras, *kinds;
    reader->paint.premultiplied =
        reader->paint.kind == PAINT_RGB && reader->paint.together > 3 &&
        TIFFGetField(reader->library, TIFFTAG_EXTRASAMPLES, &extras, &kinds) && extras > 0 &&
        kinds[0] == EXTRASAMPLE_ASSOCALPHA;
    if (photometric == PHOTOMETRIC_PALETTE)
        return color_palette(reader);
    if (reader->paint.kind == PAINT_PALETTE)
        tiff_paint_greys(&reader->paint, photometric == PHOTOMETRIC_MINISWHITE);
    return OCR_OK;
}

static OcrCode open_page(TiffReader *reader) {
    if (!reader->library || !TIFFSetSubDirectory(reader->library, reader->place.offset))
        return damage(reader);
    OcrCode code = check_size(reader);
    if (code == OCR_OK)
        code = check_compression(reader);
    if (code == OCR_OK)
        code = check_samples(reader);
    return code == OCR_OK ? check_colors(reader) : code;
}

/* ---- pixels ---- */

static OcrCode stop_if_interrupted(const TiffReader *reader) {
    if (reader->interrupted && reader->interrupted())
        return ocr_fail(reader->err, OCR_INTERRUPTED, "interrupted while decoding a TIFF");
    return OCR_OK;
}

/* How rows or tiles lie in the file, and buffers for one of them. */
static OcrCode lay_out(TiffReader *reader) {
    bool tiled = TIFFIsTiled(reader->library);
    uint32_t width = (uint32_t)reader->width, height = 1;
    if (tiled &&
        (!TIFFGetField(reader->library, TIFFTAG_TILEWIDTH, &width) ||
         !TIFFGetField(reader->library, TIFFTAG_TILELENGTH, &height) || width == 0 || height == 0))
        return damage(reader);
    uint64_t samples = (uint64_t)width * (uint64_t)reader->paint.together; /* of a row */
    uint64_t row_bytes = (samples * (uint64_t)reader->paint.bits + 7) / 8;
    if ((uint64_t)width * height > MAX_PIXELS || row_bytes * height > MAX_BYTES)
        return ocr_fail(reader->err, OCR_IMAGE_UNSUPPORTED,
                        "the TIFF has %s of %u x %u pixels, %llu bytes; %d pixels and %d bytes "
                        "are read at most",
                        tiled ? "tiles" : "rows", width, height,
                        (unsigned long long)(row_bytes * height), MAX_PIXELS, MAX_BYTES);
    reader->tile_width = tiled ? (int)width : 0;
    reader->tile_height = tiled ? (int)height : 0;

    /* If the library takes other sizes, the samples do not lie as this file thinks. */
    tmsize_t size = tiled ? TIFFTileSize(reader->library) : TIFFScanlineSize(reader->library);
    if (size < 0 || (uint64_t)size != row_bytes * height)
        return ocr_fail(reader->err, OCR_IMAGE_UNSUPPORTED,
                        "the TIFF's samples lie in an order that is not read");
    reader->row_bytes = row_bytes;
    reader->raw = calloc(1, (size_t)size);
    reader->row = malloc(samples);
    if (!reader->raw || !reader->row)
        return ocr_fail(reader->err, OCR_OUT_OF_MEMORY, "no memory for decoding a TIFF");
    return OCR_OK;
}

/*
 * TIFF wants the JPEG data of a strip or tile in one scan. Several of them would
 * be unpacked in one go, up to a hundred, without a look at interrupts. Of a
 * smaller picture the library would fill a part of the strip or tile, without an
 * error. rows: those of the strip or tile.
 */
static OcrCode check_jpeg(const TiffReader *reader, uint32_t strile, int rows, bool last) {
    uint64_t at = TIFFGetStrileOffset(reader->library, strile);
    uint64_t size = TIFFGetStrileByteCount(reader->library, strile);
    if (reader->compression != COMPRESSION_JPEG || at > reader->file.size)
        return OCR_OK;
    if (size > reader->file.size - at)
        size = reader->file.size - at;
    int columns = reader->tile_width > 0 ? reader->tile_width : reader->width;
    JpegHeader jpeg = jpeg_header((OcrBytes){reader->file.data + at, (size_t)size});
    if (jpeg.several_scans)
        return ocr_fail(reader->err, OCR_IMAGE_UNSUPPORTED,
                        "the TIFF's JPEG data are not in one scan");
    if (jpeg.width != columns || (last ? jpeg.height < rows : jpeg.height != rows))
        return ocr_fail(reader->err, OCR_IMAGE_DAMAGED,
                        "the TIFF is damaged: JPEG data of %d x %d pixels instead of %d x %d",
                        jpeg.width, jpeg.height, columns, rows);
    return OCR_OK;
}

/* The last strip may be as high as the others, and then has rows that are not the picture's. */
static OcrCode check_strip(const TiffReader *reader, uint32_t strip, int y) {
    uint32_t rows = UINT32_MAX, rest = (uint32_t)(reader->height - y);
    TIFFGetFieldDefaulted(reader->library, TIFFTAG_ROWSPERSTRIP, &rows);
    return check_jpeg(reader, strip, (int)(rows < rest ? rows : rest), rows >= rest);
}

static OcrCode decode_rows(TiffReader *reader, int plane, uint8_t *pixels) {
    OcrCode code = OCR_OK;
    uint32_t last = UINT32_MAX;
    for (int y = 0; y < reader->height && code == OCR_OK; y++) {
        uint32_t strip = TIFFComputeStrip(reader->library, (uint32_t)y, (uint16_t)plane);
        if (strip != last && check_strip(reader, strip, y) != OCR_OK)
            return reader->err->code;
        last = strip;
        if (TIFFReadScanline(reader->library, reader->raw, (uint32_t)y, (uint16_t)plane) != 1 ||
            reader->damaged)
            return damage(reader);
        tiff_paint_row(&reader->paint, plane, reader->raw, reader->row, reader->width,
                       pixels + 3 * (size_t)y * (size_t)reader->width);
        code = stop_if_interrupted(reader);
    }
    return code;
}

/* pixels: where the tile's first one goes */
static OcrCode decode_tile(TiffReader *reader, int plane, int left, int top, uint8_t *pixels) {
    uint32_t tile =
        TIFFComputeTile(reader->library, (uint32_t)left, (uint32_t)top, 0, (uint16_t)plane);
    if (check_jpeg(reader, tile, reader->tile_height, false) != OCR_OK)
        return reader->err->code;
    memset(reader->raw, 0, reader->row_bytes * (size_t)reader->tile_height);
    if (TIFFReadTile(reader->library, reader->raw, (uint32_t)left, (uint32_t)top, 0,
                     (uint16_t)plane) < 0 ||
        reader->damaged)
        return damage(reader);
    int rows = min_int(reader->tile_height, reader->height - top);
    int columns = min_int(reader->tile_width, reader->width - left);
    for (int y = 0; y < rows; y++)
        tiff_paint_row(&reader->paint, plane, reader->raw + reader->row_bytes * (size_t)y,
                       reader->row, columns, pixels + 3 * (size_t)y * (size_t)reader->width);
    return stop_if_interrupted(reader);
}

static OcrCode decode_tiles(TiffReader *reader, int plane, uint8_t *pixels) {
    OcrCode code = OCR_OK;
    for (int top = 0; top < reader->height; top += reader->tile_height)
        for (int left = 0; left < reader->width && code == OCR_OK; left += reader->tile_width)
            code = decode_tile(reader, plane, left, top,
                               pixels + 3 * ((size_t)top * (size_t)reader->width + (size_t)left));
    return code;
}

static OcrCode decode_pixels(TiffReader *reader, uint8_t *pixels) {
    OcrCode code = lay_out(reader);
    for (int plane = tiff_paint_planes(&reader->paint) - 1; plane >= 0 && code == OCR_OK; plane--)
        code = reader->tile_width > 0 ? decode_tiles(reader, plane, pixels)
                                      : decode_rows(reader, plane, pixels);
    return code;
}

static OcrCode decode(OcrBytes file, const OcrImageInfo *info, bool (*interrupted)(void),
                      uint8_t *pixels, OcrError *err) {
    TiffReader reader = {.file = file,
                         .interrupted = interrupted,
                         .err = err,
                         .width = info->stored_width,
                         .height = info->stored_height};
    OcrCode code = find_page(file, info->page, &reader.place, err);
    if (code != OCR_OK)
        return code;
    open_library(&reader);
    code = open_page(&reader);
    if (code == OCR_OK)
        code = decode_pixels(&reader, pixels);
    close_library(&reader);
    free(reader.raw);
    free(reader.row);
    return code;
}

const ImageReader tiff_reader = {matches, count, probe, decode};
