/*
 * work.h - how much a page asks of a machine, counted from the model's shapes.
 *
 * Operations are two for each product that the model defines: what padding,
 * rounding or a repeated computation add is not counted, so that a rate tells how
 * fast the model runs, not how busy the machine is.
 */
#ifndef BENCH_WORK_H
#define BENCH_WORK_H

#include "model/model.h"
#include "vision/views.h"

/* Of one page. */
typedef struct PageWork {
    double sam, clip, project; /* operations over all views */
    double prefill; /* over the prompt's positions, the logits of the last one included */
} PageWork;

PageWork work_of_page(const OcrModel *model, const ViewPlan *views, int prompt_positions);

/*
 * Bytes that a decode step of `pages` pages reads at least, each at a context of
 * `positions`: every weight that is used once, and the pages' keys and values.
 * Experts are counted as if each page chose its own at random: experts * (1 - (1 -
 * chosen / experts) ^ pages).
 */
double work_token_bytes(const OcrModel *model, int pages, int positions, Precision precision);

#endif
