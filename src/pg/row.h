/*
 * row.h - the row type that a function was declared to return.
 */
#ifndef PG_ROW_H
#define PG_ROW_H

#include "access/htup_details.h"
#include "funcapi.h"

static inline TupleDesc row_type(FunctionCallInfo fcinfo) {
    TupleDesc columns;

    if (get_call_result_type(fcinfo, NULL, &columns) != TYPEFUNC_COMPOSITE)
        elog(ERROR, "return type must be a row type");
    return BlessTupleDesc(columns);
}

static inline Datum row_value(TupleDesc columns, Datum *values, bool *nulls) {
    return HeapTupleGetDatum(heap_form_tuple(columns, values, nulls));
}

#endif
