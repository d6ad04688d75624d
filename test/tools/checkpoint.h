/*
 * checkpoint.h - checkpoint folders with generated weights, for tests and benchmarks.
 *
 * A folder is what DeepSeek-OCR is published as: config.json, an index, shards
 * and a tokenizer, of any size. The weights are pseudo-random numbers that
 * depend on nothing but the seed, the tensor's name and the place in it, so every
 * machine writes the same bytes (test/goldens was made from such a folder). Their
 * spread keeps activations in the range of a trained model; what the model says is
 * nonsense.
 */
#ifndef TEST_CHECKPOINT_H
#define TEST_CHECKPOINT_H

#include "base/status.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#define CHECKPOINT_MAX_SHARDS 1000

typedef enum CheckpointType {
    CHECKPOINT_AS_CONFIG, /* what torch_dtype says */
    CHECKPOINT_BF16,
    CHECKPOINT_F16,
    CHECKPOINT_F32
} CheckpointType;

typedef struct CheckpointOptions {
    uint64_t seed;
    CheckpointType type;
    int shards;       /* 1..CHECKPOINT_MAX_SHARDS */
    bool list_merges; /* merges as ["a", "b"], as newer files have them, instead of "a b" */
    int threads;      /* 0: all processors */
} CheckpointOptions;

/*
 * The config.json of a preset, or NULL:
 *   nano    3.4 MB, dims that divide well
 *   micro   4.2 MB, odd dims, other window, grid and rope base, f32
 *   full    6.7 GB, the released dims
 * The caller may change it before writing and calls json_decref.
 */
json_t *checkpoint_preset(const char *name);

/*
 * Write the folder, which is made if it is not there. config.torch_dtype is set
 * to the type that is written. Every failure is OCR_SYSTEM or OCR_MODEL_CONFIG.
 */
OcrCode checkpoint_write(const char *folder, json_t *config, const CheckpointOptions *options,
                         OcrError *err);

/* The tokenizer.json for a vocabulary of that size, or NULL if it does not fit. */
json_t *checkpoint_tokenizer(int vocab_size, bool list_merges);

#endif
