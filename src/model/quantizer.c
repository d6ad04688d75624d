#include "model/quantizer.h"

#include "base/file.h"
#include "kernels/convert.h"
#include "kernels/quant.h"
#include "model/json.h"
#include "model/safetensors.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define WEIGHTS_NAME "model.safetensors"
#define STEP_VALUES (1 << 19)  /* rounded in one step */
#define STEP_BYTES (1 << 18)   /* copied in one step */
#define FLUSH_BYTES (32 << 20) /* written between two requests to bring them to disk */
#define CACHE_LINE 64          /* where the data begins, see quant.h */
#define NAME_SIZE 512
#define SMALL_FILE_BYTES (64 << 20)
#define SMALL_FILES (sizeof small_files / sizeof *small_files)

static const char *const small_files[] = {"config.json",           "tokenizer.json",
                                          "tokenizer_config.json", "special_tokens_map.json",
                                          "processor_config.json", "generation_config.json"};

/* How a tensor of the source becomes one of the target. */
typedef enum Form { FORM_COPY, FORM_Q8, FORM_Q4 } Form;

typedef struct Piece {
    const Tensor *tensor;
    Form form;
    int rows, columns; /* of a matrix */
    int64_t offset;    /* in the target's data */
    int64_t scales;    /* likewise, of the companion */
} Piece;

struct OcrQuantizer {
    char source[PATH_MAX], target[PATH_MAX], partial[PATH_MAX];
    Safetensors *files;
    Piece *pieces; /* [files->count] in the order of the target */
    int fd;        /* of the target's weights, locked; -1 before and after */
    int64_t data;  /* where the data begins in it */
    int64_t written, total;
    int piece, row;   /* next to be written */
    int64_t copied;   /* of a piece that is copied, bytes */
    int64_t flushed;  /* of written, what is on its way to disk */
    float *values;    /* [STEP_VALUES] of a step's rows, or of one row that is longer */
    uint8_t *bytes;   /* the same quantized */
    uint16_t *scales; /* and their scales */
    bool made;        /* the partial folder is ours to remove */
};

/* ---- what becomes of a tensor ---- */

static bool ends_with(const char *name, const char *end) {
    size_t length = strlen(name), part = strlen(end);
    return length >= part && strcmp(name + length - part, end) == 0;
}

static Form form_of(const Tensor *tensor, OcrQuantType type) {
    if (tensor->dims != 2 || tensor->count == 0 || !ends_with(tensor->name, ".weight") ||
        tensor->type == TENSOR_I64 || strcmp(tensor->name, "model.embed_tokens.weight") == 0 ||
        ends_with(tensor->name, ".position_embedding.weight") ||
        ends_with(tensor->name, ".mlp.gate.weight"))
        return FORM_COPY;
    bool decoder = strncmp(tensor->name, "model.layers.", 13) == 0 ||
                   strcmp(tensor->name, "lm_head.weight") == 0;
    return type == OCR_QUANT_Q4 && decoder ? FORM_Q4 : FORM_Q8;
}

static int64_t row_bytes(const Piece *piece) {
    return piece->form == FORM_Q8 ? piece->columns : (int64_t)q4_row_bytes(piece->columns);
}

static int blocks(const Piece *piece) {
    return piece->form == FORM_Q8 ? q8_blocks(piece->columns) : q4_blocks(piece->columns);
}

/* Bytes of a piece's data, and of its elements. */
static int64_t piece_bytes(const Piece *piece) {
    return piece->form == FORM_COPY ? (int64_t)tensor_bytes(piece->tensor)
                                    : piece->rows * row_bytes(piece);
}

static int element_width(const Piece *piece) {
    return piece->form == FORM_COPY ? tensor_width(piece->tensor->type) : 1;
}

/* NULL without memory: jansson drops what it has none for. */
static json_t *shape_of(const Piece *piece) {
    if (piece->form != FORM_COPY)
        return json_pack("[i, I]", piece->rows, (json_int_t)row_bytes(piece));
    json_t *shape = json_array();
    for (int i = 0; i < piece->tensor->dims; i++)
        json_array_append_new(shape, json_integer((json_int_t)piece->tensor->shape[i]));
    if (json_array_size(shape) == (size_t)piece->tensor->dims)
        return shape;
    json_decref(shape);
    return NULL;
}

