/*
 * models.c - the SQL functions about models: ocr_load() and ocr_models().
 */
#include "postgres.h"
#include "pg/compat.h"

#include "common/string.h"
#include "portability/instr_time.h"
#include "storage/fd.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"

#include "pg/encoding.h"
#include "pg/model_cache.h"
#include "pg/model_folder.h"
#include "pg/row.h"
#include "pg/settings.h"

PG_FUNCTION_INFO_V1(ocr_load);
Datum ocr_load(PG_FUNCTION_ARGS) {
    OcrModelInfo info;
    instr_time begin, duration;

    INSTR_TIME_SET_CURRENT(begin);
    ocr_model_info(model_cache_get(), &info);
    model_folder_warm(model_path(setting_model));
    INSTR_TIME_SET_CURRENT(duration);
    INSTR_TIME_SUBTRACT(duration, begin);
    {
        Datum values[] = {CStringGetTextDatum(model_shown_name(setting_model)),
                          Int64GetDatum(info.parameters),
                          Int64GetDatum(info.weight_bytes),
                          CStringGetTextDatum(info.weight_type),
                          Int32GetDatum(info.context),
                          Float8GetDatum(INSTR_TIME_GET_MILLISEC(duration))};
        bool nulls[lengthof(values)] = {false};

        PG_RETURN_DATUM(row_value(row_type(fcinfo), values, nulls));
    }
}

/* One row of ocr_models(). */
static void put_model(ReturnSetInfo *result, const char *name) {
    char *path = model_path(name);
    bool paths_visible = model_paths_are_visible();
    OcrModelInfo info = {.weight_type = ""};
    OcrError err;
    bool broken = model_folder_info(path, &info, &err) != OCR_OK;
    Datum values[] = {
        CStringGetTextDatum(model_shown_name(name)),
        BoolGetDatum(strcmp(name, setting_model) == 0),
        CStringGetTextDatum(path),
        Int64GetDatum(info.parameters),
        Int64GetDatum(info.weight_bytes),
        CStringGetTextDatum(info.weight_type),
        Int32GetDatum(info.context),
        CStringGetTextDatum(broken ? model_message(name, message_from_utf8(err.message)) : "")};
    bool nulls[] = {false, false, !paths_visible, broken, broken, broken, broken, !broken};

    tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/*
 * Every folder in the model directory, but for copies that are not finished (see quantizer.h), and
 * the model in use if it lies elsewhere.
 */
PG_FUNCTION_INFO_V1(ocr_models);
Datum ocr_models(PG_FUNCTION_ARGS) {
    ReturnSetInfo *result = (ReturnSetInfo *)fcinfo->resultinfo;
    const char *directory = model_directory();
    DIR *dir = AllocateDir(directory);
    struct dirent *entry;

    InitMaterializedSRF(fcinfo, 0);
    while (dir != NULL && (entry = ReadDirExtended(dir, directory, LOG)) != NULL) {
        CHECK_FOR_INTERRUPTS();
        if (model_name_is_valid(entry->d_name) && !pg_str_endswith(entry->d_name, ".partial") &&
            model_is_folder(entry->d_name))
            put_model(result, entry->d_name);
    }
    if (dir != NULL)
        FreeDir(dir);
    if (is_absolute_path(setting_model))
        put_model(result, setting_model);
    return (Datum)0;
}
