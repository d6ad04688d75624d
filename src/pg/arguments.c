#include "postgres.h"
#include "pg/compat.h"

#include "utils/builtins.h"
#include "utils/fmgroids.h"

#include "pg/arguments.h"
#include "pg/encoding.h"

OcrMode mode_from_enum(Oid value) {
    const char *label = DatumGetCString(DirectFunctionCall1(enum_out, ObjectIdGetDatum(value)));
    OcrMode mode;

    if (!ocr_mode_parse(label, &mode))
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("mode \"%s\" is not known to the extension's library", label)));
    return mode;
}

Datum mode_to_enum(OcrMode mode, Oid type) {
    return OidInputFunctionCall(F_ENUM_IN, unconstify(char *, ocr_mode_name(mode)), type, -1);
}

OcrBytes bytes_of(const bytea *value) {
    return (OcrBytes){(const uint8_t *)VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value)};
}

static bool is_given(FunctionCallInfo fcinfo, int argument) {
    return argument < PG_NARGS() && !PG_ARGISNULL(argument);
}

PageInput options_from_arguments(FunctionCallInfo fcinfo, int first) {
    PageInput input = {.mode = OCR_MODE_AUTO};

    if (is_given(fcinfo, first))
        input.mode = mode_from_enum(PG_GETARG_OID(first));
    if (is_given(fcinfo, first + 1))
        input.prompt = utf8_from_server(text_to_cstring(PG_GETARG_TEXT_PP(first + 1)));
    return input;
}

bool input_from_arguments(FunctionCallInfo fcinfo, int first, PageInput *out) {
    if (PG_ARGISNULL(0))
        return false;
    *out = options_from_arguments(fcinfo, first);
    out->file = bytes_of(PG_GETARG_BYTEA_PP(0));
    return true;
}
