/*
 * convert_rows.h - what ocr_convert() does to rows: find, take, store, record.
 *
 * A job finds its rows once, as a list of places (ctid), and then takes one
 * after the other: looking for the next batch anew would scan the finished part
 * of the table again for each batch. A place is only a hint. Whether the row in
 * it is still to be read is decided when it is taken:
 *
 *   lock    the row, unless somebody holds it, in which case it is left alone
 *   look    again whether it is pending, with a snapshot taken under the lock
 *
 * The second look is what keeps two jobs from reading one row: who stored a
 * text or recorded a failure held the lock until that was committed, so
 * whoever gets the lock next sees it.
 *
 * All functions are to be called within SPI; what they return lies in the
 * current memory context.
 */
#ifndef PG_CONVERT_ROWS_H
#define PG_CONVERT_ROWS_H

#include "datatype/timestamp.h"
#include "nodes/bitmapset.h"

#include "pg/convert_sql.h"

typedef struct ConvertRows {
    Oid source;
    Oid role;          /* who calls */
    TimestampTz since; /* failures recorded earlier do not count; DT_NOBEGIN: all do */
    ConvertSql sql;
} ConvertRows;

typedef struct RowPlace {
    Oid table; /* the partition, or the source itself */
    ItemPointerData ctid;
} RowPlace;

/* A row that this transaction has locked. */
typedef struct ConvertRow {
    RowPlace place;
    int64 position; /* in the list of places */
    char *key;
    bytea *image;
    Bitmapset *stored; /* numbers of pages that the target table has from an earlier job */
} ConvertRow;

/* Forget what the caller's earlier jobs recorded of rows, columns and tables that are gone. */
void rows_tidy_failures(const ConvertRows *rows);

/* Where the pending rows are, in the order in which they are stored; palloc'ed. */
RowPlace *rows_find(const ConvertRows *rows, int64 *count);

/* false: no pending row is there, or somebody holds it. The key lies in the context `kept`. */
bool rows_take(const ConvertRows *rows, RowPlace place, MemoryContext kept, ConvertRow *out);

/* Write a text to its place, after which the row may lie elsewhere. Raises whatever the tables'
 * constraints and triggers raise. */
void rows_store(const ConvertRows *rows, const ConvertRow *row, int page, text *content);

/* Raise what deferred constraints say of all that was stored in this transaction, not at its end.
 */
void rows_check_constraints(void);

/* Raise an error if the caller may no longer write to the target at all. */
void rows_check_rights(const ConvertRows *rows);

/* The row's entry in ocr_failures: made, or counted up. */
void rows_record_failure(const ConvertRows *rows, const ConvertRow *row, int page,
                         const char *error, int sqlstate);

/* What earlier jobs recorded of this row, now that it was tried again, and did not happen again. */
void rows_forget_failures(const ConvertRows *rows, const ConvertRow *row);

#endif
