/*
 * pages.c - ocr_pages(): the pages of a document, read a stretch at a time.
 */
#include "postgres.h"
#include "pg/compat.h"

#include "utils/builtins.h"
#include "utils/tuplestore.h"

#include "pg/arguments.h"
#include "pg/batch.h"
#include "pg/document.h"
#include "pg/encoding.h"
#include "pg/errors.h"
#include "pg/settings.h"
#include "pg/stats.h"

/* Pages that are read together; each is in memory until all of them are read. */
typedef struct Stretch {
    int count;
    BatchPage *pages; /* [count] without an image where there is a fault */
    int *numbers;     /* [count] */
    OcrError *faults; /* [count] of pages that the document does not give */
} Stretch;

static Stretch next_stretch(Document *document, PageInput options) {
    int room = setting_batch_size;
    Stretch stretch = {.pages = palloc0(room * sizeof *stretch.pages),
                       .numbers = palloc(room * sizeof *stretch.numbers),
                       .faults = palloc(room * sizeof *stretch.faults)};

    while (stretch.count < room) {
        PageInput *input = &stretch.pages[stretch.count].input;

        *input = options;
        if (!document_next(document, input, &stretch.numbers[stretch.count],
                           &stretch.faults[stretch.count]))
            break;
        stretch.count++;
    }
    return stretch;
}

static void put_row(ReturnSetInfo *result, int number, text *content, const char *error,
                    int sqlstate) {
    bool failed = content == NULL;
    Datum values[] = {Int32GetDatum(number), PointerGetDatum(content), (Datum)0, (Datum)0};
    bool nulls[] = {false, failed, !failed, !failed};

    if (failed) {
        values[2] = CStringGetTextDatum(error);
        values[3] = CStringGetTextDatum(unpack_sql_state(sqlstate));
    }
    tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

static void put_stretch(ReturnSetInfo *result, const Stretch *stretch) {
    for (int i = 0; i < stretch->count; i++) {
        const BatchPage *page = &stretch->pages[i];
        const OcrError *fault = &stretch->faults[i];

        if (fault->code != OCR_OK) {
            stats_count_error(error_sqlstate(fault->code));
            put_row(result, stretch->numbers[i], NULL, message_from_utf8(fault->message),
                    error_sqlstate(fault->code));
        } else {
            put_row(result, stretch->numbers[i], page->content, page->message, page->sqlstate);
        }
    }
}

static void read_pages(Document *document, PageInput options, ReturnSetInfo *result) {
    MemoryContext work =
        AllocSetContextCreate(CurrentMemoryContext, "deepseek_ocr pages", ALLOCSET_DEFAULT_SIZES);
    MemoryContext caller = MemoryContextSwitchTo(work);

    for (;;) {
        Stretch stretch = next_stretch(document, options);

        if (stretch.count == 0)
            break;
        batch_read(stretch.pages, stretch.count, NULL, NULL);
        put_stretch(result, &stretch);
        MemoryContextReset(work);
    }
    MemoryContextSwitchTo(caller);
    MemoryContextDelete(work);
}

PG_FUNCTION_INFO_V1(ocr_pages);
Datum ocr_pages(PG_FUNCTION_ARGS) {
    int first = PG_ARGISNULL(3) ? 1 : PG_GETARG_INT32(3);
    int last = PG_ARGISNULL(4) ? 0 : PG_GETARG_INT32(4);
    Document *document;

    InitMaterializedSRF(fcinfo, 0);
    if (first < 1)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("the first page must be 1 or more, not %d", first)));
    if (PG_ARGISNULL(0) || (!PG_ARGISNULL(4) && last < first))
        return (Datum)0;
    document = document_open(bytes_of(PG_GETARG_BYTEA_PP(0)), first, last);
    read_pages(document, options_from_arguments(fcinfo, 1), (ReturnSetInfo *)fcinfo->resultinfo);
    document_close(document);
    return (Datum)0;
}