static int64_t place(json_t *header, const char *name, const char *type, json_t *shape,
                     int64_t bytes, int64_t *at) {
    int64_t offset = *at;
    *at += bytes;
    json_object_set_new(header, name,
                        json_pack("{s:s, s:o, s:[I, I]}", "dtype", type, "shape", shape,
                                  "data_offsets", (json_int_t)offset, (json_int_t)*at));
    return offset;
}

/*
 * Every tensor's form and place, and the header that says so; NULL without memory. Wide
 * elements come first, so that all are aligned.
 */
static json_t *plan(OcrQuantizer *quantizer, OcrQuantType type) {
    static const char *const quantized[] = {[FORM_Q8] = "I8", [FORM_Q4] = "U8"};
    json_t *header = json_pack("{s:{s:s}}", "__metadata__", "format", "pt");
    int count = quantizer->files->count;
    int64_t at = 0;
    size_t entries = 1 + (size_t)count; /* with the metadata */
    for (int i = 0; i < count; i++) {
        const Tensor *tensor = &quantizer->files->tensors[i];
        quantizer->pieces[i] = (Piece){.tensor = tensor,
                                       .form = form_of(tensor, type),
                                       .rows = (int)tensor->shape[0],
                                       .columns = (int)tensor->shape[1]};
        entries += quantizer->pieces[i].form != FORM_COPY;
    }
    for (int width = 8; width > 0; width /= 2)
        for (int i = 0; i < count; i++) {
            Piece *piece = &quantizer->pieces[i];
            const Tensor *tensor = piece->tensor;
            if (element_width(piece) == width)
                piece->offset = place(header, tensor->name,
                                      piece->form == FORM_COPY ? tensor_type_name(tensor->type)
                                                               : quantized[piece->form],
                                      shape_of(piece), piece_bytes(piece), &at);
            if (width == 2 && piece->form != FORM_COPY) {
                char name[NAME_SIZE];
                snprintf(name, sizeof name, "%s_scale", tensor->name);
                piece->scales =
                    place(header, name, "BF16", json_pack("[i, i]", piece->rows, blocks(piece)),
                          2 * (int64_t)piece->rows * blocks(piece), &at);
            }
        }
    quantizer->total = at;
    if (json_object_size(header) == entries)
        return header;
    json_decref(header);
    return NULL;
}

/* ---- writing ---- */

static OcrCode cannot(OcrError *err, const char *what, const char *path) {
    return ocr_fail(err, OCR_TARGET, "could not %s \"%s\": %s", what, path, strerror(errno));
}

static OcrCode write_at(OcrQuantizer *quantizer, const void *bytes, int64_t size, int64_t offset,
                        OcrError *err) {
    const char *from = bytes;
    while (size > 0) {
        ssize_t written = pwrite(quantizer->fd, from, (size_t)size, (off_t)offset);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return cannot(err, "write", quantizer->partial);
        from += written;
        size -= written;
        offset += written;
    }
    return OCR_OK;
}

