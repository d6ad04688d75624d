#include "postgres.h"
#include "pg/compat.h"

#include "access/xact.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "pg/arguments.h"
#include "pg/batch.h"
#include "pg/convert_batch.h"
#include "pg/document.h"
#include "pg/errors.h"

#define STORE_ATTEMPTS 5     /* at what deadlocks undid */
#define OTHERS_TURN_US 50000 /* for the other session, which has to wake up first */

/* What came of a page, or of all pages of a row, whose texts are to be joined. */
typedef struct Outcome {
    const ConvertRow *row;
    int page;
    List *parts;   /* of Outcome: the pages that it stands for, or NIL */
    text *content; /* the page's; NULL: it failed, for this reason: */
    const char *message;
    int sqlstate;
} Outcome;

typedef struct ConvertBatch {
    ConvertJob *job;
    RowList *list;
    MemoryContext context;          /* of all that follows */
    MemoryContext document_context; /* of the document that is being read */
    MemoryContext page_context;     /* of its page */
    List *rows;                     /* of ConvertRow: taken */
    List *outcomes;                 /* of Outcome: in the order of rows and pages */
    ConvertRow *row;                /* whose document is being read */
    Document *document;             /* of that row; NULL between rows */
    bool has_page;                  /* the document gave at least one */
    int pages_taken;
} ConvertBatch;

/* ---- from rows to pages ---- */

/* Take the next pending row, unless the batch is full. */
static bool open_document(ConvertBatch *batch) {
    RowList *list = batch->list;

    while (batch->pages_taken < batch->job->batch_size && list->next < list->count) {
        ConvertRow row = {.position = list->next};
        MemoryContext old;
        bool taken;

        CHECK_FOR_INTERRUPTS();
        MemoryContextReset(batch->document_context);
        old = MemoryContextSwitchTo(batch->document_context);
        taken = rows_take(&batch->job->rows, list->places[list->next++], batch->context, &row);
        if (taken) {
            batch->document = document_open(bytes_of(row.image), 1, 0);
            batch->has_page = false;
            MemoryContextSwitchTo(batch->context);
            batch->row = memcpy(palloc(sizeof row), &row, sizeof row);
            batch->rows = lappend(batch->rows, batch->row);
        }
        MemoryContextSwitchTo(old);
        if (taken)
            return true;
    }
    return false;
}

static Outcome *add_outcome(ConvertBatch *batch, int page) {
    MemoryContext old = MemoryContextSwitchTo(batch->context);
    Outcome *outcome = palloc0(sizeof *outcome);

    outcome->row = batch->row;
    outcome->page = page;
    batch->outcomes = lappend(batch->outcomes, outcome);
    MemoryContextSwitchTo(old);
    return outcome;
}

static void close_document(ConvertBatch *batch) {
    if (!batch->has_page) {
        Outcome *outcome = add_outcome(batch, 1);

        outcome->message = "the document has no pages";
        outcome->sqlstate = error_sqlstate(OCR_IMAGE_EMPTY);
    }
    document_close(batch->document);
    batch->document = NULL;
}

/* The next page that is not in the target table yet, or a fault: it can be the whole document's. */
static bool next_of_document(ConvertBatch *batch, PageInput *input, int *number, OcrError *err) {
    MemoryContext old = CurrentMemoryContext;
    bool found;

    do {
        MemoryContextReset(batch->page_context);
        MemoryContextSwitchTo(batch->page_context);
        found = document_next(batch->document, input, number, err);
        MemoryContextSwitchTo(old);
        batch->has_page |= found;
    } while (found && err->code == OCR_OK && bms_is_member(*number, batch->row->stored));
    return found;
}

static bool next_page(void *owner, BatchPage *page, MemoryContext kept, OcrError *err) {
    ConvertBatch *batch = owner;
    int number;

    page->input = batch->job->options;
    while (batch->document != NULL || open_document(batch)) {
        if (next_of_document(batch, &page->input, &number, err)) {
            page->item = add_outcome(batch, number);
            batch->pages_taken++;
            return true;
        }
        close_document(batch);
    }
    return false;
}

