/*
 * field_kernel.h - between field.c and the instruction sets. Private to src/kernels
 * and its tests.
 *
 * A word is what one lane of a vector multiplies at a time: an f32, or a pair of
 * neighbouring bf16. Both are four bytes, so all sizes here count words.
 */
#ifndef OCR_FIELD_KERNEL_H
#define OCR_FIELD_KERNEL_H

#include "kernels/field.h"

#include <stdbool.h>

#define FIELD_KEYS 128 /* of a block, at most */
#define FIELD_SIDE 16  /* rows of all arrays below are filled up to a multiple */

/* Scratch, with the tile's width as it suits the instruction set. */
typedef struct FieldSpace {
    void *queries;    /* [tiles][words of dim][tile] */
    float *out;       /* [tiles][dim][tile] */
    float *by_row;    /* [tiles][height][tile] bias by the key's row */
    float *by_column; /* [tiles][width][tile] */
    float *most;      /* [tiles][tile] the largest score so far */
    float *sum;       /* [tiles][tile] of exponentials so far */
    void *keys;       /* [FIELD_KEYS][words of dim] */
    void *values;     /* [dim][words of FIELD_KEYS] */
    void *table;      /* [2 * height - 1][words of dim], then the same of width */
    float *scores;    /* [FIELD_KEYS, or as many as the table][tile] */
} FieldSpace;

/* c (+)= a b. Rows of a and c, and words, may be taken as filled up to FIELD_SIDE. */
typedef struct WordProduct {
    const void *a; /* [rows][a_stride] */
    const void *b; /* [words][tile], of which the first vectors * lanes columns count */
    float *c;      /* [rows][tile] */
    int a_stride;  /* in words */
    int tile;
    int rows, words, vectors;
    bool add;
} WordProduct;

typedef void MultiplyWords(const WordProduct *product);
typedef void AttendField(const Field *field, int first, int count, const FieldSpace *space);

AttendField field_portable, field_avx2, field_avx512, field_bf16, field_amx;

/* As field_attend, by one instruction set. */
void field_attend_by(AttendField *by, const Field *field, int first, int count, void *scratch);

/* Products of bf16 pairs by matrix registers, between begin and end on the same thread. */
MultiplyWords amx_multiply_words;
void amx_words_begin(void);
void amx_words_end(void);

#endif
