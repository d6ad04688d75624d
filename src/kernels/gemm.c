#include "kernels/cpu.h"
#include "kernels/matmul_kernel.h"

#define FEW_ROWS 3 /* for which b is not worth transposing */

typedef struct Kernel {
    MultiplyPanels *nt_few, *nt, *nn;
} Kernel;

static Kernel kernel(void) {
#if defined(__x86_64__)
    if (cpu_level() >= CPU_AVX512)
        return (Kernel){gemm_nt_few_avx512, gemm_nt_avx512, gemm_nn_avx512};
    if (cpu_level() >= CPU_AVX2)
        return (Kernel){gemm_nt_few_avx2, gemm_nt_avx2, gemm_nn_avx2};
#endif
    return (Kernel){gemm_nt_few_portable, gemm_nt_portable, gemm_nn_portable};
}

void gemm_nt(Panel a, Panel b, Panel c) {
    if (a.rows <= FEW_ROWS)
        kernel().nt_few(a, b, c);
    else
        kernel().nt(a, b, c);
}

void gemm_nn(Panel a, Panel b, Panel c) {
    kernel().nn(a, b, c);
}
