/*
 * batch_functions.c - the SQL functions that read many pages together.
 *
 * ocr_batch() takes an array. For sets that no array should hold, ocr_query()
 * takes a query and reads its rows a stretch at a time, so that its memory does
 * not grow with their number.
 */
#include "postgres.h"
#include "pg/compat.h"

#include "access/detoast.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "tcop/cmdtag.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/plancache.h"
#include "utils/tuplestore.h"

#include "pg/arguments.h"
#include "pg/batch.h"
#include "pg/settings.h"

/* ---- ocr_batch() ---- */

/* A page for each element of the array, in the order in which it is stored. */
static BatchPage *pages_of_array(ArrayType *images, PageInput options, int *count) {
    Datum *values;
    bool *nulls;
    BatchPage *pages;

    deconstruct_array(images, BYTEAOID, -1, false, TYPALIGN_INT, &values, &nulls, count);
    pages = palloc_extended(*count * sizeof *pages, MCXT_ALLOC_HUGE);
    for (int i = 0; i < *count; i++) {
        pages[i].input = options;
        if (!nulls[i])
            pages[i].input.file = bytes_of(DatumGetByteaPP(values[i]));
    }
    return pages;
}

/* The texts, in the shape of the images' array. */
static ArrayType *array_of_texts(const BatchPage *pages, int count, ArrayType *images) {
    Datum *values = palloc_extended(count * sizeof *values, MCXT_ALLOC_HUGE);
    bool *nulls = palloc_extended(count * sizeof *nulls, MCXT_ALLOC_HUGE);

    for (int i = 0; i < count; i++) {
        values[i] = PointerGetDatum(pages[i].content);
        nulls[i] = pages[i].content == NULL;
    }
    return construct_md_array(values, nulls, ARR_NDIM(images), ARR_DIMS(images), ARR_LBOUND(images),
                              TEXTOID, -1, false, TYPALIGN_INT);
}

static void warn_of_faults(const BatchPage *pages, int count) {
    for (int i = 0; i < count; i++)
        if (pages[i].sqlstate != 0)
            ereport(WARNING, (errcode(pages[i].sqlstate),
                              errmsg("image %d was not read: %s", i + 1, pages[i].message),
                              errdetail("SQLSTATE %s", unpack_sql_state(pages[i].sqlstate))));
}

PG_FUNCTION_INFO_V1(ocr_batch);
Datum ocr_batch(PG_FUNCTION_ARGS) {
    ArrayType *images;
    BatchPage *pages;
    int count;

    if (PG_ARGISNULL(0))
        PG_RETURN_NULL();
    images = PG_GETARG_ARRAYTYPE_P(0);
    pages = pages_of_array(images, options_from_arguments(fcinfo, 1), &count);
    batch_read(pages, count, NULL, NULL);
    warn_of_faults(pages, count);
    PG_RETURN_ARRAYTYPE_P(array_of_texts(pages, count, images));
}

/* ---- ocr_query() ---- */

/* Pages and bytes of images that are fetched at once, but for the last of them. */
#define STRETCH_ROUNDS 16
#define STRETCH_BYTES (64 * 1024 * 1024)

typedef struct Stretch {
    int count;
    int room;
    Size bytes;
    BatchPage *pages; /* [room] */
    char **keys;      /* [room] or NULL */
} Stretch;

static void check_columns(TupleDesc columns) {
    static const char *const hint = "Write a query like SELECT id, image FROM scans.";

    if (columns->natts != 2)
        ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
                        errmsg("the query must return two columns, a key and an image"),
                        errdetail("It returns %d.", columns->natts), errhint("%s", hint)));
    if (getBaseType(SPI_gettypeid(columns, 2)) != BYTEAOID)
        ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
                        errmsg("the query's second column must be an image of type bytea"),
                        errdetail("It is of type %s.", format_type_be(SPI_gettypeid(columns, 2))),
                        errhint("%s", hint)));
}

