/*
 * quantize.c - ocr_quantize_model(): write a smaller copy of a model.
 *
 * Models are named as in deepseek_ocr.model. The engine writes in steps of a few
 * milliseconds to a folder of another name, which a reset callback removes if the
 * query ends before the last step, in whatever way.
 */
#include "postgres.h"
#include "pg/compat.h"

#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "pg/encoding.h"
#include "pg/errors.h"
#include "pg/model_folder.h"

#define NOTICE_INTERVAL_MS 5000

static char *checked_path(const char *name) {
    if (!model_name_is_valid(name))
        ereport(ERROR,
                (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                 errmsg("\"%s\" cannot name a model", name),
                 errhint("Give the name of a folder in the extension's model directory, or an "
                         "absolute path.")));
    return model_path(name);
}

static OcrQuantType checked_type(const char *name) {
    if (strcmp(name, "q8") == 0)
        return OCR_QUANT_Q8;
    if (strcmp(name, "q4") == 0)
        return OCR_QUANT_Q4;
    ereport(ERROR,
            (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("unknown weight type \"%s\"", name),
             errhint("The types are q8 and q4.")));
}

static void close_quantizer(void *quantizer) {
    ocr_quantizer_close(quantizer);
}

static OcrQuantizer *open_quantizer(const char *source, const char *target, OcrQuantType type) {
    MemoryContextCallback *callback = palloc0(sizeof *callback);
    OcrQuantizer *quantizer;
    OcrError err;

    if (ocr_quantizer_open(checked_path(source), checked_path(target), type, &quantizer, &err) !=
        OCR_OK)
        error_raise_of_model(source, &err);
    callback->func = close_quantizer;
    callback->arg = quantizer;
    MemoryContextRegisterResetCallback(CurrentMemoryContext, callback);
    return quantizer;
}

static void tell_progress(const OcrQuantizer *quantizer, TimestampTz *last) {
    TimestampTz now = GetCurrentTimestamp();
    int64_t written, total;

    if (!TimestampDifferenceExceeds(*last, now, NOTICE_INTERVAL_MS))
        return;
    *last = now;
    ocr_quantizer_progress(quantizer, &written, &total);
    ereport(NOTICE, (errmsg("%lld of %lld MB written", (long long)(written >> 20),
                            (long long)(total >> 20))));
}

PG_FUNCTION_INFO_V1(ocr_quantize_model);
Datum ocr_quantize_model(PG_FUNCTION_ARGS) {
    const char *source = text_to_cstring(PG_GETARG_TEXT_PP(0));
    const char *target = text_to_cstring(PG_GETARG_TEXT_PP(1));
    OcrQuantType type = checked_type(text_to_cstring(PG_GETARG_TEXT_PP(2)));
    MemoryContext work =
        AllocSetContextCreate(CurrentMemoryContext, "deepseek_ocr quantizer", ALLOCSET_SMALL_SIZES);
    MemoryContext caller = MemoryContextSwitchTo(work);
    OcrQuantizer *quantizer = open_quantizer(source, target, type);
    TimestampTz last = GetCurrentTimestamp();
    OcrStep step;
    OcrError err;
    int64_t written, total;

    while ((step = ocr_quantizer_step(quantizer, &err)) == OCR_STEP_MORE) {
        CHECK_FOR_INTERRUPTS();
        tell_progress(quantizer, &last);
    }
    if (step == OCR_STEP_FAILED)
        error_raise_of_model(source, &err);
    ocr_quantizer_progress(quantizer, &written, &total);
    MemoryContextSwitchTo(caller);
    MemoryContextDelete(work);
    PG_RETURN_INT64(total);
}
