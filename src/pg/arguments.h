/*
 * arguments.h - SQL values as the engine takes them.
 */
#ifndef PG_ARGUMENTS_H
#define PG_ARGUMENTS_H

#include "pg/page.h"

/* A value of type ocr_mode, and back. */
OcrMode mode_from_enum(Oid value);
Datum mode_to_enum(OcrMode mode, Oid type);

/* The bytes of a value, which must outlive them. */
OcrBytes bytes_of(const bytea *value);

/*
 * What is asked for, without an image: mode and prompt as arguments `first` and the one after
 * it, where the function has them. NULL means the default.
 */
PageInput options_from_arguments(FunctionCallInfo fcinfo, int first);

/* The same with the image that is argument 0; false if that is NULL. */
bool input_from_arguments(FunctionCallInfo fcinfo, int first, PageInput *out);

#endif