static OcrCode write_header(OcrQuantizer *quantizer, const json_t *header, OcrError *err) {
    char *text = header ? json_dumps(header, JSON_COMPACT) : NULL;
    if (!text)
        return ocr_fail(err, OCR_OUT_OF_MEMORY, "no memory for the header of the new model");
    size_t length = strlen(text), data = (8 + length + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
    char blanks[CACHE_LINE];
    uint8_t size[8];
    memset(blanks, ' ', sizeof blanks);
    for (int i = 0; i < 8; i++)
        size[i] = (uint8_t)((uint64_t)(data - 8) >> (8 * i));
    quantizer->data = (int64_t)data;
    quantizer->total += quantizer->data;
    quantizer->written = quantizer->data;
    OcrCode code = write_at(quantizer, size, 8, 0, err);
    if (!code)
        code = write_at(quantizer, text, (int64_t)length, 8, err);
    if (!code)
        code = write_at(quantizer, blanks, (int64_t)(data - 8 - length), 8 + (int64_t)length, err);
    free(text);
    return code;
}

/* A small file of the folder, byte for byte; absent ones are passed over. */
static OcrCode copy_file(const OcrQuantizer *quantizer, const char *name, OcrError *err) {
    char from[PATH_MAX + NAME_MAX], to[PATH_MAX + NAME_MAX], *bytes;
    size_t size;
    snprintf(from, sizeof from, "%s/%s", quantizer->source, name);
    snprintf(to, sizeof to, "%s/%s", quantizer->partial, name);
    OcrCode code = file_read(from, SMALL_FILE_BYTES, OCR_MODEL_FORMAT, &bytes, &size, err);
    if (code == OCR_MODEL_MISSING)
        return OCR_OK;
    if (code)
        return code;
    unlink(to);
    FILE *file = fopen(to, "wbx");
    bool good = file && fwrite(bytes, 1, size, file) == size && fflush(file) == 0 &&
                fsync(fileno(file)) == 0;
    if (file)
        good = fclose(file) == 0 && good;
    free(bytes);
    return good ? OCR_OK : cannot(err, "write", to);
}

static OcrCode copy_small_files(const OcrQuantizer *quantizer, OcrError *err) {
    OcrCode code = OCR_OK;
    for (size_t i = 0; i < SMALL_FILES && !code; i++)
        code = copy_file(quantizer, small_files[i], err);
    return code;
}

/* Is this open file still the one at path? */
static bool is_at(int fd, const char *path) {
    struct stat ours, there;
    return fstat(fd, &ours) == 0 && lstat(path, &there) == 0 && ours.st_dev == there.st_dev &&
           ours.st_ino == there.st_ino;
}

static bool is_our_name(const char *name) {
    for (size_t i = 0; i < SMALL_FILES; i++)
        if (strcmp(name, small_files[i]) == 0)
            return true;
    return strcmp(name, WEIGHTS_NAME) == 0 || strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* The partial folder, new or with nothing in it but what a writer that died has left. */
static OcrCode make_folder(const OcrQuantizer *quantizer, OcrError *err) {
    bool ours = true;
    if (mkdir(quantizer->partial, 0755) != 0 && errno != EEXIST)
        return cannot(err, "make", quantizer->partial);
    DIR *folder = opendir(quantizer->partial);
    if (!folder)
        return cannot(err, "read", quantizer->partial);
    for (struct dirent *entry; ours && (entry = readdir(folder));)
        ours = is_our_name(entry->d_name);
    closedir(folder);
    return ours ? OCR_OK
                : ocr_fail(err, OCR_TARGET, "\"%s\" holds files that are no unfinished copy's",
                           quantizer->partial);
}

/* *fd: the file at path, locked, or -1. False if another process has it, or errno says why. */
static bool open_locked(const char *path, int flags, int *fd) {
    *fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | flags, 0644);
    if (*fd < 0)
        return false;
    /* A writer that ended since the file was opened has unlocked it, but put it in place, too. */
    if (flock(*fd, LOCK_EX | LOCK_NB) == 0 && is_at(*fd, path))
        return true;
    errno = EEXIST;
    return false;
}

/*
 * The partial folder with a new weights file, locked. Remains of a writer that died are unlinked
 * and not written into: who reads them, as ocr_models() may, has them mapped. Their lock is held
 * until the new file is there, so that no two writers take them over.
 */
static OcrCode make_partial(OcrQuantizer *quantizer, OcrError *err) {
    char path[PATH_MAX + NAME_MAX];
    struct stat status;
    int remains;
    if (lstat(quantizer->target, &status) == 0)
        return ocr_fail(err, OCR_TARGET, "\"%s\" already exists", quantizer->target);
    OcrCode code = make_folder(quantizer, err);
    if (code)
        return code;
    snprintf(path, sizeof path, "%s/" WEIGHTS_NAME, quantizer->partial);
    if (open_locked(path, 0, &remains))
        quantizer->made = unlink(path) == 0;
    if (quantizer->made || errno == ENOENT)
        quantizer->made = open_locked(path, O_CREAT | O_EXCL, &quantizer->fd);
    if (!quantizer->made)
        code = errno == EEXIST
                   ? ocr_fail(err, OCR_TARGET, "\"%s\" is being written by another process",
                              quantizer->target)
                   : cannot(err, "write", path);
    if (remains >= 0)
        close(remains);
    return code;
}

/* Some file systems cannot do that for a folder; PostgreSQL passes over the same errors. */
static OcrCode sync_folder(const char *path, OcrError *err) {
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool good = fd >= 0 && (fsync(fd) == 0 || errno == EBADF || errno == EINVAL);
    OcrCode code = good ? OCR_OK : cannot(err, "write", path);
    if (fd >= 0)
        close(fd);
    return code;
}

/*
 * Everything is written: to disk, and under its name. Once it is there, anybody may use it: that
 * the name may not outlive a crash of the machine is no reason to fail.
 */
static OcrCode put_in_place(OcrQuantizer *quantizer, OcrError *err) {
    char parent[PATH_MAX];
    OcrError unseen;
    snprintf(parent, sizeof parent, "%s", quantizer->target);
    char *slash = strrchr(parent, '/');
    if (slash)
        slash[slash == parent] = '\0';
    OcrCode code = fsync(quantizer->fd) == 0 ? OCR_OK : cannot(err, "write", quantizer->partial);
    if (!code)
        code = sync_folder(quantizer->partial, err);
    if (!code && rename(quantizer->partial, quantizer->target) != 0)
        code = cannot(err, "rename to", quantizer->target);
    if (code)
        return code;
    quantizer->made = false;
    sync_folder(slash ? parent : ".", &unseen);
    return OCR_OK;
}

/* ---- steps ---- */

/* Rows of a matrix that one step takes. */
static int step_rows(const Piece *piece) {
    int rows = STEP_VALUES / piece->columns;
    return rows > 0 ? rows : 1;
}

static OcrCode write_quantized(OcrQuantizer *quantizer, const Piece *piece, int rows,
                               OcrError *err) {
    size_t columns = (size_t)piece->columns, width = (size_t)row_bytes(piece);
    size_t scales = (size_t)blocks(piece), element = (size_t)tensor_width(piece->tensor->type);
    const char *from =
        (const char *)piece->tensor->data + (size_t)quantizer->row * columns * element;
    convert_to_f32(from, tensor_weight_type(piece->tensor->type), (size_t)rows * columns,
                   quantizer->values);
    for (size_t i = 0; i < (size_t)rows * columns; i++)
        if (!isfinite(quantizer->values[i]))
            return ocr_fail(err, OCR_MODEL_NOT_FINITE, "tensor %s holds a value that is not finite",
                            piece->tensor->name);
    for (size_t r = 0; r < (size_t)rows; r++) {
        const float *x = quantizer->values + r * columns;
        if (piece->form == FORM_Q8)
            quantize_q8(x, piece->columns, (int8_t *)quantizer->bytes + r * width,
                        quantizer->scales + r * scales);
        else
            quantize_q4(x, piece->columns, quantizer->bytes + r * width,
                        quantizer->scales + r * scales);
    }
    int64_t row = quantizer->row;
    OcrCode code = write_at(quantizer, quantizer->bytes, rows * row_bytes(piece),
                            quantizer->data + piece->offset + row * row_bytes(piece), err);
    if (!code)
        code = write_at(quantizer, quantizer->scales, 2 * (int64_t)rows * blocks(piece),
                        quantizer->data + piece->scales + 2 * row * blocks(piece), err);
    quantizer->written += rows * (row_bytes(piece) + 2 * (int64_t)blocks(piece));
    return code;
}

static OcrCode copy_piece(OcrQuantizer *quantizer, const Piece *piece, OcrError *err) {
    int64_t size = piece_bytes(piece) - quantizer->copied;
    if (size > STEP_BYTES)
        size = STEP_BYTES;
    OcrCode code = write_at(quantizer, (const char *)piece->tensor->data + quantizer->copied, size,
                            quantizer->data + piece->offset + quantizer->copied, err);
    quantizer->written += size;
    quantizer->copied += size;
    if (quantizer->copied == piece_bytes(piece)) {
        quantizer->copied = 0;
        quantizer->piece++;
    }
    return code;
}

static OcrCode write_piece(OcrQuantizer *quantizer, OcrError *err) {
    const Piece *piece = &quantizer->pieces[quantizer->piece];
    if (piece->form == FORM_COPY)
        return copy_piece(quantizer, piece, err);
    int rows = step_rows(piece), rest = piece->rows - quantizer->row;
    rows = rows < rest ? rows : rest;
    OcrCode code = write_quantized(quantizer, piece, rows, err);
    quantizer->row += rows;
    if (quantizer->row == piece->rows) {
        quantizer->row = 0;
        quantizer->piece++;
    }
    return code;
}

/* The last step waits for the disk, and no cancel ends that: leave it little to wait for. */
static void start_flush(OcrQuantizer *quantizer) {
    if (quantizer->written - quantizer->flushed < FLUSH_BYTES)
        return;
    sync_file_range(quantizer->fd, 0, 0, SYNC_FILE_RANGE_WRITE);
    quantizer->flushed = quantizer->written;
}

OcrCode quantizer_step(OcrQuantizer *quantizer, bool *done, OcrError *err) {
    *done = false;
    start_flush(quantizer);
    if (quantizer->piece < quantizer->files->count)
        return write_piece(quantizer, err);
    OcrCode code = put_in_place(quantizer, err);
    *done = code == OCR_OK;
    return code;
}

void quantizer_progress(const OcrQuantizer *quantizer, int64_t *written, int64_t *total) {
    *written = quantizer->written;
    *total = quantizer->total;
}

/* ---- beginning and end ---- */

static bool take_buffers(OcrQuantizer *quantizer) {
    size_t values = STEP_VALUES;
    for (int i = 0; i < quantizer->files->count; i++) {
        const Tensor *tensor = &quantizer->files->tensors[i];
        if (tensor->dims == 2 && (size_t)tensor->shape[1] > values)
            values = (size_t)tensor->shape[1];
    }
    /* A short row is one block, however few values that has. */
    quantizer->values = malloc(values * sizeof *quantizer->values);
    quantizer->bytes = malloc(values * Q4_BLOCK / 2);
    quantizer->scales = malloc(values * sizeof *quantizer->scales);
    quantizer->pieces = calloc((size_t)quantizer->files->count, sizeof *quantizer->pieces);
    return quantizer->values && quantizer->bytes && quantizer->scales && quantizer->pieces;
}

static OcrCode begin(OcrQuantizer *quantizer, OcrQuantType type, OcrError *err) {
    OcrCode code = safetensors_open(quantizer->source, &quantizer->files, err);
    if (code)
        return code;
    for (int i = 0; i < quantizer->files->count; i++)
        if (strlen(quantizer->files->tensors[i].name) >= NAME_SIZE - sizeof "_scale" ||
            quantizer->files->tensors[i].type > TENSOR_I64)
            return ocr_fail(err, OCR_MODEL_TENSOR, "tensor %.200s cannot be quantized again",
                            quantizer->files->tensors[i].name);
    if (!take_buffers(quantizer))
        return ocr_fail(err, OCR_OUT_OF_MEMORY, "out of memory");
    code = make_partial(quantizer, err);
    if (code)
        return code;
    json_t *header = plan(quantizer, type);
    code = write_header(quantizer, header, err);
    json_decref(header);
    return code ? code : copy_small_files(quantizer, err);
}

OcrCode quantizer_open(const char *source, const char *target, OcrQuantType type,
                       OcrQuantizer **out, OcrError *err) {
    size_t longest = PATH_MAX - sizeof ".partial";
    if (strlen(source) >= longest || strlen(target) >= longest || !*target)
        return ocr_fail(err, OCR_TARGET, "the path is empty or too long");
    OcrQuantizer *quantizer = calloc(1, sizeof *quantizer);
    if (!quantizer)
        return ocr_fail(err, OCR_OUT_OF_MEMORY, "out of memory");
    quantizer->fd = -1;
    snprintf(quantizer->source, PATH_MAX, "%s", source);
    snprintf(quantizer->target, PATH_MAX, "%s", target);
    size_t length = strlen(target);
    while (length > 1 && quantizer->target[length - 1] == '/')
        quantizer->target[--length] = '\0';
    snprintf(quantizer->partial, PATH_MAX, "%.*s.partial", (int)length, target);
    OcrCode code = begin(quantizer, type, err);
    if (code) {
        quantizer_close(quantizer);
        return code;
    }
    *out = quantizer;
    return OCR_OK;
}

static void remove_partial(const OcrQuantizer *quantizer) {
    char path[PATH_MAX + NAME_MAX];
    for (size_t i = 0; i < SMALL_FILES; i++) {
        snprintf(path, sizeof path, "%s/%s", quantizer->partial, small_files[i]);
        unlink(path);
    }
    snprintf(path, sizeof path, "%s/" WEIGHTS_NAME, quantizer->partial);
    unlink(path);
    rmdir(quantizer->partial);
}

void quantizer_close(OcrQuantizer *quantizer) {
    if (!quantizer)
        return;
    if (quantizer->made)
        remove_partial(quantizer);
    if (quantizer->fd >= 0)
        close(quantizer->fd);
    safetensors_close(quantizer->files, false);
    free(quantizer->pieces);
    free(quantizer->values);
    free(quantizer->bytes);
    free(quantizer->scales);
    free(quantizer);
}