static void page_done(void *owner, const BatchPage *page) {
    ConvertBatch *batch = owner;
    ConvertProgress *progress = &batch->job->progress;
    Outcome *outcome = page->item;

    if (page->code == OCR_PROMPT) /* which all pages have in common */
        ereport(ERROR, (errcode(page->sqlstate), errmsg("%s", page->message)));
    if (page->sqlstate == 0) {
        Size size = VARSIZE_ANY(page->content);

        outcome->content = memcpy(MemoryContextAlloc(batch->context, size), page->content, size);
        progress->pages++;
    } else {
        outcome->message = MemoryContextStrdup(batch->context, page->message);
        outcome->sqlstate = page->sqlstate;
    }
    progress->rows_done = outcome->row->position;
    progress_tell(progress);
}

static void read_pages(ConvertBatch *batch) {
    BatchStream stream = {.next = next_page, .done = page_done, .owner = batch, .ordered = true};

    batch_stream(&stream);
    batch->job->progress.rows_done = batch->list->next;
    progress_tell(&batch->job->progress);
}

/* ---- from pages to rows ---- */

/* One outcome for the pages of a row that were all read; else those that failed. */
static List *join_row(List *outcomes, int first, int end, List *joined) {
    Outcome *whole = list_nth(outcomes, first);
    List *parts = NIL, *failed = NIL;

    if (end - first == 1)
        return lappend(joined, whole);
    for (int i = first; i < end; i++) {
        Outcome *outcome = list_nth(outcomes, i);

        parts = lappend(parts, outcome);
        if (outcome->content == NULL)
            failed = lappend(failed, outcome);
    }
    if (failed != NIL)
        return list_concat(joined, failed);
    whole->parts = parts;
    return lappend(joined, whole);
}

static List *join_rows(List *outcomes) {
    List *joined = NIL;
    int end;

    for (int first = 0; first < list_length(outcomes); first = end) {
        const Outcome *outcome = list_nth(outcomes, first);
        const ConvertRow *row = outcome->row;

        for (end = first + 1; end < list_length(outcomes); end++)
            if (((const Outcome *)list_nth(outcomes, end))->row != row)
                break;
        joined = join_row(outcomes, first, end, joined);
    }
    return joined;
}

/* ---- writing ---- */

/*
 * Is it this row that cannot be written, so that the next one may still be? Data, constraints and
 * triggers fail for a row, triggers with whatever SQLSTATE their authors liked; these are classes
 * of what is wrong with more than that. A lacking right is the row's, by a policy or in a trigger,
 * unless it is one on the table.
 */
static bool is_of_row(const ConvertRows *rows, int sqlstate) {
    if (sqlstate == ERRCODE_INSUFFICIENT_PRIVILEGE) {
        rows_check_rights(rows);
        return true;
    }
    switch (ERRCODE_TO_CATEGORY(sqlstate)) {
    case ERRCODE_CONNECTION_EXCEPTION:
    case ERRCODE_FEATURE_NOT_SUPPORTED:
    case ERRCODE_INVALID_TRANSACTION_STATE:
    case ERRCODE_INVALID_TRANSACTION_TERMINATION:
    case ERRCODE_INVALID_CATALOG_NAME:
    case ERRCODE_INVALID_SCHEMA_NAME:
    case ERRCODE_TRANSACTION_ROLLBACK:
    case ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION:
    case ERRCODE_INSUFFICIENT_RESOURCES:
    case ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE:
    case ERRCODE_OPERATOR_INTERVENTION:
    case ERRCODE_SYSTEM_ERROR:
    case ERRCODE_CONFIG_FILE_ERROR:
    case ERRCODE_FDW_ERROR:
    case ERRCODE_INTERNAL_ERROR:
        return false;
    default:
        return true;
    }
}

/* The texts of all pages, with form feeds between them; palloc'ed. */
static text *joined_text(const List *parts) {
    Size size = VARHDRSZ + list_length(parts) - 1;
    text *whole;
    char *end;
    ListCell *cell;

    foreach (cell, parts)
        size += VARSIZE_ANY_EXHDR(((const Outcome *)lfirst(cell))->content);
    if (!AllocSizeIsValid(size))
        ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
                        errmsg("the texts of the document's %d pages are too long for one value",
                               list_length(parts))));
    whole = palloc(size);
    SET_VARSIZE(whole, size);
    end = VARDATA(whole);
    foreach (cell, parts) {
        const text *content = ((const Outcome *)lfirst(cell))->content;

        if (cell != list_head(parts))
            *end++ = '\f';
        memcpy(end, VARDATA_ANY(content), VARSIZE_ANY_EXHDR(content));
        end += VARSIZE_ANY_EXHDR(content);
    }
    return whole;
}

