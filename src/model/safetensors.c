#include "model/safetensors.h"

#include "model/json.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define INDEX_NAME "model.safetensors.index.json"
#define SINGLE_NAME "model.safetensors"
#define INDEX_MAX_BYTES (64 << 20)
#define HEADER_MAX_BYTES (64 << 20)
#define HEADER_LENGTH_BYTES 8

static const struct {
    const char *name;
    int width; /* bytes an element */
} types[] = {[TENSOR_F32] = {"F32", 4}, [TENSOR_BF16] = {"BF16", 2}, [TENSOR_F16] = {"F16", 2},
             [TENSOR_I64] = {"I64", 8}, [TENSOR_I8] = {"I8", 1},     [TENSOR_U8] = {"U8", 1}};

/* One shard while its header is read. */
typedef struct Shard {
    const char *file;    /* name without folder, for messages */
    const uint8_t *data; /* the byte after the header */
    uint64_t size;       /* bytes of data */
} Shard;

static OcrCode map_file(const char *folder, const char *file, Mapping *map, OcrError *err) {
    char path[PATH_MAX];
    struct stat status;
    if (snprintf(path, sizeof path, "%s/%s", folder, file) >= (int)sizeof path)
        return ocr_fail(err, OCR_MODEL_MISSING, "the path of \"%s\" is too long", file);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return ocr_fail(
            err, errno == ENOENT || errno == ENOTDIR ? OCR_MODEL_MISSING : OCR_MODEL_UNREADABLE,
            "could not open \"%s\": %s", path, strerror(errno));
    if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
        close(fd);
        return ocr_fail(err, OCR_MODEL_UNREADABLE, "\"%s\" is not a regular file", path);
    }
    if (status.st_size < HEADER_LENGTH_BYTES) {
        close(fd);
        return ocr_fail(err, OCR_MODEL_FORMAT, "%s is too short for a safetensors file", file);
    }
    map->size = (size_t)status.st_size;
    map->address = mmap(NULL, map->size, PROT_READ, MAP_SHARED, fd, 0);
    int problem = errno;
    close(fd);
    if (map->address == MAP_FAILED) {
        *map = (Mapping){NULL, 0};
        return ocr_fail(err, OCR_MODEL_UNREADABLE, "could not map \"%s\": %s", path,
                        strerror(problem));
    }
    /* Where the page cache keeps files in large pages, a new process touches them far faster. */
    madvise(map->address, map->size, MADV_HUGEPAGE);
    return OCR_OK;
}

static bool read_unsigned(const json_t *value, uint64_t *out) {
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return false;
    *out = (uint64_t)json_integer_value(value);
    return true;
}

/* A header entry {"dtype":…, "shape":[…], "data_offsets":[begin, end]} (spec 1.1). */
static OcrCode read_tensor(const Shard *shard, const char *name, const json_t *entry, Tensor *out,
                           OcrError *err) {
    const char *dtype = json_string_value(json_object_get(entry, "dtype"));
    const json_t *shape = json_object_get(entry, "shape");
    const json_t *offsets = json_object_get(entry, "data_offsets");
    uint64_t begin, end, bytes;
    int size = 0;

    if (!dtype || !json_is_array(shape) || json_array_size(offsets) != 2 ||
        !read_unsigned(json_array_get(offsets, 0), &begin) ||
        !read_unsigned(json_array_get(offsets, 1), &end))
        return ocr_fail(err, OCR_MODEL_FORMAT, "%s: the entry of tensor %.200s is malformed",
                        shard->file, name);
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (strcmp(dtype, types[i].name) == 0) {
            out->type = (TensorType)i;
            size = types[i].width;
        }
    if (size == 0)
        return ocr_fail(err, OCR_MODEL_TENSOR, "%s: tensor %.200s has the unsupported type %.20s",
                        shard->file, name, dtype);
    if (json_array_size(shape) > TENSOR_MAX_DIMS)
        return ocr_fail(err, OCR_MODEL_TENSOR, "%s: tensor %.200s has %zu dimensions", shard->file,
                        name, json_array_size(shape));
    out->name = name;
    out->dims = (int)json_array_size(shape);
    out->count = 1;
    for (int i = 0; i < out->dims; i++) {
        uint64_t length;
        if (!read_unsigned(json_array_get(shape, (size_t)i), &length) || length > INT_MAX ||
            __builtin_mul_overflow(out->count, (int64_t)length, &out->count))
            return ocr_fail(err, OCR_MODEL_FORMAT, "%s: tensor %.200s has an impossible shape",
                            shard->file, name);
        out->shape[i] = (int64_t)length;
    }
    if (begin > end || end > shard->size)
        return ocr_fail(err, OCR_MODEL_FORMAT,
                        "%s: tensor %.200s lies outside the file, which may be truncated",
                        shard->file, name);
    if (__builtin_mul_overflow((uint64_t)out->count, (uint64_t)size, &bytes) ||
        bytes != end - begin)
        return ocr_fail(err, OCR_MODEL_FORMAT,
                        "%s: tensor %.200s has %llu bytes, which does not match its shape and type",
                        shard->file, name, (unsigned long long)(end - begin));
    out->data = shard->data + begin;
    if ((uintptr_t)out->data % (uintptr_t)size != 0)
        return ocr_fail(err, OCR_MODEL_FORMAT,
                        "%s: tensor %.200s is not aligned to its element size; save the file again "
                        "with a current safetensors library",
                        shard->file, name);
    return OCR_OK;
}

