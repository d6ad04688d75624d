/*
 * quant_bytes.h - few rows of activations, for the kernels that multiply bytes: VNNI and AMX.
 *
 * An activation is an integer of 16 bits, 256 * high + low, of which the kernels multiply both
 * bytes, one after the other. A block's products are added as integers, exactly, and the product
 * of both scales turns their sum into f32; blocks are added in order. So the bits are those of AVX2
 * (integers_simd.h), and do not depend on which of the kernels made them. Private to
 * matmul_quant_vnni.c and matmul_quant_amx.c.
 */
#ifndef OCR_QUANT_BYTES_H
#define OCR_QUANT_BYTES_H

#include "kernels/convert.h"
#include "kernels/quant_rows.h"

#include <immintrin.h>
#include <math.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")))
#define INLINE static inline __attribute__((always_inline)) TARGET
#define COLUMNS 16 /* weight rows at a time, each of a stretch of its own */

#include "kernels/matmul_avx512.h"

/* A block of activations. */
typedef struct Numbers {
    int8_t high[Q8_BLOCK], low[Q8_BLOCK];
} Numbers;

/* x[count], 0 beyond up to a block, to numbers; returns the scale, NaN if there is no number. */
INLINE float quantize_numbers(const float *x, int count, Numbers *to) {
    __m512 parts[4];
    __m512i most = _mm512_setzero_si512();
    UNROLL for (int i = 0; i < 4; i++) {
        int there = min_int(max_int(count - 16 * i, 0), 16);
        parts[i] = _mm512_maskz_loadu_ps((__mmask16)((1u << there) - 1), x + 16 * i);
        /* magnitudes compare as integers; NaN is above all */
        most = _mm512_max_epi32(most,
                                _mm512_and_si512((__m512i)parts[i], _mm512_set1_epi32(0x7FFFFFFF)));
    }
    int bits = _mm512_reduce_max_epi32(most);
    float largest;
    memcpy(&largest, &bits, sizeof largest);
    __m512 inverse = _mm512_set1_ps(largest > 0x1p-100f ? QUANT_MOST / largest : 0);
    UNROLL for (int i = 0; i < 4; i++) {
        __m512i number = _mm512_cvtps_epi32(_mm512_mul_ps(parts[i], inverse));
        __m512i high = _mm512_srai_epi32(_mm512_add_epi32(number, _mm512_set1_epi32(128)), 8);
        _mm_storeu_si128((__m128i *)to->high + i, _mm512_cvtepi32_epi8(high));
        _mm_storeu_si128((__m128i *)to->low + i, _mm512_cvtepi32_epi8(number));
    }
    return isfinite(largest) ? largest / QUANT_MOST : NAN;
}

/* Four scales from `block` on of each row, to to[block][row]. */
INLINE void transpose_four_scales(const uint16_t *const *from, int block, __m512 *to) {
    __m512i eights[2]; /* rows, with their scales one after the other */
    UNROLL for (int half = 0; half < 2; half++) {
        __m128i pairs[4];
        UNROLL for (int i = 0; i < 4; i++) {
            const uint16_t *const *rows = from + half * 8 + 2 * i;
            pairs[i] = _mm_unpacklo_epi64(_mm_loadl_epi64((const __m128i *)(rows[0] + block)),
                                          _mm_loadl_epi64((const __m128i *)(rows[1] + block)));
        }
        __m256i low = _mm256_set_m128i(pairs[1], pairs[0]);
        __m256i high = _mm256_set_m128i(pairs[3], pairs[2]);
        eights[half] = _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
    }
    const __m512i each_row =
        _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 48, 52, 56, 60);
    UNROLL for (int b = 0; b < 4; b++) { /* each scale to both halves of a lane */
        __m512i place = _mm512_add_epi32(each_row, _mm512_set1_epi32(b));
        __m512i both = _mm512_permutex2var_epi16(
            eights[0], _mm512_or_si512(place, _mm512_slli_epi32(place, 16)), eights[1]);
        to[b] = (__m512)_mm512_and_si512(both, _mm512_set1_epi32((int)0xFFFF0000));
    }
}

/*
 * All scales of each row, to to[block][row]. Four at a time, the last ones maybe twice, so that
 * none is read that is not the row's; rows of less than four one by one.
 */
INLINE void transpose_scales(const uint16_t *const *from, int blocks, __m512 *to) {
    if (blocks < 4) {
        for (int b = 0; b < blocks; b++)
            for (int i = 0; i < COLUMNS; i++)
                ((float *)&to[b])[i] = bf16_to_f32(from[i][b]);
        return;
    }
    for (int b = 0; b < blocks; b += 4) {
        int first = min_int(b, blocks - 4);
        transpose_four_scales(from, first, to + first);
    }
}

#define BYTES_AHEAD 1024  /* of each stream, at least, to be fetched early */
#define SHORT_STREAM 8192 /* bytes: less are not worth being one */

/*
 * The order in which a tile's weights are taken, COLUMNS rows at a time: if there are many, from as
 * many stretches, so that memory is read in streams, else one after the other. Row i of step n is
 * n * step + i * apart.
 */
typedef struct Order {
    int steps, step, apart;
    int ahead; /* steps by which weights are fetched early */
} Order;

static inline Order order_of(const Tile *tile) {
    int steps = ceil_div(tile->columns, COLUMNS), row = (int)row_bytes(tile->w);
    if (steps * row < SHORT_STREAM)
        return (Order){steps, COLUMNS, 1, 1};
    return (Order){steps, 1, steps, ceil_div(BYTES_AHEAD, row)};
}

/*
 * From rows of step n to what is fetched meanwhile: the same rows `ahead` steps later, in the end
 * those of the tile that is next, which most often has the same order. row: bytes of one; first,
 * next: both tiles' first ones.
 */
static inline ptrdiff_t bytes_ahead(const Order *order, int n, int ahead, size_t row,
                                    const void *first, const void *next) {
    ptrdiff_t step = (ptrdiff_t)row * order->step;
    if (n + ahead < order->steps || !next)
        return ahead * step;
    return (const char *)next - (const char *)first + (ahead - order->steps) * step;
}

/* Sixteen rows of weights. */
typedef struct Lines {
    const uint8_t *w[COLUMNS];
    const uint16_t *scales[COLUMNS];
    ptrdiff_t ahead; /* bytes, from each row to what is to be fetched meanwhile */
} Lines;

/* The rows of step n; beyond the last row, that again. The next ones' scales are fetched. */
static inline void find_rows(const Tile *tile, const Order *order, int n, Lines *to) {
    const Tile *next = tile->next;
    size_t scales = (size_t)row_scales(tile->w) * sizeof(uint16_t);
    ptrdiff_t scales_ahead =
        bytes_ahead(order, n, 1, scales, tile_scales(tile, 0), next ? tile_scales(next, 0) : NULL);
    to->ahead = bytes_ahead(order, n, order->ahead, row_bytes(tile->w), tile_w(tile, 0),
                            next ? tile_w(next, 0) : NULL);
    for (int i = 0; i < COLUMNS; i++) {
        int column = n * order->step + i * order->apart;
        to->w[i] = (const uint8_t *)tile_w(tile, column);
        to->scales[i] = tile_scales(tile, column);
        const char *later = (const char *)to->scales[i] + scales_ahead;
        __builtin_prefetch(later);
        __builtin_prefetch(later + scales - 1);
    }
}

#endif
