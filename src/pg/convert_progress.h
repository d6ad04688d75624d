/*
 * convert_progress.h - how far ocr_convert() is, for those who wait.
 *
 * The caller gets a NOTICE from time to time. Other sessions see the view
 * ocr_progress, if the library is preloaded: each call at work has an entry in
 * shared memory, as long as there is room; otherwise a session sees its own call
 * alone, from a trigger for instance.
 */
#ifndef PG_CONVERT_PROGRESS_H
#define PG_CONVERT_PROGRESS_H

#include "datatype/timestamp.h"

#include "pg/shared.h"

extern SharedArea progress_area;

typedef struct ConvertProgress {
    Oid source;
    int64 notice_interval; /* microseconds; 0: no notices */
    TimestampTz started, noticed;
    int64 pages, failed; /* in this call, of which are committed: */
    int64 committed_pages, committed_failed;
    /* The list of rows at work: there may be several, one after the other. */
    TimestampTz list_started;
    int64 rows_done, rows_total;
} ConvertProgress;

/* The entry is there until progress_end, or until the current memory context is reset. */
void progress_begin(ConvertProgress *progress, Oid source, int64 notice_interval);
void progress_begin_list(ConvertProgress *progress, int64 rows);

/* Tell what the fields say now. Cheap enough for each page. */
void progress_tell(ConvertProgress *progress);

/* The same; what the fields say is committed. */
void progress_commit(ConvertProgress *progress);

/* The last notice. */
void progress_end(ConvertProgress *progress);

#endif
