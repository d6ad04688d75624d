/*
 * cubic.h - the kernel of every bicubic interpolation of the model: Keys' with a = -0.5
 * (spec 2.3, 3.1).
 */
#ifndef OCR_CUBIC_H
#define OCR_CUBIC_H

#include <math.h>

/* The weight of a sample at distance x; 0 from 2 on. The order of operations is the reference's. */
static inline double cubic(double x) {
    x = fabs(x);
    if (x < 1.0)
        return (1.5 * x - 2.5) * x * x + 1.0;
    if (x < 2.0)
        return (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5;
    return 0.0;
}

#endif
