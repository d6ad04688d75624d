/*
 * confidence.h - how sure the model is of what it writes, and where that ends.
 *
 * Faced with what it cannot read (a score, a map, handwriting, print that is too small) a model
 * does not fall silent: it goes on with what such texts mostly hold, for thousands of ids. The
 * probabilities of these ids tell: their mean is .15 to .4, where a page that is read has .9, and
 * one that is read badly still .5.
 */
#ifndef OCR_CONFIDENCE_H
#define OCR_CONFIDENCE_H

#include <stdbool.h>

typedef struct Confidence {
    double floor;     /* logarithm of the least mean probability; -INFINITY: any will do */
    double sum;       /* of the logarithms of all probabilities, the end mark's included */
    int count;        /* how many those are */
    double surplus;   /* what they have above the floor, added up */
    double doubt;     /* what the latest ids lack to reach it */
    int sure;         /* ids before those */
    double assurance; /* surplus of these */
} Confidence;

/* floor: a probability, 0..1. */
Confidence confidence_begin(double floor);

/*
 * Count an id by the logarithm of its probability, or -INFINITY. True if the text is to end here:
 * its ids have been below the floor for so long that nothing better will come.
 */
bool confidence_add(Confidence *confidence, double log_probability);

/* Geometric mean of the probabilities, 1 of none. */
double confidence_mean(const Confidence *confidence);

/* Is the whole below the floor? */
bool confidence_is_low(const Confidence *confidence);

/* Of a text that is low or was ended: how many ids of its beginning are worth keeping. */
int confidence_sure(const Confidence *confidence);

#endif
