#include "postgres.h"
#include "pg/compat.h"

#include "pg/encoding.h"
#include "pg/errors.h"
#include "pg/model_folder.h"
#include "pg/settings.h"

#define OC(a, b, c) MAKE_SQLSTATE('O', 'C', a, b, c)

typedef struct ErrorClass {
    int sqlstate;
    const char *hint; /* or NULL */
} ErrorClass;

static const ErrorClass classes[] = {
    [OCR_INTERRUPTED] = {ERRCODE_QUERY_CANCELED, NULL},
    [OCR_OUT_OF_MEMORY] = {ERRCODE_OUT_OF_MEMORY, NULL},
    [OCR_SYSTEM] = {ERRCODE_SYSTEM_ERROR, NULL},
    [OCR_IMAGE_EMPTY] = {OC('0', '0', '1'), NULL},
    [OCR_IMAGE_FORMAT] = {OC('0', '0', '2'),
                          "Images are read from JPEG, PNG, TIFF, WebP, PNM and PDF files."},
    [OCR_IMAGE_UNSUPPORTED] = {OC('0', '0', '3'), NULL},
    [OCR_IMAGE_DAMAGED] = {OC('0', '0', '4'), NULL},
    [OCR_IMAGE_TOO_LARGE] = {OC('0', '0', '5'),
                             "See the settings deepseek_ocr.max_image_pixels, "
                             "deepseek_ocr.max_document_pages, "
                             "deepseek_ocr.max_session_memory and deepseek_ocr.pdf_timeout."},
    [OCR_IMAGE_ASPECT] = {OC('0', '0', '6'), NULL},
    [OCR_PROMPT] = {OC('0', '0', '7'), NULL},
    [OCR_CONTEXT] = {OC('0', '0', '8'),
                     "Take a shorter prompt or a mode with fewer vision tokens."},
    [OCR_MODEL_MISSING] = {ERRCODE_UNDEFINED_FILE, "ocr_models() lists the models there are."},
    [OCR_MODEL_UNREADABLE] = {ERRCODE_IO_ERROR, NULL},
    [OCR_MODEL_CONFIG] = {OC('1', '0', '1'), NULL},
    [OCR_MODEL_FORMAT] = {OC('1', '0', '2'), NULL},
    [OCR_MODEL_TENSOR] = {OC('1', '0', '3'), NULL},
    [OCR_MODEL_TOKENIZER] = {OC('1', '0', '4'), NULL},
    [OCR_MODEL_NOT_FINITE] = {OC('1', '0', '5'), NULL},
    [OCR_TARGET] = {OC('1', '0', '6'), NULL},
};

bool error_is_of_page(OcrCode code) {
    return code >= OCR_IMAGE_EMPTY && code <= OCR_CONTEXT;
}

static bool error_is_of_model(OcrCode code) {
    return code >= OCR_MODEL_MISSING && code <= OCR_MODEL_NOT_FINITE;
}

int error_sqlstate(OcrCode code) {
    return classes[code].sqlstate;
}

const char *error_line(const OcrError *err) {
    const char *feed = strchr(err->message, '\n');

    if (feed == NULL)
        return message_from_utf8(err->message);
    return message_from_utf8(
        psprintf("%.*s: %s", (int)(feed - err->message), err->message, feed + 1));
}

_Noreturn void error_raise(const OcrError *err) {
    error_raise_of_model(setting_model, err);
}

_Noreturn void error_raise_of_model(const char *model, const OcrError *err) {
    const ErrorClass *class = &classes[err->code];
    char *message = pstrdup(message_from_utf8(err->message));
    char *words = strchr(message, '\n');

    if (words != NULL)
        *words++ = '\0';
    if (err->code == OCR_INTERRUPTED)
        CHECK_FOR_INTERRUPTS();
    if (error_is_of_model(err->code))
        message =
            psprintf("model \"%s\": %s", model_shown_name(model), model_message(model, message));
    ereport(ERROR, (errcode(class->sqlstate), errmsg("%s", message),
                    words ? errdetail("The program says \"%s\".", words) : 0,
                    class->hint ? errhint("%s", class->hint) : 0));
}
