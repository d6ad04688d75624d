/*
 * errors.h - what the engine's failures are called in SQL.
 *
 * One table maps each code to its SQLSTATE. Class OC is the extension's own:
 * OC0xx are faults of a page (image and prompt), which ocr_try() returns as
 * values, OC1xx faults of a model. Where SQL has a code of its own, it is used.
 */
#ifndef PG_ERRORS_H
#define PG_ERRORS_H

#include "engine.h"

/* Is it the page that is at fault, so that the next one may still be read? */
bool error_is_of_page(OcrCode code);

/* The SQLSTATE as ereport takes it; unpack_sql_state gives its five characters. */
int error_sqlstate(OcrCode code);

/* Raise it. A pending cancel or termination takes precedence for OCR_INTERRUPTED. */
_Noreturn void error_raise(const OcrError *err);

/* The same when it is not the current model that is in work, but this one. */
_Noreturn void error_raise_of_model(const char *model, const OcrError *err);

/* What is wrong, in one line, for a column; in the database's encoding. */
const char *error_line(const OcrError *err);

#endif
