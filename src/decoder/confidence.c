#include "decoder/confidence.h"

#include <math.h>

/*
 * Cumulative sums (Page, Continuous Inspection Schemes, 1954): an id below the floor adds to the
 * doubt, one above takes from it, and doubt that is gone is forgotten. What it began behind is
 * where the reading went wrong.
 *
 * 100 is what 100 ids of a mean probability of floor / e amount to. On 85 scans of books, papers,
 * scores and maps every text that went so far was lost for good; with 60, the rest of a page
 * was lost with an advertisement on it.
 */
#define MOST_DOUBT 100.0

/*
 * What remains must be a text, such as the heading above a score: have as much above the floor as
 * so many ids that are certain. A word or two come out sure by chance.
 */
#define LEAST_SURE 22

/* A single id, however unlikely, is no stretch of text. */
#define LEAST_LOG (-10.0)

Confidence confidence_begin(double floor) {
    return (Confidence){.floor = log(floor)};
}

bool confidence_add(Confidence *confidence, double log_probability) {
    confidence->sum += log_probability;
    confidence->count++;
    double above = fmax(log_probability, LEAST_LOG) - confidence->floor;
    confidence->surplus += above;
    confidence->doubt = fmax(confidence->doubt - above, 0);
    if (confidence->doubt == 0) {
        confidence->sure = confidence->count;
        confidence->assurance = confidence->surplus;
    }
    return confidence->doubt > MOST_DOUBT;
}

double confidence_mean(const Confidence *confidence) {
    return confidence->count > 0 ? exp(confidence->sum / confidence->count) : 1;
}

bool confidence_is_low(const Confidence *confidence) {
    return confidence->surplus < 0;
}

int confidence_sure(const Confidence *confidence) {
    return confidence->assurance >= LEAST_SURE * -confidence->floor ? confidence->sure : 0;
}
