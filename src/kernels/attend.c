#include "kernels/attend.h"

#include "kernels/cpu.h"
#include "kernels/matmul_kernel.h"

void attend_keys(const float *q, Matrix keys, float *scores) {
#if defined(__x86_64__)
    if (cpu_level() >= CPU_AVX512) {
        attend_keys_avx512(q, &keys, scores);
        return;
    }
    if (cpu_level() >= CPU_AVX2) {
        attend_keys_avx2(q, &keys, scores);
        return;
    }
#endif
    attend_keys_portable(q, &keys, scores);
}

void attend_values(const float *weights, Matrix values, float *out) {
#if defined(__x86_64__)
    if (cpu_level() >= CPU_AVX512) {
        attend_values_avx512(weights, &values, out);
        return;
    }
    if (cpu_level() >= CPU_AVX2) {
        attend_values_avx2(weights, &values, out);
        return;
    }
#endif
    attend_values_portable(weights, &values, out);
}
