/*
 * cubic.h - the kernel of every bicubic interpolation of the model: Keys' with a = -0.5
 * (spec 2.3, 3.1).
 */
#ifndef OCR_CUBIC_H
#define OCR_CUBIC_H

#include "base/numbers.h"

#include <math.h>

#define CUBIC_REACH 2.0 /* of the kernel */

/*
 * The weight of a sample at distance x; 0 from CUBIC_REACH on. The order of operations is the
 * reference's.
 */
static inline double cubic(double x) {
    x = fabs(x);
    if (x < 1.0)
        return (1.5 * x - 2.5) * x * x + 1.0;
    if (x < 2.0)
        return (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5;
    return 0.0;
}

/*
 * Where an output sample lies among the `in` samples of an axis, and which of them it is a sum of.
 * The kernel is stretched where samples become fewer, and cut at the borders; who sums its weights
 * normalises them.
 */
typedef struct CubicWindow {
    double center, stretch; /* in input samples; stretch is at least 1 */
    int first, count;
} CubicWindow;

static inline double cubic_stretch(int in, int out) {
    return fmax((double)in / out, 1.0);
}

/* The longest window. */
static inline int cubic_taps(int in, int out) {
    return 2 * (int)ceil(CUBIC_REACH * cubic_stretch(in, out)) + 1;
}

static inline CubicWindow cubic_window(int in, int out, int i) {
    CubicWindow window = {.center = (i + 0.5) * ((double)in / out),
                          .stretch = cubic_stretch(in, out)};
    double reach = CUBIC_REACH * window.stretch;
    window.first = max_int(0, (int)(window.center - reach + 0.5));
    window.count = min_int(in, (int)(window.center + reach + 0.5)) - window.first;
    return window;
}

#endif
