/*
 * checkpoint_plan.h - which tensors a checkpoint has and where they lie in its files.
 *
 * Private to checkpoint*.c.
 */
#ifndef TEST_CHECKPOINT_PLAN_H
#define TEST_CHECKPOINT_PLAN_H

#include "checkpoint.h"

#define MAX_DIMS 4
#define MAX_NAME 96

typedef struct TensorPlan {
    char name[MAX_NAME];
    int64_t shape[MAX_DIMS + 1]; /* ends with 0 */
    int64_t count;               /* product of shape */
    bool positions;              /* I64 0, 1, 2, ... instead of weights */
    int shard;
    int64_t offset;      /* in the shard's data, bytes */
    int64_t first_chunk; /* chunks of the tensors before this one */
} TensorPlan;

typedef struct Inventory {
    TensorPlan *tensors; /* [count] in the order of the files */
    int count, capacity;
    const char *missing; /* what the configuration lacks, or "memory" */
} Inventory;

/* Names and shapes (spec 1.4); the caller frees inventory->tensors in any case. */
OcrCode list_tensors(const json_t *config, Inventory *inventory, OcrError *err);

#endif
