/*
 * row.h - rows that functions return.
 */
#ifndef PG_ROW_H
#define PG_ROW_H

#include "access/htup_details.h"
#include "funcapi.h"
#include "utils/builtins.h"

/* The row type that a function was declared to return. */
static inline TupleDesc row_type(FunctionCallInfo fcinfo) {
    TupleDesc columns;

    if (get_call_result_type(fcinfo, NULL, &columns) != TYPEFUNC_COMPOSITE)
        elog(ERROR, "return type must be a row type");
    return BlessTupleDesc(columns);
}

static inline Datum row_value(TupleDesc columns, Datum *values, bool *nulls) {
    return HeapTupleGetDatum(heap_form_tuple(columns, values, nulls));
}

/* Columns text, error, sqlstate. content: NULL: there is none; sqlstate: 0: nothing is wrong */
static inline void put_reading(text *content, const char *error, int sqlstate, Datum *values,
                               bool *nulls) {
    bool failed = sqlstate != 0;

    values[0] = PointerGetDatum(content);
    values[1] = failed ? CStringGetTextDatum(error) : (Datum)0;
    values[2] = failed ? CStringGetTextDatum(unpack_sql_state(sqlstate)) : (Datum)0;
    nulls[0] = content == NULL;
    nulls[1] = nulls[2] = !failed;
}

#endif
