#include "kernels/cpu.h"

#include <stdatomic.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ARCH_REQ_XCOMP_PERM 0x1023
#define XFEATURE_XTILEDATA 18

/* Linux gives tile registers only to processes that ask, once for all their threads. */
static bool tiles_granted(void) {
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}

static bool has_f16c(void) {
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}

static bool has_amx(void) {
    const unsigned wanted = 1u << 22 | 1u << 24 | 1u << 25; /* leaf 7, EDX: bf16, tile, int8 */
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & wanted) == wanted;
}

/* __builtin_cpu_supports also asks whether the system saves the registers. */
static CpuLevel detect(void) {
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") || !has_f16c())
        return CPU_PORTABLE;
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
        !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl"))
        return CPU_AVX2;
    if (!__builtin_cpu_supports("avx512vnni"))
        return CPU_AVX512;
    if (!__builtin_cpu_supports("avx512bf16"))
        return CPU_AVX512_VNNI;
    return has_amx() && tiles_granted() ? CPU_AMX : CPU_AVX512_BF16;
}
#else
static CpuLevel detect(void) {
    return CPU_PORTABLE;
}
#endif

#define UNKNOWN (-1)

static atomic_int best = UNKNOWN;
static atomic_int limit = CPU_AMX;

CpuLevel cpu_best_level(void) {
    int level = atomic_load_explicit(&best, memory_order_relaxed);
    if (level == UNKNOWN) {
        level = detect();
        atomic_store_explicit(&best, level, memory_order_relaxed);
    }
    return (CpuLevel)level;
}

CpuLevel cpu_level(void) {
    CpuLevel most = (CpuLevel)atomic_load_explicit(&limit, memory_order_relaxed);
    CpuLevel level = cpu_best_level();
    return level < most ? level : most;
}

void cpu_force_level(CpuLevel level) {
    atomic_store_explicit(&limit, (int)level, memory_order_relaxed);
}

const char *cpu_level_name(CpuLevel level) {
    static const char *const names[CPU_LEVELS] = {
        [CPU_PORTABLE] = "portable",       [CPU_AVX2] = "avx2",
        [CPU_AVX512] = "avx512",           [CPU_AVX512_VNNI] = "avx512_vnni",
        [CPU_AVX512_BF16] = "avx512_bf16", [CPU_AMX] = "amx",
    };
    return names[level];
}
