/*
 * safetensors.h - the tensors of a checkpoint folder, mapped and validated (spec 1.1).
 *
 * A folder holds model.safetensors.index.json and the shards that it names, or
 * a single model.safetensors. Every file is mapped read-only and shared, so all
 * processes that open it use one physical copy. Offsets, shapes and types are
 * checked once, here; afterwards a tensor is a plain pointer.
 *
 * The directory (names, shapes) is transient: the model binds what it needs and
 * closes it, keeping only the mappings.
 *
 * What this does not do: watch the files. One that is cut short while mapped
 * raises SIGBUS at the next access to the lost part.
 */
#ifndef OCR_SAFETENSORS_H
#define OCR_SAFETENSORS_H

#include "base/status.h"
#include "kernels/matmul.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TENSOR_MAX_DIMS 4
#define SAFETENSORS_MAX_SHARDS 1024

typedef enum TensorType {
    TENSOR_F32,
    TENSOR_BF16,
    TENSOR_F16,
    TENSOR_I64,
    TENSOR_I8, /* Q8 weights */
    TENSOR_U8  /* Q4 weights, two a byte */
} TensorType;

typedef struct Tensor {
    const char *name; /* owned by the directory */
    const void *data; /* in the mapping, aligned to the element's size */
    TensorType type;
    int dims;
    int64_t shape[TENSOR_MAX_DIMS]; /* [dims], last index fastest */
    int64_t count;                  /* product of shape */
    bool used;                      /* for the caller's book-keeping */
} Tensor;

typedef struct Mapping {
    void *address;
    size_t size;
} Mapping;

typedef struct Safetensors {
    Tensor *tensors; /* [count], sorted by name */
    int count;
    Mapping maps[SAFETENSORS_MAX_SHARDS];
    int map_count;
    void *headers[SAFETENSORS_MAX_SHARDS]; /* parsed JSON, which owns the names */
} Safetensors;

/* *out is malloc'ed. Failures name the file and what is wrong with it. */
OcrCode safetensors_open(const char *folder, Safetensors **out, OcrError *err);

/* Free the directory. The mappings are unmapped too unless keep_maps. NULL is allowed. */
void safetensors_close(Safetensors *files, bool keep_maps);

size_t tensor_bytes(const Tensor *tensor);
int tensor_width(TensorType type);              /* bytes of an element */
const char *tensor_type_name(TensorType type);  /* as the header spells it */
WeightType tensor_weight_type(TensorType type); /* of F32, BF16 and F16 */

Tensor *safetensors_find(Safetensors *files, const char *name); /* NULL if there is none */

#endif
