/* Many rows by AVX2, as integers of 16 bits: see integers_simd.h. */
#if defined(__x86_64__)
#include "kernels/integers_avx2.h"

#define NAME(prefix) prefix##_integers_avx2
#define X_DEPTH DEPTH

#include "kernels/integers_many_simd.h"
#endif
