#include "postgres.h"
#include "pg/compat.h"

#include "access/detoast.h"
#include "access/table.h"
#include "access/tableam.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "pg/convert_rows.h"

#define ROWS_AT_ONCE 1000

/* Returns with the memory context of the call, where SPI leaves one of its own. */
static void execute(SPIPlanPtr plan, Datum *values) {
    MemoryContext context = CurrentMemoryContext;
    int code = SPI_execute_plan(plan, values, NULL, false, 0);

    if (code < 0)
        elog(ERROR, "SPI_execute_plan failed: %s", SPI_result_code_string(code));
    MemoryContextSwitchTo(context);
}

/* Columns tableoid, ctid of a result. */
static RowPlace place_of(HeapTuple tuple, TupleDesc columns) {
    RowPlace place;
    bool null;

    place.table = DatumGetObjectId(SPI_getbinval(tuple, columns, 1, &null));
    place.ctid = *(ItemPointer)DatumGetPointer(SPI_getbinval(tuple, columns, 2, &null));
    return place;
}

static int compare_places(const void *a, const void *b, void *unused) {
    RowPlace left = *(const RowPlace *)a, right = *(const RowPlace *)b;

    if (left.table != right.table)
        return left.table < right.table ? -1 : 1;
    return ItemPointerCompare(&left.ctid, &right.ctid);
}

/*
 * Planned without loops over loops. Few of the conditions have statistics to go by, those on
 * failures seldom have any; a planner that takes many rows for a few would compare each with each.
 * Returns what AtEOXact_GUC takes to undo it.
 */
static int avoid_loops(void) {
    int nest = NewGUCNestLevel();

    set_config_option("enable_nestloop", "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true,
                      0, false);
    return nest;
}

static Portal open_pending(const ConvertRows *rows) {
    Datum values[] = {ObjectIdGetDatum(rows->source), ObjectIdGetDatum(rows->role),
                      TimestampTzGetDatum(rows->since)};
    int nest = avoid_loops();
    Portal cursor = SPI_cursor_open(NULL, rows->sql.pending, values, NULL, false);

    AtEOXact_GUC(true, nest);
    return cursor;
}

void rows_tidy_failures(const ConvertRows *rows) {
    Datum values[] = {ObjectIdGetDatum(rows->source), ObjectIdGetDatum(rows->role)};
    int nest = avoid_loops();

    execute(rows->sql.tidy, values);
    execute(rows->sql.tidy_jobs, values + 1);
    AtEOXact_GUC(true, nest);
}

RowPlace *rows_find(const ConvertRows *rows, int64 *count) {
    MemoryContext context = CurrentMemoryContext;
    int64 room = ROWS_AT_ONCE;
    RowPlace *places = palloc(room * sizeof *places);
    Portal cursor = open_pending(rows);

    *count = 0;
    for (;;) {
        CHECK_FOR_INTERRUPTS();
        SPI_cursor_fetch(cursor, true, ROWS_AT_ONCE);
        if (SPI_processed == 0)
            break;
        if (*count + (int64)SPI_processed > room)
            places = repalloc_huge(places, (room *= 2) * sizeof *places);
        for (uint64 i = 0; i < SPI_processed; i++)
            places[(*count)++] = place_of(SPI_tuptable->vals[i], SPI_tuptable->tupdesc);
        SPI_freetuptable(SPI_tuptable);
    }
    SPI_cursor_close(cursor);
    MemoryContextSwitchTo(context);
    qsort_interruptible(places, *count, sizeof *places, compare_places, NULL);
    return places;
}

static bool lock_row(const ConvertRows *rows, RowPlace place, RowPlace *locked) {
    Datum values[] = {ObjectIdGetDatum(rows->source), ObjectIdGetDatum(rows->role),
                      TimestampTzGetDatum(rows->since), ObjectIdGetDatum(place.table),
                      PointerGetDatum(&place.ctid)};
    bool found;

    execute(rows->sql.lock, values);
    found = SPI_processed > 0;
    if (found) /* where it is now, should it have been updated just before it was locked */
        *locked = place_of(SPI_tuptable->vals[0], SPI_tuptable->tupdesc);
    SPI_freetuptable(SPI_tuptable);
    return found;
}

/* Values out of line are fetched under a snapshot. */
static bytea *fetched_image(Datum value) {
    bytea *image;

    PushActiveSnapshot(GetTransactionSnapshot());
    image = (bytea *)PG_DETOAST_DATUM_COPY(value);
    PopActiveSnapshot();
    return image;
}

