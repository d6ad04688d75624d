/*
 * cpu.h - what this processor can do, found once.
 *
 * Kernels exist for several instruction sets in the same binary; each is
 * chosen here at run time. A lower level can be forced, so that every path is
 * tested on one machine.
 */
#ifndef OCR_CPU_H
#define OCR_CPU_H

#include <stdbool.h>

typedef enum CpuLevel {
    CPU_PORTABLE,    /* SSE2 or NEON */
    CPU_AVX2,        /* AVX2, FMA, F16C */
    CPU_AVX512,      /* AVX512 F, BW, DQ, VL */
    CPU_AVX512_VNNI, /* pairs of 16-bit integers */
    CPU_AVX512_BF16, /* pairs of bf16 */
    CPU_AMX          /* tiles of bf16 and of 8-bit integers */
} CpuLevel;

#define CPU_LEVELS 6

/* The level in use: the best that processor and system support, or the forced one. */
CpuLevel cpu_level(void);
CpuLevel cpu_best_level(void);
const char *cpu_level_name(CpuLevel level);

/* Use at most this level from now on. Not while a pool is working. */
void cpu_force_level(CpuLevel level);

#endif
