/*
 * stats.c - pg_stat_ocr: one entry for each database, under one lock. A page
 * takes a hundred milliseconds and more, so neither the lock nor a walk through
 * the entries is ever noticed.
 */
#include "postgres.h"
#include "pg/compat.h"

#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "pg/stats.h"

/* With more databases, the one that was not in use for longest loses its counts. */
#define DATABASES 128

/* Different SQLSTATEs in a database; there are half as many. */
#define ERRORS 48

typedef struct ErrorCount {
    int sqlstate; /* 0: none, nor in the entries that follow */
    int64 count;
} ErrorCount;

typedef struct DatabaseStats {
    Oid database; /* InvalidOid: none, nor in the entries that follow */
    TimestampTz since, used;
    int64 pages, blank_pages, loops, length_cuts, unsure, turned;
    int64 vision_tokens, text_tokens;
    double image_ms, encode_ms, prefill_ms, decode_ms;
    ErrorCount errors[ERRORS];
} DatabaseStats;

SharedArea stats_area = {.name = "deepseek_ocr_stats", .bytes = DATABASES * sizeof(DatabaseStats)};

static DatabaseStats own; /* without preloading */

static bool is_shared(void) {
    return stats_area.memory != NULL;
}

static DatabaseStats *entries(int *count) {
    *count = is_shared() ? DATABASES : 1;
    return is_shared() ? stats_area.memory : &own;
}

static void lock(void) {
    if (is_shared())
        LWLockAcquire(stats_area.lock, LW_EXCLUSIVE);
}

static void unlock(void) {
    if (is_shared())
        LWLockRelease(stats_area.lock);
}

static void begin_anew(DatabaseStats *stats) {
    TimestampTz now = GetCurrentTimestamp();

    *stats = (DatabaseStats){.database = MyDatabaseId, .since = now, .used = now};
}

/* The entry of this database, new if need be. Call with the lock held. */
static DatabaseStats *current(void) {
    int count;
    DatabaseStats *all = entries(&count);
    DatabaseStats *victim = all;

    for (int i = 0; i < count; i++) {
        if (all[i].database == MyDatabaseId)
            return &all[i];
        if (all[i].used < victim->used) /* 0 in those that are free */
            victim = &all[i];
    }
    begin_anew(victim);
    return victim;
}

static DatabaseStats *lock_current(void) {
    DatabaseStats *stats;

    lock();
    stats = current();
    stats->used = GetCurrentTimestamp();
    return stats;
}

void stats_count_page(const OcrPage *page) {
    DatabaseStats *stats = lock_current();

    stats->pages++;
    stats->blank_pages += page->tokens == 0;
    stats->loops += page->finish == OCR_FINISH_LOOP;
    stats->length_cuts += page->finish == OCR_FINISH_LENGTH;
    stats->unsure += page->finish == OCR_FINISH_UNSURE;
    stats->turned += page->plan.turned > 0;
    stats->vision_tokens += page->plan.vision_tokens;
    stats->text_tokens += page->tokens;
    stats->image_ms += page->image_ms;
    stats->encode_ms += page->encode_ms;
    stats->prefill_ms += page->prefill_ms;
    stats->decode_ms += page->decode_ms;
    unlock();
}

void stats_count_error(int sqlstate) {
    ErrorCount *errors = lock_current()->errors;

    for (int i = 0; i < ERRORS; i++) {
        if (errors[i].sqlstate == 0)
            errors[i].sqlstate = sqlstate;
        if (errors[i].sqlstate == sqlstate) {
            errors[i].count++;
            break;
        }
    }
    unlock();
}

/* A copy of all entries, which has one of the current database; *count of them are in use. */
static DatabaseStats *snapshot(int *count) {
    int room;
    DatabaseStats *all = entries(&room);
    DatabaseStats *copy = palloc(room * sizeof *copy);

    lock();
    current();
    memcpy(copy, all, room * sizeof *copy);
    unlock();
    for (*count = 0; *count < room && OidIsValid(copy[*count].database);)
        ++*count;
    return copy;
}

static int64 error_total(const DatabaseStats *stats) {
    int64 total = 0;

    for (int i = 0; i < ERRORS; i++)
        total += stats->errors[i].count;
    return total;
}

PG_FUNCTION_INFO_V1(pg_stat_get_ocr);
Datum pg_stat_get_ocr(PG_FUNCTION_ARGS) {
    ReturnSetInfo *result = (ReturnSetInfo *)fcinfo->resultinfo;
    int count;
    DatabaseStats *all = snapshot(&count);

    InitMaterializedSRF(fcinfo, 0);
    for (const DatabaseStats *stats = all; stats < all + count; stats++) {
        Datum values[] = {ObjectIdGetDatum(stats->database),   Int64GetDatum(stats->pages),
                          Int64GetDatum(stats->blank_pages),   Int64GetDatum(stats->loops),
                          Int64GetDatum(stats->length_cuts),   Int64GetDatum(stats->unsure),
                          Int64GetDatum(stats->turned),        Int64GetDatum(error_total(stats)),
                          Int64GetDatum(stats->vision_tokens), Int64GetDatum(stats->text_tokens),
                          Float8GetDatum(stats->image_ms),     Float8GetDatum(stats->encode_ms),
                          Float8GetDatum(stats->prefill_ms),   Float8GetDatum(stats->decode_ms),
                          TimestampTzGetDatum(stats->since),   BoolGetDatum(is_shared())};
        bool nulls[lengthof(values)] = {false};

        tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
    }
    return (Datum)0;
}

PG_FUNCTION_INFO_V1(pg_stat_get_ocr_errors);
Datum pg_stat_get_ocr_errors(PG_FUNCTION_ARGS) {
    ReturnSetInfo *result = (ReturnSetInfo *)fcinfo->resultinfo;
    int count;
    DatabaseStats *all = snapshot(&count);

    InitMaterializedSRF(fcinfo, 0);
    for (const DatabaseStats *stats = all; stats < all + count; stats++) {
        for (int i = 0; i < ERRORS && stats->errors[i].sqlstate != 0; i++) {
            const ErrorCount *error = &stats->errors[i];
            Datum values[] = {ObjectIdGetDatum(stats->database),
                              CStringGetTextDatum(unpack_sql_state(error->sqlstate)),
                              Int64GetDatum(error->count)};
            bool nulls[lengthof(values)] = {false};

            tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
        }
    }
    return (Datum)0;
}

PG_FUNCTION_INFO_V1(pg_stat_ocr_reset);
Datum pg_stat_ocr_reset(PG_FUNCTION_ARGS) {
    begin_anew(lock_current());
    unlock();
    PG_RETURN_VOID();
}
