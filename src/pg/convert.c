/*
 * convert.c - CALL ocr_convert(): read the images of a table, batch by batch.
 *
 * A batch is one transaction: rows are locked, read together, written, and
 * committed. Whatever ends the call, then, a cancel, a crash or a lost
 * connection, the committed batches stay, and of the others nothing does; the
 * next call finds what is still to be done. convert_rows.h says how rows are
 * found, and how several calls share them.
 */
#include "postgres.h"
#include "pg/compat.h"

#include "access/xact.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "pg/arguments.h"
#include "pg/convert_batch.h"
#include "pg/row.h"
#include "pg/settings.h"

/* Arguments of ocr_convert(); the last two only carry results. */
enum {
    ARGUMENT_SOURCE,
    ARGUMENT_IMAGE,
    ARGUMENT_TARGET,
    ARGUMENT_TARGET_TABLE,
    ARGUMENT_KEY,
    ARGUMENT_FILTER,
    ARGUMENT_MODE,
    ARGUMENT_PROMPT,
    ARGUMENT_BATCH_SIZE,
    ARGUMENT_RETRY,
    ARGUMENT_NOTICE_INTERVAL
};

/* By default, as many pages in a transaction as fill the engine's slots so often. */
#define ROUNDS 4
#define MAX_BATCH_SIZE 1000

/* ---- the whole job ---- */

/*
 * Each statement must see what others have committed meanwhile, and skip what
 * they hold, without an error for it.
 */
static void next_transaction(void) {
    SPI_commit();
    SPI_start_transaction();
    if (IsolationUsesXactSnapshot())
        set_config_option("transaction_isolation", "read committed", PGC_USERSET, PGC_S_SESSION,
                          GUC_ACTION_LOCAL, true, 0, false);
}

static void convert_list(ConvertJob *job, RowList *list) {
    progress_begin_list(&job->progress, list->count);
    while (list->next < list->count) {
        convert_batch(job, list);
        next_transaction();
        progress_commit(&job->progress);
    }
}

/*
 * Once through the list of pending rows; and then through a new list, for rows that were moved by
 * an update while they were on it, or were added since, or were held by another session that then
 * failed. Only shorter lists are worked on: rows that stay pending, say because a trigger removes
 * their text, must not keep the job running.
 */
static void convert_all(ConvertJob *job) {
    int64 last = INT64_MAX;

    for (;;) {
        RowList list = {.next = 0};

        list.places = rows_find(&job->rows, &list.count);
        if (list.count == 0 || list.count >= last)
            break;
        convert_list(job, &list);
        pfree(list.places);
        last = list.count;
    }
}

/* A line below the message of whatever error ends the call. */
static void tell_what_is_kept(void *arg) {
    const ConvertJob *job = arg;

    errcontext("ocr_convert: %lld pages stored and committed, %lld failed",
               (long long)job->progress.committed_pages, (long long)job->progress.committed_failed);
}

/* ---- the call ---- */

static void check_transaction(FunctionCallInfo fcinfo) {
    if (fcinfo->context == NULL || !IsA(fcinfo->context, CallContext) ||
        castNode(CallContext, fcinfo->context)->atomic)
        ereport(ERROR, (errcode(ERRCODE_INVALID_TRANSACTION_TERMINATION),
                        errmsg("ocr_convert() cannot run inside a transaction block"),
                        errdetail("It commits its work batch by batch."),
                        errhint("CALL it outside of BEGIN ... COMMIT, and not from a function.")));
}

static void require(FunctionCallInfo fcinfo, int argument, const char *name) {
    if (PG_ARGISNULL(argument))
        ereport(ERROR,
                (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("%s must not be NULL", name)));
}

static const char *name_argument(FunctionCallInfo fcinfo, int argument) {
    return PG_ARGISNULL(argument) ? NULL : pstrdup(NameStr(*PG_GETARG_NAME(argument)));
}

static ConvertTables tables_from_arguments(FunctionCallInfo fcinfo) {
    require(fcinfo, ARGUMENT_SOURCE, "source");
    require(fcinfo, ARGUMENT_IMAGE, "image");
    require(fcinfo, ARGUMENT_TARGET, "target");
    return (ConvertTables){.source = PG_GETARG_OID(ARGUMENT_SOURCE),
                           .image = name_argument(fcinfo, ARGUMENT_IMAGE),
                           .target = name_argument(fcinfo, ARGUMENT_TARGET),
                           .target_table = PG_ARGISNULL(ARGUMENT_TARGET_TABLE)
                                               ? InvalidOid
                                               : PG_GETARG_OID(ARGUMENT_TARGET_TABLE),
                           .key = name_argument(fcinfo, ARGUMENT_KEY),
                           .filter = PG_ARGISNULL(ARGUMENT_FILTER)
                                         ? NULL
                                         : text_to_cstring(PG_GETARG_TEXT_PP(ARGUMENT_FILTER)),
                           .retry = !PG_ARGISNULL(ARGUMENT_RETRY) && PG_GETARG_BOOL(ARGUMENT_RETRY),
                           .extension = get_func_namespace(fcinfo->flinfo->fn_oid)};
}

static int batch_size_from_arguments(FunctionCallInfo fcinfo) {
    int size;

    if (PG_ARGISNULL(ARGUMENT_BATCH_SIZE))
        return ROUNDS * setting_batch_size;
    size = PG_GETARG_INT32(ARGUMENT_BATCH_SIZE);
    if (size < 1 || size > MAX_BATCH_SIZE)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("batch_size must be between 1 and %d", MAX_BATCH_SIZE)));
    return size;
}

static int64 microseconds_argument(FunctionCallInfo fcinfo, int argument) {
    const Interval *interval;

    if (PG_ARGISNULL(argument))
        return 0;
    interval = PG_GETARG_INTERVAL_P(argument);
    return interval->time +
           (interval->day + (int64)interval->month * DAYS_PER_MONTH) * USECS_PER_DAY;
}

static ConvertJob *create_job(FunctionCallInfo fcinfo) {
    ConvertJob *job = palloc0(sizeof *job);
    ConvertTables tables = tables_from_arguments(fcinfo);
    int64 notice_interval = microseconds_argument(fcinfo, ARGUMENT_NOTICE_INTERVAL);

    job->options = options_from_arguments(fcinfo, ARGUMENT_MODE);
    job->batch_size = batch_size_from_arguments(fcinfo);
    job->rows.source = tables.source;
    job->rows.role = GetUserId();
    job->rows.since = tables.retry ? GetCurrentTimestamp() : DT_NOBEGIN;
    next_transaction();
    convert_prepare(&tables, &job->rows.sql);
    if (tables.retry)
        rows_tidy_failures(&job->rows);
    progress_begin(&job->progress, tables.source, notice_interval);
    return job;
}

PG_FUNCTION_INFO_V1(ocr_convert);
Datum ocr_convert(PG_FUNCTION_ARGS) {
    ErrorContextCallback context = {.previous = error_context_stack, .callback = tell_what_is_kept};
    Datum values[2];
    bool nulls[lengthof(values)] = {false};
    ConvertJob *job;

    check_transaction(fcinfo);
    SPI_connect_ext(SPI_OPT_NONATOMIC);
    job = create_job(fcinfo);
    context.arg = job;
    error_context_stack = &context;
    convert_all(job);
    error_context_stack = context.previous;
    progress_end(&job->progress);
    values[0] = Int64GetDatum(job->progress.pages);
    values[1] = Int64GetDatum(job->progress.failed);
    SPI_finish();
    PG_RETURN_DATUM(row_value(row_type(fcinfo), values, nulls));
}