static int compare_place(const void *a, const void *b) {
    uintptr_t left = (uintptr_t)((const Tensor *)a)->data;
    uintptr_t right = (uintptr_t)((const Tensor *)b)->data;
    return (left > right) - (left < right);
}

static int compare_name(const void *a, const void *b) {
    return strcmp(((const Tensor *)a)->name, ((const Tensor *)b)->name);
}

size_t tensor_bytes(const Tensor *tensor) {
    return (size_t)tensor->count * (size_t)types[tensor->type].width;
}

int tensor_width(TensorType type) {
    return types[type].width;
}

const char *tensor_type_name(TensorType type) {
    return types[type].name;
}

WeightType tensor_weight_type(TensorType type) {
    return type == TENSOR_F32 ? WEIGHT_F32 : type == TENSOR_BF16 ? WEIGHT_BF16 : WEIGHT_F16;
}

static OcrCode check_overlap(const char *file, Tensor *tensors, int count, OcrError *err) {
    qsort(tensors, (size_t)count, sizeof *tensors, compare_place);
    for (int i = 1; i < count; i++) {
        const Tensor *before = &tensors[i - 1];
        if ((const uint8_t *)before->data + tensor_bytes(before) > (const uint8_t *)tensors[i].data)
            return ocr_fail(err, OCR_MODEL_FORMAT, "%s: tensors %.150s and %.150s overlap", file,
                            before->name, tensors[i].name);
    }
    return OCR_OK;
}

/* Map one file and append its tensors. */
static OcrCode add_shard(Safetensors *files, const char *folder, const char *file, OcrError *err) {
    Mapping *map = &files->maps[files->map_count];
    OcrCode code = map_file(folder, file, map, err);
    if (code)
        return code;
    files->map_count++;

    uint64_t length = 0;
    const uint8_t *bytes = map->address;
    for (int i = 0; i < HEADER_LENGTH_BYTES; i++)
        length |= (uint64_t)bytes[i] << (8 * i);
    if (length > map->size - HEADER_LENGTH_BYTES || length > HEADER_MAX_BYTES)
        return ocr_fail(err, OCR_MODEL_FORMAT,
                        "%s: the header claims %llu bytes, more than the file can hold", file,
                        (unsigned long long)length);
    json_t *header;
    code = json_read_bytes(file, (const char *)bytes + HEADER_LENGTH_BYTES, length,
                           OCR_MODEL_FORMAT, &header, err);
    if (code)
        return code;
    files->headers[files->map_count - 1] = header;
    if (!json_is_object(header))
        return ocr_fail(err, OCR_MODEL_FORMAT, "%s: the header is not an object", file);

    size_t added = json_object_size(header);
    if (added > (size_t)(INT_MAX - files->count))
        return ocr_fail(err, OCR_MODEL_FORMAT, "%s: too many tensors", file);
    Tensor *grown = realloc(files->tensors, ((size_t)files->count + added + 1) * sizeof *grown);
    if (!grown)
        return ocr_fail(err, OCR_OUT_OF_MEMORY, "out of memory");
    files->tensors = grown;

    Shard shard = {file, bytes + HEADER_LENGTH_BYTES + length,
                   map->size - HEADER_LENGTH_BYTES - length};
    Tensor *first = files->tensors + files->count;
    int count = 0;
    const char *name;
    json_t *entry;
    json_object_foreach(header, name, entry) {
        if (strcmp(name, "__metadata__") == 0)
            continue;
        first[count] = (Tensor){0};
        code = read_tensor(&shard, name, entry, &first[count], err);
        if (code)
            return code;
        count++;
    }
    files->count += count;
    return check_overlap(file, first, count, err);
}

