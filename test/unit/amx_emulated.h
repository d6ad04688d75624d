/*
 * amx_emulated.h - the matrix instructions of AMX in C, and what the tests with them share. A test
 * includes this and then the file of the engine that uses them. The intrinsics come from here, as
 * one of them is replaced, too.
 */
#ifndef AMX_EMULATED_H
#define AMX_EMULATED_H
#include "support.h"

#include "base/bf16.h"
#include "kernels/matmul_kernel.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif
#include <string.h>

static unsigned char registers[8][16][64];
static int configured; /* 1 between TILE_CONFIGURE and TILE_RELEASE */

static inline void load(int t, const void *from, size_t stride) {
    assert_int_equal(configured, 1);
    for (size_t r = 0; r < 16; r++)
        memcpy(registers[t][r], (const char *)from + r * stride, 64);
}

static inline void store(int t, void *to, size_t stride) {
    assert_int_equal(configured, 1);
    for (size_t r = 0; r < 16; r++)
        memcpy((char *)to + r * stride, registers[t][r], 64);
}

static inline void multiply_pairs(int c, int a, int b) {
    float sums[16][16];
    uint16_t left[16][32], right[16][16][2];
    memcpy(sums, registers[c], sizeof sums);
    memcpy(left, registers[a], sizeof left);
    memcpy(right, registers[b], sizeof right);
    for (int m = 0; m < 16; m++)
        for (int k = 0; k < 32; k++)
            for (int n = 0; n < 16; n++)
                sums[m][n] += bf16_to_f32(left[m][k]) * bf16_to_f32(right[k / 2][n][k % 2]);
    memcpy(registers[c], sums, sizeof sums);
}

static inline void multiply_bytes(int c, int a, int b) {
    int32_t sums[16][16];
    int8_t left[16][64], right[16][16][4];
    memcpy(sums, registers[c], sizeof sums);
    memcpy(left, registers[a], sizeof left);
    memcpy(right, registers[b], sizeof right);
    for (int m = 0; m < 16; m++)
        for (int k = 0; k < 64; k++)
            for (int n = 0; n < 16; n++)
                sums[m][n] += left[m][k] * right[k / 4][n][k % 4];
    memcpy(registers[c], sums, sizeof sums);
}

#if defined(__x86_64__)
/* Of AVX512_BF16, which AMX does not come without: so that the tests ask for AVX512 alone. */
__attribute__((target("avx512f"))) static inline __m512bh round_pairs(__m512 high, __m512 low) {
    float x[32];
    uint16_t rounded[32];
    __m512bh out;
    _mm512_storeu_ps(x, low);
    _mm512_storeu_ps(x + 16, high);
    for (int i = 0; i < 32; i++)
        rounded[i] = x[i] == x[i] ? bf16_nearest(x[i]) : 0x7FC0;
    memcpy(&out, rounded, sizeof out);
    return out;
}
#define _mm512_cvtne2ps_pbh(high, low) round_pairs(high, low)
#endif

#define AMX_EMULATED
#define TILE_ZERO(t) memset(registers[t], 0, sizeof registers[t])
#define TILE_LOAD(t, from, stride) load(t, from, stride)
#define TILE_STORE(t, to, stride) store(t, to, stride)
#define TILE_MULTIPLY(c, a, b) multiply_pairs(c, a, b)
#define TILE_MULTIPLY_BYTES(c, a, b) multiply_bytes(c, a, b)
#define TILE_CONFIGURE(config)                                                                     \
    do {                                                                                           \
        assert_int_equal(sizeof(config), 64);                                                      \
        configured = (config).palette;                                                             \
    } while (0)
#define TILE_RELEASE() (configured = 0)

/* One that need not begin with the job's first row and column. */
static inline Tile some_tile(const Matmul *job, uint64_t *seed) {
    Tile tile = {.job = job, .w = &job->w};
    tile.row = job->rows > 1 ? random_between(seed, 0, 1) : 0;
    tile.rows = min_int(TILE_ROWS, job->rows - tile.row);
    tile.column = job->w.rows > 20 ? random_between(seed, 0, 9) : 0;
    tile.columns = min_int(TILE_COLUMNS, job->w.rows - tile.column);
    return tile;
}
#endif
