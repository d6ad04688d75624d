/*
 * convert_sql.h - the statements of one call of ocr_convert().
 *
 * They are written for the tables and columns that the call names, with every
 * name quoted and qualified, so that neither a hostile search_path nor an odd
 * name changes their meaning, and prepared once. They run with the caller's
 * rights.
 *
 * A row of the source is pending if it has an image, has no text yet, did not
 * fail before, and passes the caller's filter. If failures are to be retried, a
 * row that failed before this job is pending too, even if other pages of it are
 * in the target table. All that a job ever does to a row begins with a look
 * whether it is pending.
 */
#ifndef PG_CONVERT_SQL_H
#define PG_CONVERT_SQL_H

#include "executor/spi.h"
#include "storage/itemptr.h"

/* What the caller names. */
typedef struct ConvertTables {
    Oid source;
    const char *image;  /* column of source, bytea */
    Oid target_table;   /* InvalidOid: texts go to a column of source */
    const char *target; /* column of target_table, or of source, that takes a text */
    const char *key;    /* column of source; NULL: its primary key */
    const char *filter; /* SQL expression over a row of source; NULL: all rows */
    bool retry;
    Oid extension; /* schema of the extension */
} ConvertTables;

typedef struct ConvertSql {
    bool by_page; /* texts go to a table with a row for each page */
    /* Parameters of the first three: $1 source, $2 role, $3 failures since then bar a row, and of
       the last two: $4 tableoid, $5 ctid. */
    SPIPlanPtr pending;        /* tableoid, ctid of all pending rows */
    SPIPlanPtr lock;           /* tableoid, ctid of this row if it is pending and nobody holds it */
    SPIPlanPtr fetch;          /* key as text, image of this row if it is pending */
    SPIPlanPtr store;          /* $1 tableoid, $2 ctid, $3 text, $4 page */
    SPIPlanPtr rehearse_store; /* the same; checks rights, and stores nothing */
    SPIPlanPtr fail; /* $1 source, $2 role, $3 key, $4 page, $5 error, $6 sqlstate, $7 when */
    /* Forget earlier failures, of this job: */
    SPIPlanPtr forgive; /* $1 source, $2 role, $3 since, $4 key: of this row */
    SPIPlanPtr tidy;    /* $1 source, $2 role: of rows that are gone */
    /* $1 role: and of jobs whose tables or columns are gone */
    SPIPlanPtr tidy_jobs;
    /* $1 tableoid, $2 ctid: pages that the target table has; NULL if it can have none, as of rows
       that are not retried. */
    SPIPlanPtr stored;
} ConvertSql;

/*
 * Check the names and prepare the statements; to be called within SPI. What is wrong is raised
 * before any page is read, lacking privileges included. The statements live as long as the current
 * memory context.
 */
void convert_prepare(const ConvertTables *tables, ConvertSql *out);

#endif