/* A shard's name comes from the index and must stay inside the folder. */
static bool plain_file_name(const char *name) {
    return name && name[0] != '\0' && name[0] != '.' && !strchr(name, '/') &&
           strlen(name) <= NAME_MAX;
}

static OcrCode add_indexed_shards(Safetensors *files, const char *folder, const json_t *index,
                                  OcrError *err) {
    json_t *weight_map = json_object_get(index, "weight_map");
    const char *names[SAFETENSORS_MAX_SHARDS];
    int ends[SAFETENSORS_MAX_SHARDS]; /* files->count after shard i */
    const char *tensor;
    json_t *value;
    if (!json_is_object(weight_map) || json_object_size(weight_map) == 0)
        return ocr_fail(err, OCR_MODEL_FORMAT, INDEX_NAME ": weight_map is missing or empty");
    json_object_foreach(weight_map, tensor, value) {
        const char *file = json_string_value(value);
        int i = 0;
        if (!plain_file_name(file))
            return ocr_fail(
                err, OCR_MODEL_FORMAT,
                INDEX_NAME
                ": tensor %.150s is mapped to \"%.150s\", which is not a plain file name",
                tensor, file ? file : "");
        while (i < files->map_count && strcmp(names[i], file) != 0)
            i++;
        if (i < files->map_count)
            continue;
        if (i == SAFETENSORS_MAX_SHARDS)
            return ocr_fail(err, OCR_MODEL_FORMAT, INDEX_NAME " names more than %d files", i);
        OcrCode code = add_shard(files, folder, file, err);
        if (code)
            return code;
        names[i] = file;
        ends[i] = files->count;
    }
    /* Index and shards must tell the same story, both ways. */
    for (int i = 0, shard = 0; i < files->count; i++) {
        while (i >= ends[shard])
            shard++;
        const char *file = json_string_value(json_object_get(weight_map, files->tensors[i].name));
        if (!file || strcmp(file, names[shard]) != 0)
            return ocr_fail(err, OCR_MODEL_FORMAT,
                            "%.150s holds tensor %.150s, which " INDEX_NAME " %s", names[shard],
                            files->tensors[i].name,
                            file ? "places in another file" : "does not name");
    }
    if ((size_t)files->count == json_object_size(weight_map))
        return OCR_OK;
    qsort(files->tensors, (size_t)files->count, sizeof *files->tensors, compare_name);
    json_object_foreach(weight_map, tensor, value) {
        if (!safetensors_find(files, tensor))
            return ocr_fail(err, OCR_MODEL_TENSOR, "tensor %.150s is missing in %.150s", tensor,
                            json_string_value(value));
    }
    return ocr_fail(err, OCR_MODEL_FORMAT, "a tensor appears twice in the safetensors files");
}

static OcrCode read_folder(Safetensors *files, const char *folder, OcrError *err) {
    char path[PATH_MAX];
    json_t *index;
    OcrCode code;
    if (snprintf(path, sizeof path, "%s/" INDEX_NAME, folder) >= (int)sizeof path)
        return ocr_fail(err, OCR_MODEL_MISSING, "the path of the model folder is too long");
    if (access(path, F_OK) != 0 && errno == ENOENT) {
        code = add_shard(files, folder, SINGLE_NAME, err);
    } else {
        code = json_read_file(path, INDEX_MAX_BYTES, OCR_MODEL_FORMAT, &index, err);
        if (code)
            return code;
        code = add_indexed_shards(files, folder, index, err);
        json_decref(index);
    }
    if (code)
        return code;
    qsort(files->tensors, (size_t)files->count, sizeof *files->tensors, compare_name);
    return OCR_OK;
}

OcrCode safetensors_open(const char *folder, Safetensors **out, OcrError *err) {
    Safetensors *files = calloc(1, sizeof *files);
    if (!files)
        return ocr_fail(err, OCR_OUT_OF_MEMORY, "out of memory");
    OcrCode code = read_folder(files, folder, err);
    if (code) {
        safetensors_close(files, false);
        return code;
    }
    *out = files;
    return OCR_OK;
}

void safetensors_close(Safetensors *files, bool keep_maps) {
    if (!files)
        return;
    for (int i = 0; i < files->map_count; i++) {
        json_decref(files->headers[i]);
        if (!keep_maps)
            munmap(files->maps[i].address, files->maps[i].size);
    }
    free(files->tensors);
    free(files);
}

Tensor *safetensors_find(Safetensors *files, const char *name) {
    Tensor key = {.name = name};
    return bsearch(&key, files->tensors, (size_t)files->count, sizeof key, compare_name);
}
