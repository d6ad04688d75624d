/*
 * compat.h - the differences between PostgreSQL 13 and 18, all of them.
 *
 * Include it right after postgres.h. The rest of src/pg is written for the
 * newest of these interfaces.
 */
#ifndef PG_COMPAT_H
#define PG_COMPAT_H

#include "catalog/pg_authid.h"
#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/guc.h"

#if PG_VERSION_NUM < 130000
#error "deepseek_ocr needs PostgreSQL 13 or later"
#endif

/* 16 moved the macros of variable-length values out of postgres.h. */
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

/* PG_WAIT_EXTENSION; 14 gave wait events a header of their own. */
#if PG_VERSION_NUM >= 140000
#include "utils/wait_event.h"
#else
#include "pgstat.h"
#endif

/* 14 gave the predefined roles their present names. */
#if PG_VERSION_NUM < 140000
#define ROLE_PG_READ_ALL_SETTINGS DEFAULT_ROLE_READ_ALL_SETTINGS
#define ROLE_PG_READ_ALL_STATS DEFAULT_ROLE_READ_ALL_STATS
#endif

/* 15 made the prefix of an extension's settings reservable; before, unknown ones get a warning. */
#if PG_VERSION_NUM < 150000
#define MarkGUCPrefixReserved(prefix) EmitWarningsOnPlaceholders(prefix)
#endif

/* A timeout other than of the statement that ends what is at work; 17 brought transaction_timeout.
 */
static inline bool compat_timeout_pending(void) {
#if PG_VERSION_NUM >= 170000
    return TransactionTimeoutPending;
#else
    return false;
#endif
}

/* 15 asks for wishes for shared memory in a hook; before, _PG_init says them at once. */
#if PG_VERSION_NUM >= 150000
static inline void compat_on_shmem_request(shmem_request_hook_type *previous,
                                           void (*request)(void)) {
    *previous = shmem_request_hook;
    shmem_request_hook = request;
}
#else
typedef void (*shmem_request_hook_type)(void);
static inline void compat_on_shmem_request(shmem_request_hook_type *previous,
                                           void (*request)(void)) {
    *previous = NULL;
    request();
}
#endif

/* 15 brought a sort that can be cancelled: of millions of rows it takes seconds. */
#if PG_VERSION_NUM < 150000
#define qsort_interruptible qsort_arg
#endif

/* 15 brought the usual opening of a set-returning function that fills a tuplestore. */
#if PG_VERSION_NUM < 150000
static inline void InitMaterializedSRF(FunctionCallInfo fcinfo, bits32 flags) {
    ReturnSetInfo *rsinfo = (ReturnSetInfo *)fcinfo->resultinfo;
    MemoryContext old;
    TupleDesc columns;

    if (rsinfo == NULL || !IsA(rsinfo, ReturnSetInfo) || !(rsinfo->allowedModes & SFRM_Materialize))
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("set-valued function called in context that cannot accept a set")));
    old = MemoryContextSwitchTo(rsinfo->econtext->ecxt_per_query_memory);
    if (get_call_result_type(fcinfo, NULL, &columns) != TYPEFUNC_COMPOSITE)
        elog(ERROR, "return type must be a row type");
    rsinfo->returnMode = SFRM_Materialize;
    rsinfo->setResult =
        tuplestore_begin_heap(rsinfo->allowedModes & SFRM_Materialize_Random, false, work_mem);
    rsinfo->setDesc = columns;
    MemoryContextSwitchTo(old);
}
#endif

/*
 * Can this UTF-8 text be written in the database's encoding? 13 cannot say so
 * without raising an error; there the answer is yes, and the conversion that
 * follows raises it.
 */
#if PG_VERSION_NUM >= 140000
static inline bool compat_convertible(Oid conversion, const char *utf8, int length) {
    int room = length * MAX_CONVERSION_GROWTH + 1;
    unsigned char *converted = palloc_extended(room, MCXT_ALLOC_HUGE);
    int done = pg_do_encoding_conversion_buf(conversion, PG_UTF8, GetDatabaseEncoding(),
                                             (unsigned char *)utf8, length, converted, room, true);

    pfree(converted);
    return done == length;
}
#else
static inline bool compat_convertible(Oid conversion, const char *utf8, int length) {
    return true;
}
#endif

#endif
