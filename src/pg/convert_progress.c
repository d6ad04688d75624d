#include "postgres.h"
#include "pg/compat.h"

#include "utils/acl.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "pg/convert_progress.h"

/* More calls at work at a time are not seen by other sessions. */
#define ENTRIES 128

typedef struct Entry {
    int pid; /* 0: the entry is free */
    Oid database;
    Oid role;
    ConvertProgress progress;
} Entry;

SharedArea progress_area = {.name = "deepseek_ocr_progress", .bytes = ENTRIES * sizeof(Entry)};

static Entry local; /* without preloading, or without a free entry */

/* Of this backend, which has one call at work at most; NULL: none is. */
static Entry *own;

static void lock(LWLockMode mode) {
    if (progress_area.memory != NULL)
        LWLockAcquire(progress_area.lock, mode);
}

static void unlock(void) {
    if (progress_area.memory != NULL)
        LWLockRelease(progress_area.lock);
}

/* Call with the lock held. */
static Entry *free_entry(void) {
    Entry *entries = progress_area.memory;

    if (entries != NULL)
        for (int i = 0; i < ENTRIES; i++)
            if (entries[i].pid == 0)
                return &entries[i];
    return &local;
}

static void release_entry(void *unused) {
    if (own == NULL)
        return;
    lock(LW_EXCLUSIVE);
    own->pid = 0;
    unlock();
    own = NULL;
}

static void show(const ConvertProgress *progress) {
    lock(LW_EXCLUSIVE);
    own->progress = *progress;
    unlock();
}

/* ---- numbers ---- */

static double seconds_since(TimestampTz then) {
    return (GetCurrentTimestamp() - then) / (double)USECS_PER_SEC;
}

static double pages_per_minute(const ConvertProgress *progress) {
    double seconds = seconds_since(progress->started);

    return seconds > 0 ? 60 * progress->pages / seconds : 0;
}

/* At the pace of this list so far; negative: unknown. */
static double seconds_left(const ConvertProgress *progress) {
    if (progress->rows_done == 0)
        return -1;
    return seconds_since(progress->list_started) / progress->rows_done *
           (progress->rows_total - progress->rows_done);
}

static const char *time_left(const ConvertProgress *progress) {
    int64 seconds = seconds_left(progress);

    if (seconds < 0)
        return "unknown time";
    return psprintf("%lld:%02d:%02d", (long long)(seconds / 3600), (int)(seconds / 60 % 60),
                    (int)(seconds % 60));
}

/* ---- while a call is at work ---- */

void progress_begin(ConvertProgress *progress, Oid source, int64 notice_interval) {
    MemoryContextCallback *callback = palloc0(sizeof *callback);

    *progress = (ConvertProgress){.source = source, .notice_interval = notice_interval};
    progress->started = progress->noticed = progress->list_started = GetCurrentTimestamp();
    callback->func = release_entry;
    MemoryContextRegisterResetCallback(CurrentMemoryContext, callback);
    lock(LW_EXCLUSIVE);
    own = free_entry();
    *own = (Entry){
        .pid = MyProcPid, .database = MyDatabaseId, .role = GetUserId(), .progress = *progress};
    unlock();
}

void progress_begin_list(ConvertProgress *progress, int64 rows) {
    progress->list_started = GetCurrentTimestamp();
    progress->rows_done = 0;
    progress->rows_total = rows;
    progress_tell(progress);
}

void progress_tell(ConvertProgress *progress) {
    TimestampTz now = GetCurrentTimestamp();

    show(progress);
    if (progress->notice_interval > 0 && now - progress->noticed >= progress->notice_interval) {
        progress->noticed = now;
        ereport(NOTICE,
                (errmsg("%lld of %lld rows, %lld pages, %lld failed, %.1f pages/min, %s left",
                        (long long)progress->rows_done, (long long)progress->rows_total,
                        (long long)progress->pages, (long long)progress->failed,
                        pages_per_minute(progress), time_left(progress))));
    }
}

void progress_commit(ConvertProgress *progress) {
    progress->committed_pages = progress->pages;
    progress->committed_failed = progress->failed;
    progress_tell(progress);
}

void progress_end(ConvertProgress *progress) {
    release_entry(NULL);
    if (progress->failed > 0)
        ereport(NOTICE, (errmsg_plural("%lld page could not be converted",
                                       "%lld pages could not be converted", progress->failed,
                                       (long long)progress->failed),
                         errhint("See ocr_failures.")));
}

/* ---- the view ---- */

/* As in pg_stat_activity. */
static bool may_see(const Entry *entry) {
    return has_privs_of_role(GetUserId(), entry->role) ||
           has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS);
}

static void put_entry(const ReturnSetInfo *result, const Entry *entry) {
    const ConvertProgress *progress = &entry->progress;
    double left = seconds_left(progress);
    Interval interval = {.time = left * USECS_PER_SEC};
    Datum values[] = {Int32GetDatum(entry->pid),
                      ObjectIdGetDatum(entry->database),
                      ObjectIdGetDatum(entry->role),
                      ObjectIdGetDatum(progress->source),
                      Int64GetDatum(progress->rows_done),
                      Int64GetDatum(progress->rows_total),
                      Int64GetDatum(progress->pages),
                      Int64GetDatum(progress->failed),
                      Float8GetDatum(pages_per_minute(progress)),
                      IntervalPGetDatum(&interval),
                      TimestampTzGetDatum(progress->started)};
    bool nulls[lengthof(values)] = {false};

    nulls[9] = left < 0;
    tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

PG_FUNCTION_INFO_V1(pg_stat_get_ocr_progress);
Datum pg_stat_get_ocr_progress(PG_FUNCTION_ARGS) {
    ReturnSetInfo *result = (ReturnSetInfo *)fcinfo->resultinfo;
    Entry *copy = palloc0((ENTRIES + 1) * sizeof *copy);

    InitMaterializedSRF(fcinfo, 0);
    lock(LW_SHARED);
    if (progress_area.memory != NULL)
        memcpy(copy, progress_area.memory, progress_area.bytes);
    unlock();
    copy[ENTRIES] = local;
    for (int i = 0; i <= ENTRIES; i++)
        if (copy[i].pid != 0 && may_see(&copy[i]))
            put_entry(result, &copy[i]);
    return (Datum)0;
}
