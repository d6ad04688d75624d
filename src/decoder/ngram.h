/*
 * ngram.h - the ban on repeated n-grams, and loop detection (spec 4.4).
 */
#ifndef OCR_NGRAM_H
#define OCR_NGRAM_H

#include <stdbool.h>

typedef struct NgramRule {
    int size;             /* n; 0: no ban */
    int window;           /* last ids that count; 0: the whole sequence, prompt included */
    const int *whitelist; /* [whitelist_count] ids that are never banned */
    int whitelist_count;
} NgramRule;

/*
 * Set logits[id] to -infinity for every id that would repeat an n-gram lying
 * inside the last `window` ids. ids: the sequence so far, [count], each in
 * 0..vocab-1. Returns the number of distinct ids banned.
 */
int ngram_ban(const NgramRule *rule, const int *ids, int count, float *logits, int vocab);

/*
 * Length of the period if the end of ids is one phrase said over and over, else
 * 0. ids: what the model generated, [count].
 */
int loop_period(const int *ids, int count);

/* The latest places where the ban took the place of the model's own choice. */
#define OVERRULED_PLACES 16

typedef struct Overruled {
    int places[OVERRULED_PLACES]; /* ring of counts of ids */
    int times;
} Overruled;

/*
 * Note that the ban overruled the choice of the id that follows `count` ids.
 * Returns 0, or, if that has become a habit, how many ids were there before the
 * first of the repetitions that were held back.
 */
int loop_overruled(Overruled *overruled, const NgramRule *rule, int count);

#endif
