/*
 * field_kernel.h - between field.c and the instruction sets. Private to src/kernels
 * and its tests.
 *
 * Sizes count words (words.h), and rows are filled up to WORD_SIDE. SPAN is how
 * many queries the instruction set takes at a time.
 */
#ifndef OCR_FIELD_KERNEL_H
#define OCR_FIELD_KERNEL_H

#include "kernels/field.h"
#include "kernels/words.h"

#define FIELD_KEYS 128 /* of a block, at most */

/* Scratch. A tile is SPAN queries. */
typedef struct FieldSpace {
    void *queries;    /* [tiles][words of dim][SPAN] */
    float *out;       /* [tiles][dim][SPAN] */
    float *by_row;    /* [tiles][height][SPAN] bias by the key's row */
    float *by_column; /* [tiles][width][SPAN] */
    float *most;      /* [tiles][SPAN] the largest score so far */
    float *sum;       /* [tiles][SPAN] of exponentials so far */
    void *keys;       /* [FIELD_KEYS][words of dim] */
    void *values;     /* [dim][words of FIELD_KEYS] */
    void *table;      /* [2 * height - 1][words of dim], then the same of width */
    float *scores;    /* [FIELD_KEYS, or as many as the table][SPAN] */
} FieldSpace;

typedef void AttendField(const Field *field, int first, int count, const FieldSpace *space);

AttendField field_portable, field_avx2, field_avx512, field_bf16, field_amx;

/* As field_attend, by one instruction set. */
void field_attend_by(AttendField *by, const Field *field, int first, int count, void *scratch);

#endif
