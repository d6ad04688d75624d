/*
 * amx.h - the instructions of AMX: matrix registers of 16 rows of 64 bytes. cpu.c asks the system
 * for them. Private to matmul_amx.c, matmul_bytes_amx.c, the benchmark's limits, and the tests,
 * which have instructions of their own, in C.
 */
#ifndef OCR_AMX_H
#define OCR_AMX_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define SIDE 16 /* of C, 16 x 16 sums of 32 bits */
#define TILE_ROW_BYTES 64

/* The instructions are written out: the compiler's own do not say that they use memory. */
#ifndef AMX_EMULATED
#define TILE_ZERO(t) __asm__ volatile("tilezero %%tmm" #t ::)
#define TILE_LOAD(t, from, stride)                                                                 \
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #t ::"r"(from), "r"((size_t)(stride)) : "memory")
#define TILE_STORE(t, to, stride)                                                                  \
    __asm__ volatile("tilestored %%tmm" #t ", (%0,%1,1)" ::"r"(to), "r"((size_t)(stride))          \
                     : "memory")
#define TILE_MULTIPLY(c, a, b) __asm__ volatile("tdpbf16ps %%tmm" #b ", %%tmm" #a ", %%tmm" #c ::)
#define TILE_MULTIPLY_BYTES(c, a, b)                                                               \
    __asm__ volatile("tdpbssd %%tmm" #b ", %%tmm" #a ", %%tmm" #c ::)
#define TILE_CONFIGURE(config) __asm__ volatile("ldtilecfg %0" ::"m"(config) : "memory")
#define TILE_RELEASE() __asm__ volatile("tilerelease" ::)
#endif

typedef struct TileConfig {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} TileConfig;

/* Eight registers of 16 rows of 64 bytes. */
static const TileConfig all_whole = {
    .palette = 1,
    .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64},
    .rows = {16, 16, 16, 16, 16, 16, 16, 16},
};

/* What is there of a register's bytes, whose rows lie `stride` apart, to a whole one: 0 beyond. */
static inline void copy_part(void *to, const void *from, size_t stride, int rows, size_t bytes) {
    memset(to, 0, SIDE * TILE_ROW_BYTES);
    for (size_t r = 0; r < (size_t)rows; r++)
        memcpy((char *)to + r * TILE_ROW_BYTES, (const char *)from + r * stride, bytes);
}

#endif
