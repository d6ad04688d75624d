/*
 * reading.h - the text of a page: the choice of each id, where it ends, what of it stands, and
 * whether the page lies as it should.
 */
#ifndef OCR_READING_H
#define OCR_READING_H

#include "decoder/confidence.h"
#include "decoder/ngram.h"
#include "engine.h"

/* What the model says of a page that lies as its plan has it. */
typedef struct Reading {
    OcrPlan plan;
    NgramRule ban;
    Overruled overruled;
    int *ids;              /* [positions] prompt, then what was generated */
    float *logs;           /* [positions] logarithms of the probabilities of what was generated */
    int count;             /* ids known */
    int tokens;            /* generated, without EOS */
    Confidence confidence; /* of all generated ids, EOS included */
    double without_loop;   /* their mean, but for repeats that were cut off */
    OcrFinish finish;
    bool ended;
} Reading;

/*
 * The greedy choice from logits [vocabulary], which it changes (spec 4.4, 4.5), and whether that
 * ends the text. False if they are not finite.
 */
bool reading_choose(Reading *reading, float *logits, int vocabulary);

/* The picture's first position in the prompt. */
int reading_picture(const Reading *reading, int image_id);

/*
 * Of a reading that has ended: does the page lie as it should? as_it_lay is the reading from before
 * it was turned; not looked at where it was not.
 */
bool reading_is_good(const Reading *reading, const Reading *as_it_lay);

/*
 * Begin anew with the page turned by another quarter. The prompt is that of as_it_lay, the reading
 * from before it was turned, with as many ids of the picture as it now takes.
 */
void reading_turn(Reading *reading, const Reading *as_it_lay, int image_id);

#endif
