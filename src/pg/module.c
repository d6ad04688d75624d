/*
 * module.c - what happens when PostgreSQL loads the library: settings are
 * defined and, if it is preloaded, shared memory is asked for. Nothing else: no
 * thread, no file, no model before the first page is read.
 */
#include "postgres.h"
#include "pg/compat.h"

#include "pg/convert_progress.h"
#include "pg/settings.h"
#include "pg/shared.h"
#include "pg/stats.h"

PG_MODULE_MAGIC;

static SharedArea *const areas[] = {&stats_area, &progress_area};

void _PG_init(void);

void _PG_init(void) {
    settings_define();
    shared_reserve(areas, lengthof(areas));
}
