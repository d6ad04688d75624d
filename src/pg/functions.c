/*
 * functions.c - the SQL functions that read one page.
 *
 * All take (image bytea, mode ocr_mode, prompt text) or a beginning of it. No
 * image gives NULL; a mode or a prompt that is NULL means the default one.
 */
#include "postgres.h"
#include "pg/compat.h"

#include "access/detoast.h"
#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "pg/arguments.h"
#include "pg/encoding.h"
#include "pg/errors.h"
#include "pg/page.h"
#include "pg/row.h"

/* As much of an image as is fetched to find its size; headers are rarely longer. */
#define HEADER_BYTES (64 * 1024)

static text *page_text_value(const PageResult *result) {
    size_t length;
    const char *utf8 = page_text(result, &length);

    return text_from_utf8(utf8, length);
}

PG_FUNCTION_INFO_V1(ocr);
Datum ocr(PG_FUNCTION_ARGS) {
    PageInput input;
    PageResult read;
    text *result;

    if (!input_from_arguments(fcinfo, 1, &input))
        PG_RETURN_NULL();
    page_read_or_raise(&input, &read);
    result = page_text_value(&read);
    page_free(&read);
    PG_RETURN_TEXT_P(result);
}

/* values: [rows][columns] */
static ArrayType *real_matrix(const float *values, int rows, int columns) {
    Size bytes = ARR_OVERHEAD_NONULLS(2) + sizeof(float) * rows * columns;
    ArrayType *array = palloc0(bytes);

    SET_VARSIZE(array, bytes);
    array->ndim = 2;
    array->elemtype = FLOAT4OID;
    ARR_DIMS(array)[0] = rows;
    ARR_DIMS(array)[1] = columns;
    ARR_LBOUND(array)[0] = ARR_LBOUND(array)[1] = 1;
    memcpy(ARR_DATA_PTR(array), values, sizeof(float) * rows * columns);
    return array;
}

PG_FUNCTION_INFO_V1(vision_tokens);
Datum vision_tokens(PG_FUNCTION_ARGS) {
    PageInput input;
    PageResult read;
    ArrayType *result;

    if (!input_from_arguments(fcinfo, 1, &input))
        PG_RETURN_NULL();
    input.encode_only = true;
    page_read_or_raise(&input, &read);
    result = real_matrix(read.page.vision, read.page.plan.image_slots, read.hidden);
    page_free(&read);
    PG_RETURN_ARRAYTYPE_P(result);
}

/*
 * The plan from the first bytes of a long value, if they tell all. A PNG or WebP
 * may say at its end which way is up, and on that depends how it is tiled; how
 * many pages a TIFF has is known at its end, too.
 */
static bool plan_from_prefix(Datum image, PageInput input, PagePlan *out) {
    OcrError err;

    if (toast_raw_datum_size(image) - VARHDRSZ <= HEADER_BYTES)
        return false;
    input.file = bytes_of((bytea *)PG_DETOAST_DATUM_SLICE(image, 0, HEADER_BYTES));
    input.page = 1;
    return page_plan(&input, out, &err) == OCR_OK && out->image.format != OCR_FORMAT_TIFF &&
           (out->image.format == OCR_FORMAT_JPEG || out->plan.columns * out->plan.rows == 1);
}

PG_FUNCTION_INFO_V1(vision_token_count);
Datum vision_token_count(PG_FUNCTION_ARGS) {
    PageInput input;
    PagePlan asked;
    OcrError err;

    if (PG_ARGISNULL(0))
        PG_RETURN_NULL();
    input = options_from_arguments(fcinfo, 1);
    input.encode_only = true;
    if (!plan_from_prefix(PG_GETARG_DATUM(0), input, &asked)) {
        input.file = bytes_of(PG_GETARG_BYTEA_PP(0));
        if (page_plan(&input, &asked, &err) != OCR_OK)
            error_raise(&err);
    }
    PG_RETURN_INT32(asked.plan.vision_tokens);
}

