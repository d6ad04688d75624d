/*
 * batch_functions.c - the SQL functions that read many pages together.
 *
 * ocr_batch() takes an array. For sets that no array should hold, ocr_query()
 * takes a query and fetches a row when there is room for its page, so that its
 * memory does not grow with their number.
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
#include "utils/plancache.h"
#include "utils/tuplestore.h"

#include "pg/arguments.h"
#include "pg/batch.h"
#include "pg/row.h"

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
            ereport(WARNING,
                    (errcode(pages[i].sqlstate), errmsg("image %d could not be read", i + 1),
                     errdetail("The error is %s: %s.", unpack_sql_state(pages[i].sqlstate),
                               pages[i].message)));
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

/* Without a WITH that changes data and without FOR UPDATE, which SPI refuses in odder words. */
static bool only_reads(SPIPlanPtr plan) {
    CachedPlanSource *source;
    const Query *query;

    if (!SPI_is_cursor_plan(plan))
        return false;
    source = linitial(SPI_plan_get_plan_sources(plan));
    query = linitial_node(Query, source->query_list);
    return source->commandTag == CMDTAG_SELECT && !query->hasModifyingCTE && query->rowMarks == NIL;
}

/* With the snapshot of the calling statement. What functions in it do, such as write, is theirs. */
static Portal open_query(const char *query) {
    SPIPlanPtr plan = SPI_prepare(query, 0, NULL);
    Portal rows;

    if (plan == NULL)
        elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
    if (!only_reads(plan))
        ereport(ERROR, (errcode(ERRCODE_INVALID_CURSOR_DEFINITION),
                        errmsg("the query must be a single SELECT that neither writes nor locks")));
    rows = SPI_cursor_open(NULL, plan, NULL, NULL, true);
    check_columns(rows->tupDesc);
    return rows;
}

typedef struct QueryReader {
    Portal rows;
    PageInput options;
    ReturnSetInfo *result;
} QueryReader;

/* The next row; its key is the page's item. */
static bool next_row(void *owner, BatchPage *page, MemoryContext kept, OcrError *err) {
    const QueryReader *reader = owner;
    MemoryContext context = CurrentMemoryContext;
    const char *key;
    Datum image;
    bool null;

    SPI_cursor_fetch(reader->rows, true, 1);
    MemoryContextSwitchTo(context); /* SPI leaves one of its own */
    if (SPI_processed == 0)
        return false;
    key = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
    if (key != NULL)
        page->item = MemoryContextStrdup(kept, key);
    page->input = reader->options;
    image = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &null);
    if (!null)
        page->input.file = bytes_of((bytea *)PG_DETOAST_DATUM_COPY(image));
    SPI_freetuptable(SPI_tuptable);
    return true;
}

static void put_row(void *owner, const BatchPage *page) {
    const QueryReader *reader = owner;
    const char *key = page->item;
    Datum values[4] = {key ? CStringGetTextDatum(key) : (Datum)0};
    bool nulls[4] = {key == NULL};

    put_reading(page->content, page->message, page->sqlstate, values + 1, nulls + 1);
    tuplestore_putvalues(reader->result->setResult, reader->result->setDesc, values, nulls);
}

PG_FUNCTION_INFO_V1(ocr_query);
Datum ocr_query(PG_FUNCTION_ARGS) {
    QueryReader reader = {.result = (ReturnSetInfo *)fcinfo->resultinfo};
    BatchStream stream = {.next = next_row, .done = put_row, .owner = &reader, .ordered = true};

    InitMaterializedSRF(fcinfo, 0);
    if (PG_ARGISNULL(0))
        return (Datum)0;
    reader.options = options_from_arguments(fcinfo, 1);
    SPI_connect();
    reader.rows = open_query(text_to_cstring(PG_GETARG_TEXT_PP(0)));
    batch_stream(&stream);
    SPI_cursor_close(reader.rows); /* else it lives, and holds its tables, until the commit */
    SPI_finish();
    return (Datum)0;
}