static bool is_select(SPIPlanPtr plan) {
    CachedPlanSource *source;

    if (!SPI_is_cursor_plan(plan))
        return false;
    source = linitial(SPI_plan_get_plan_sources(plan));
    return source->commandTag == CMDTAG_SELECT;
}

/* With the snapshot of the calling statement, and without the right to write. */
static Portal open_query(const char *query) {
    SPIPlanPtr plan = SPI_prepare(query, 0, NULL);
    Portal rows;

    if (plan == NULL)
        elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
    if (!is_select(plan))
        ereport(ERROR, (errcode(ERRCODE_INVALID_CURSOR_DEFINITION),
                        errmsg("the query must be a single SELECT")));
    rows = SPI_cursor_open(NULL, plan, NULL, NULL, true);
    check_columns(rows->tupDesc);
    return rows;
}

static void add_row(Stretch *stretch, PageInput options, HeapTuple row, TupleDesc columns) {
    BatchPage *page = &stretch->pages[stretch->count];
    bool null;
    Datum image = SPI_getbinval(row, columns, 2, &null);

    stretch->keys[stretch->count++] = SPI_getvalue(row, columns, 1);
    page->input = options;
    if (!null) {
        page->input.file = bytes_of((bytea *)PG_DETOAST_DATUM_COPY(image));
        stretch->bytes += page->input.file.size;
    }
}

/* Fetch rows until the stretch is full; false if there are no more. */
static bool fetch_stretch(Stretch *stretch, PageInput options, Portal rows) {
    MemoryContext work = CurrentMemoryContext;

    while (stretch->count < stretch->room && stretch->bytes < STRETCH_BYTES) {
        SPI_cursor_fetch(rows, true, 1);
        MemoryContextSwitchTo(work); /* SPI leaves its own, which lives too long */
        if (SPI_processed == 0)
            return false;
        add_row(stretch, options, SPI_tuptable->vals[0], SPI_tuptable->tupdesc);
        SPI_freetuptable(SPI_tuptable);
    }
    return true;
}

static void put_rows(const Stretch *stretch, ReturnSetInfo *result) {
    for (int i = 0; i < stretch->count; i++) {
        const BatchPage *page = &stretch->pages[i];
        const char *key = stretch->keys[i];
        bool bad = page->sqlstate != 0;
        Datum values[] = {key ? CStringGetTextDatum(key) : (Datum)0, PointerGetDatum(page->content),
                          bad ? CStringGetTextDatum(page->message) : (Datum)0,
                          bad ? CStringGetTextDatum(unpack_sql_state(page->sqlstate)) : (Datum)0};
        bool nulls[] = {key == NULL, page->content == NULL, !bad, !bad};

        tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
    }
}

static void read_rows(Portal rows, PageInput options, ReturnSetInfo *result) {
    MemoryContext work =
        AllocSetContextCreate(CurrentMemoryContext, "deepseek_ocr query", ALLOCSET_DEFAULT_SIZES);
    MemoryContext caller = MemoryContextSwitchTo(work);
    bool more = true;

    while (more) {
        Stretch stretch = {.room = STRETCH_ROUNDS * setting_batch_size};

        stretch.pages = palloc(stretch.room * sizeof *stretch.pages);
        stretch.keys = palloc(stretch.room * sizeof *stretch.keys);
        more = fetch_stretch(&stretch, options, rows);
        batch_read(stretch.pages, stretch.count, NULL, NULL);
        put_rows(&stretch, result);
        MemoryContextReset(work);
    }
    MemoryContextSwitchTo(caller);
}

PG_FUNCTION_INFO_V1(ocr_query);
Datum ocr_query(PG_FUNCTION_ARGS) {
    PageInput options;

    InitMaterializedSRF(fcinfo, 0);
    if (PG_ARGISNULL(0))
        return (Datum)0;
    options = options_from_arguments(fcinfo, 1);
    SPI_connect();
    read_rows(open_query(text_to_cstring(PG_GETARG_TEXT_PP(0))), options,
              (ReturnSetInfo *)fcinfo->resultinfo);
    SPI_finish();
    return (Datum)0;
}
