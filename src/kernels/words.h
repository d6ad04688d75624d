/*
 * words.h - products of words, between the files of src/kernels.
 *
 * A word is what one lane of a vector multiplies at a time: an f32, or a pair of
 * neighbouring bf16. Both are four bytes, so all sizes here count words.
 */
#ifndef OCR_WORDS_H
#define OCR_WORDS_H

#include <stdbool.h>
#include <stddef.h>

#define WORD_SIDE 16

/*
 * c (+)= a b. Matrix registers take whole squares: for them rows, words and columns
 * are filled up to multiples of WORD_SIDE, words with 0.
 */
typedef struct WordProduct {
    const void *a; /* [rows][a_stride] */
    const void *b; /* [words][span], of which the first vectors * lanes columns count */
    float *c;      /* [rows][span] */
    size_t a_stride;
    int span; /* three vectors of the instruction set, side by side */
    int rows, words, vectors;
    bool add;
    /* What will be wanted soon: [rows], next_stride bytes apart, of next_word bytes for each word.
     */
    const char *next; /* NULL: nothing is known */
    size_t next_stride;
    int next_word;
} WordProduct;

typedef void MultiplyWords(const WordProduct *product);

/* Of bf16, by matrix registers; between begin and end on the same thread. */
MultiplyWords multiply_words_amx;
void words_begin_amx(void);
void words_end_amx(void);

#endif
