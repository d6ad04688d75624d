/*
 * stats.h - counters of the pages that were read, for pg_stat_ocr.
 *
 * Counted for each database, in shared memory if the library is preloaded; else
 * each backend counts what it reads itself, and nobody else sees it. Counts do
 * not roll back with the transaction and begin anew with the server.
 */
#ifndef PG_STATS_H
#define PG_STATS_H

#include "engine.h"
#include "pg/shared.h"

extern SharedArea stats_area;

/* A page was read to its end. */
void stats_count_page(const OcrPage *page);

/* A page could not be read, for this reason; not called when a query is cancelled. */
void stats_count_error(int sqlstate);

#endif
