/*
 * module.c - what happens when PostgreSQL loads the library: settings are
 * defined, and nothing else. No thread, no file, no memory before the first
 * page is read.
 */
#include "postgres.h"
#include "pg/compat.h"

#include "pg/settings.h"

PG_MODULE_MAGIC;

void _PG_init(void);

void _PG_init(void) {
    settings_define();
}
