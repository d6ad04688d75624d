/*
 * pages.c - ocr_pages(): the pages of a document, read together.
 */
#include "postgres.h"
#include "pg/compat.h"

#include "utils/tuplestore.h"

#include "pg/arguments.h"
#include "pg/batch.h"
#include "pg/document.h"
#include "pg/row.h"

typedef struct PageReader {
    Document *document;
    PageInput options;
    ReturnSetInfo *result;
} PageReader;

/* The document's next page; its number is the page's item. */
static bool next_page(void *owner, BatchPage *page, MemoryContext kept, OcrError *err) {
    const PageReader *reader = owner;
    int *number = MemoryContextAlloc(kept, sizeof *number);

    page->item = number;
    page->input = reader->options;
    return document_next(reader->document, &page->input, number, err);
}

static void put_row(void *owner, const BatchPage *page) {
    const PageReader *reader = owner;
    const int *number = page->item;
    Datum values[4] = {Int32GetDatum(*number)};
    bool nulls[4] = {false};

    put_reading(page->content, page->message, page->sqlstate, values + 1, nulls + 1);
    tuplestore_putvalues(reader->result->setResult, reader->result->setDesc, values, nulls);
}

PG_FUNCTION_INFO_V1(ocr_pages);
Datum ocr_pages(PG_FUNCTION_ARGS) {
    int first = PG_ARGISNULL(3) ? 1 : PG_GETARG_INT32(3);
    int last = PG_ARGISNULL(4) ? 0 : PG_GETARG_INT32(4);
    PageReader reader = {.result = (ReturnSetInfo *)fcinfo->resultinfo};
    BatchStream stream = {.next = next_page, .done = put_row, .owner = &reader, .ordered = true};

    InitMaterializedSRF(fcinfo, 0);
    if (first < 1)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("the first page must be 1 or more, not %d", first)));
    if (PG_ARGISNULL(0) || (!PG_ARGISNULL(4) && last < first))
        return (Datum)0;
    reader.options = options_from_arguments(fcinfo, 1);
    reader.document = document_open(bytes_of(PG_GETARG_BYTEA_PP(0)), first, last);
    batch_stream(&stream);
    document_close(reader.document);
    return (Datum)0;
}