static bool fetch_row(const ConvertRows *rows, MemoryContext kept, ConvertRow *row) {
    Datum values[] = {ObjectIdGetDatum(rows->source), ObjectIdGetDatum(rows->role),
                      TimestampTzGetDatum(rows->since), ObjectIdGetDatum(row->place.table),
                      PointerGetDatum(&row->place.ctid)};
    char *key = NULL;
    bool null = true;

    execute(rows->sql.fetch, values);
    if (SPI_processed > 0) {
        HeapTuple tuple = SPI_tuptable->vals[0];
        Datum image = SPI_getbinval(tuple, SPI_tuptable->tupdesc, 2, &null);

        key = SPI_getvalue(tuple, SPI_tuptable->tupdesc, 1);
        if (key != NULL && !null) { /* NULL only where the table was changed meanwhile */
            row->key = MemoryContextStrdup(kept, key);
            row->image = fetched_image(image);
        }
    }
    SPI_freetuptable(SPI_tuptable);
    return key != NULL && !null;
}

static Bitmapset *stored_pages(const ConvertRows *rows, RowPlace place) {
    Datum values[] = {ObjectIdGetDatum(place.table), PointerGetDatum(&place.ctid)};
    Bitmapset *pages = NULL;

    execute(rows->sql.stored, values);
    for (uint64 i = 0; i < SPI_processed; i++) {
        bool null;
        int page =
            DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &null));

        if (!null && page > 0)
            pages = bms_add_member(pages, page);
    }
    SPI_freetuptable(SPI_tuptable);
    return pages;
}

bool rows_take(const ConvertRows *rows, RowPlace place, MemoryContext kept, ConvertRow *out) {
    if (!lock_row(rows, place, &out->place) || !fetch_row(rows, kept, out))
        return false;
    if (rows->sql.stored != NULL)
        out->stored = stored_pages(rows, out->place);
    return true;
}

/*
 * Where the row is by now: triggers may have updated it, as the texts of other pages were stored.
 * It stays where it was if they deleted it.
 */
static ItemPointerData latest_place(RowPlace place) {
    Relation table = table_open(place.table, AccessShareLock);
    Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
    TableScanDesc scan = table_beginscan_tid(table, snapshot);

    table_tuple_get_latest_tid(scan, &place.ctid);
    table_endscan(scan);
    UnregisterSnapshot(snapshot);
    table_close(table, NoLock);
    return place.ctid;
}

void rows_store(const ConvertRows *rows, const ConvertRow *row, int page, text *content) {
    ItemPointerData ctid = latest_place(row->place);
    Datum values[] = {ObjectIdGetDatum(row->place.table), PointerGetDatum(&ctid),
                      PointerGetDatum(content), Int32GetDatum(page)};

    execute(rows->sql.store, values);
    if (SPI_processed == 0)
        ereport(ERROR, (errcode(ERRCODE_TRIGGERED_ACTION_EXCEPTION),
                        errmsg("the text was not stored: a trigger or a rule prevents it")));
}

void rows_check_constraints(void) {
    MemoryContext context = CurrentMemoryContext;
    int code = SPI_execute("SET CONSTRAINTS ALL IMMEDIATE", false, 0);

    if (code < 0)
        elog(ERROR, "SPI_execute failed: %s", SPI_result_code_string(code));
    MemoryContextSwitchTo(context);
}

void rows_check_rights(const ConvertRows *rows) {
    ItemPointerData nowhere = {0};
    Datum values[] = {ObjectIdGetDatum(InvalidOid), PointerGetDatum(&nowhere),
                      PointerGetDatum(cstring_to_text("")), Int32GetDatum(0)};

    execute(rows->sql.rehearse_store, values);
    SPI_freetuptable(SPI_tuptable);
}

/* When a failure of this job is recorded: not before its start, whatever the clock says. */
static TimestampTz time_of_failure(const ConvertRows *rows) {
    return Max(GetCurrentTimestamp(), rows->since);
}

void rows_record_failure(const ConvertRows *rows, const ConvertRow *row, int page,
                         const char *error, int sqlstate) {
    Datum values[] = {ObjectIdGetDatum(rows->source),
                      ObjectIdGetDatum(rows->role),
                      CStringGetTextDatum(row->key),
                      Int32GetDatum(page),
                      CStringGetTextDatum(error),
                      CStringGetTextDatum(unpack_sql_state(sqlstate)),
                      TimestampTzGetDatum(time_of_failure(rows))};

    execute(rows->sql.fail, values);
}

void rows_forget_failures(const ConvertRows *rows, const ConvertRow *row) {
    Datum values[] = {ObjectIdGetDatum(rows->source), ObjectIdGetDatum(rows->role),
                      TimestampTzGetDatum(rows->since), CStringGetTextDatum(row->key)};

    if (rows->since != DT_NOBEGIN)
        execute(rows->sql.forgive, values);
}