static const char *finish_name(OcrFinish finish) {
    switch (finish) {
    case OCR_FINISH_STOP:
        return "stop";
    case OCR_FINISH_LENGTH:
        return "length";
    case OCR_FINISH_LOOP:
        return "loop";
    case OCR_FINISH_UNSURE:
        return "unsure";
    }
    return "unknown";
}

/* Columns of ocr_detail(). */
enum {
    DETAIL_TEXT,
    DETAIL_FINISH,
    DETAIL_TOKENS,
    DETAIL_CONFIDENCE,
    DETAIL_MODE,
    DETAIL_VISION_TOKENS,
    DETAIL_PROMPT_TOKENS,
    DETAIL_IMAGE_MS,
    DETAIL_ENCODE_MS,
    DETAIL_PREFILL_MS,
    DETAIL_DECODE_MS,
    DETAIL_TURNED,
    DETAIL_COLUMNS
};

PG_FUNCTION_INFO_V1(ocr_detail);
Datum ocr_detail(PG_FUNCTION_ARGS) {
    TupleDesc columns = row_type(fcinfo);
    Datum values[DETAIL_COLUMNS];
    bool nulls[DETAIL_COLUMNS] = {false};
    PageInput input;
    PageResult read;
    const OcrPage *page = &read.page;

    if (!input_from_arguments(fcinfo, 1, &input))
        PG_RETURN_NULL();
    page_read_or_raise(&input, &read);
    values[DETAIL_TEXT] = PointerGetDatum(page_text_value(&read));
    values[DETAIL_FINISH] = CStringGetTextDatum(finish_name(page->finish));
    values[DETAIL_TOKENS] = Int32GetDatum(page->tokens);
    values[DETAIL_CONFIDENCE] = Float8GetDatum(page->confidence);
    values[DETAIL_MODE] =
        mode_to_enum(page->plan.mode, TupleDescAttr(columns, DETAIL_MODE)->atttypid);
    values[DETAIL_VISION_TOKENS] = Int32GetDatum(page->plan.vision_tokens);
    values[DETAIL_PROMPT_TOKENS] = Int32GetDatum(page->plan.prompt_positions);
    values[DETAIL_IMAGE_MS] = Float8GetDatum(page->image_ms);
    values[DETAIL_ENCODE_MS] = Float8GetDatum(page->encode_ms);
    values[DETAIL_PREFILL_MS] = Float8GetDatum(page->prefill_ms);
    values[DETAIL_DECODE_MS] = Float8GetDatum(page->decode_ms);
    values[DETAIL_TURNED] = Int32GetDatum(90 * page->plan.turned);
    page_free(&read);
    PG_RETURN_DATUM(row_value(columns, values, nulls));
}

/* A row of ocr_try(): the text, or what is wrong with the page. */
static Datum try_row(FunctionCallInfo fcinfo, text *read, const char *error, int sqlstate) {
    Datum values[3];
    bool nulls[3];

    put_reading(read, error, sqlstate, values, nulls);
    return row_value(row_type(fcinfo), values, nulls);
}

/*
 * Needs no subtransaction: the engine returns its errors, so nothing is thrown
 * that would have to be caught.
 */
PG_FUNCTION_INFO_V1(ocr_try);
Datum ocr_try(PG_FUNCTION_ARGS) {
    PageInput input;
    PageResult read;
    OcrError err;
    char *utf8;
    size_t length;

    if (!input_from_arguments(fcinfo, 1, &input))
        PG_RETURN_NULL();
    if (page_read(&input, &read, &err) != OCR_OK)
        return try_row(fcinfo, NULL, error_line(&err), error_sqlstate(err.code));
    utf8 = page_text(&read, &length);
    page_free(&read);
    if (!utf8_fits_server(utf8, length))
        return try_row(fcinfo, NULL, message_untranslatable(), ERRCODE_UNTRANSLATABLE_CHARACTER);
    return try_row(fcinfo, text_from_utf8(utf8, length), NULL, 0);
}
