#include "kernels/cpu.h"
#include "kernels/matmul_kernel.h"

typedef struct Kernel {
    MultiplyPanels *nt, *nn;
} Kernel;

static Kernel kernel(void) {
#if defined(__x86_64__)
    if (cpu_level() >= CPU_AVX512)
        return (Kernel){gemm_nt_avx512, gemm_nn_avx512};
    if (cpu_level() >= CPU_AVX2)
        return (Kernel){gemm_nt_avx2, gemm_nn_avx2};
#endif
    return (Kernel){gemm_nt_portable, gemm_nn_portable};
}

void gemm_nt(Panel a, Panel b, Panel c) {
    kernel().nt(a, b, c);
}

void gemm_nn(Panel a, Panel b, Panel c) {
    kernel().nn(a, b, c);
}