static void store_outcome(const ConvertRows *rows, const Outcome *outcome) {
    text *whole;

    if (outcome->parts == NIL) {
        rows_store(rows, outcome->row, outcome->page, outcome->content);
        return;
    }
    whole = joined_text(outcome->parts);
    rows_store(rows, outcome->row, outcome->page, whole);
    pfree(whole);
}

static void store(const ConvertBatch *batch, int first, int end) {
    for (int i = first; i < end; i++) {
        const Outcome *outcome = list_nth(batch->outcomes, i);

        if (outcome->content != NULL)
            store_outcome(&batch->job->rows, outcome);
    }
    rows_check_constraints();
}

/* In a subtransaction. NULL, or the error. */
static ErrorData *try_to_store(const ConvertBatch *batch, int first, int end) {
    MemoryContext context = CurrentMemoryContext;
    ResourceOwner owner = CurrentResourceOwner;
    ErrorData *error = NULL;

    BeginInternalSubTransaction(NULL);
    MemoryContextSwitchTo(context);
    PG_TRY();
    {
        store(batch, first, end);
        ReleaseCurrentSubTransaction();
    }
    PG_CATCH();
    {
        MemoryContextSwitchTo(context);
        error = CopyErrorData();
        FlushErrorState();
        RollbackAndReleaseCurrentSubTransaction();
    }
    PG_END_TRY();
    MemoryContextSwitchTo(context);
    CurrentResourceOwner = owner;
    return error;
}

/*
 * Triggers of two jobs may wait for each other. Whose subtransaction is undone has let go of what
 * the other one waits for, and need not read its pages again.
 */
static bool is_deadlock(const ErrorData *error) {
    return error != NULL && error->sqlerrcode == ERRCODE_T_R_DEADLOCK_DETECTED;
}

/*
 * All at once, and if that fails each half for itself, down to the one at fault: a subtransaction
 * for each would cost other sessions more than a few that are written twice.
 */
static void store_or_fail(ConvertBatch *batch, int first, int end) {
    ErrorData *error = try_to_store(batch, first, end);
    int middle = first + (end - first) / 2;

    for (int i = 1; i < STORE_ATTEMPTS && is_deadlock(error); i++) {
        pg_usleep(OTHERS_TURN_US);
        CHECK_FOR_INTERRUPTS();
        error = try_to_store(batch, first, end);
    }
    if (error == NULL)
        return;
    if (!is_of_row(&batch->job->rows, error->sqlerrcode))
        ReThrowError(error);
    if (end - first == 1) {
        Outcome *outcome = list_nth(batch->outcomes, first);

        outcome->content = NULL;
        outcome->message = error->message;
        outcome->sqlstate = error->sqlerrcode;
    } else {
        store_or_fail(batch, first, middle);
        store_or_fail(batch, middle, end);
    }
}

/* The counts, which were of pages read, become those of pages stored. */
static void record(ConvertBatch *batch, int64 pages_before) {
    ConvertProgress *progress = &batch->job->progress;
    ListCell *cell;

    progress->pages = pages_before;
    foreach (cell, batch->outcomes) {
        const Outcome *outcome = lfirst(cell);

        if (outcome->content != NULL) {
            progress->pages += Max(list_length(outcome->parts), 1);
        } else {
            progress->failed++;
            rows_record_failure(&batch->job->rows, outcome->row, outcome->page, outcome->message,
                                outcome->sqlstate);
        }
    }
    foreach (cell, batch->rows)
        rows_forget_failures(&batch->job->rows, lfirst(cell));
}

void convert_batch(ConvertJob *job, RowList *list) {
    MemoryContext context =
        AllocSetContextCreate(CurrentMemoryContext, "deepseek_ocr convert", ALLOCSET_DEFAULT_SIZES);
    ConvertBatch batch = {.job = job,
                          .list = list,
                          .context = context,
                          .document_context = AllocSetContextCreate(
                              context, "deepseek_ocr document", ALLOCSET_DEFAULT_SIZES),
                          .page_context = AllocSetContextCreate(context, "deepseek_ocr image",
                                                                ALLOCSET_DEFAULT_SIZES)};
    MemoryContext old = MemoryContextSwitchTo(context);
    int64 pages_before = job->progress.pages;

    read_pages(&batch);
    if (!job->rows.sql.by_page)
        batch.outcomes = join_rows(batch.outcomes);
    if (batch.outcomes != NIL)
        store_or_fail(&batch, 0, list_length(batch.outcomes));
    record(&batch, pages_before);
    MemoryContextSwitchTo(old);
    MemoryContextDelete(context);
}
