/*
 * convert_batch.h - one batch of ocr_convert(): rows taken, read, written.
 */
#ifndef PG_CONVERT_BATCH_H
#define PG_CONVERT_BATCH_H

#include "pg/convert_progress.h"
#include "pg/convert_rows.h"
#include "pg/page.h"

typedef struct ConvertJob {
    ConvertRows rows;
    PageInput options; /* mode and prompt */
    int batch_size;    /* pages */
    ConvertProgress progress;
} ConvertJob;

/* The pending rows as they were found. */
typedef struct RowList {
    RowPlace *places; /* [count] */
    int64 count;
    int64 next; /* the first that was not looked at */
} RowList;

/*
 * Take rows from the list until they have batch_size pages or it ends, and
 * convert them, all in the current transaction, which the caller is to commit.
 * A document is not divided among batches. A row that cannot be read or written
 * gets an entry in ocr_failures; what would hit the next row as well is raised.
 */
void convert_batch(ConvertJob *job, RowList *list);

#endif
