/*
 * Quantized weights by AVX2, for few rows of activations.
 *
 * Up to MOST_LYING rows lie as they are, and so do the weights: a vector holds 16 numbers
 * along k of one of them, and the sums in its lanes are added up at the end of each block.
 * More rows stand side by side in the lanes (integers_simd.h). The bits are the same.
 */
#if defined(__x86_64__)
#include "kernels/integers_avx2.h"

#include "kernels/quant_rows.h"

#define ROWS 4           /* that share the loading of weights */
#define COLUMNS 4        /* each of a stretch of its own: memory is read in as many streams */
#define MOST_LYING 12    /* rows */
#define BYTES_AHEAD 1024 /* of each stream, to be fetched early */

/* ---- activations ---- */

/* x: [rows][blocks][BLOCK], scales: [rows][blocks] */
INLINE void quantize_lying(const Matmul *job, const QuantRows *to) {
    for (int r = 0; r < job->rows; r++)
        for (int b = 0; b < q8_blocks(job->w.columns); b++) {
            size_t block = (size_t)r * (size_t)to->blocks + (size_t)b;
            to->scales[block] = quantize_part(job_x(job, r) + b * BLOCK, job->w.columns - b * BLOCK,
                                              X_MOST_QUANTIZED, (int16_t *)to->x + block * BLOCK);
        }
}

/* x: [blocks] LaneBlock, scales: [blocks][SPAN] */
INLINE void quantize_lanes(const Matmul *job, const QuantRows *to) {
    for (int lane = 0; lane < job->rows; lane += LANES) {
        int rows = min_int(LANES, job->rows - lane);
        for (int b = 0; b < q8_blocks(job->w.columns); b++) {
            const float *x[LANES];
            for (int i = 0; i < rows; i++)
                x[i] = job_x(job, lane + i) + b * BLOCK;
            pack_lanes(x, rows, job->w.columns - b * BLOCK, X_MOST_QUANTIZED,
                       (LaneBlock *)to->x + b, to->scales + b * SPAN, lane);
        }
    }
}

TARGET void quantize_rows_avx2(const Matmul *job, const QuantRows *rows) {
    if (job->rows <= MOST_LYING)
        quantize_lying(job, rows);
    else
        quantize_lanes(job, rows);
}

/* ---- rows as they lie ---- */

/* COLUMNS rows of weights. */
typedef struct WeightRows {
    const uint8_t *q[COLUMNS];
    int columns;
    float (*scales)[COLUMNS]; /* [blocks] */
} WeightRows;

typedef float Scales[2 * QUANT_COLUMNS / BLOCK + 1][COLUMNS];

/* Four blocks' scales of each of the rows, to where those of a block stand side by side. */
INLINE void transpose_scales(const uint16_t *const *from, int block, float (*to)[COLUMNS]) {
    const __m128i zero = _mm_setzero_si128();
    __m128i rows[COLUMNS];
    UNROLL for (int i = 0; i < COLUMNS; i++) {
        rows[i] = _mm_loadl_epi64((const __m128i *)(from[i] + block));
    }
    __m128i a = _mm_unpacklo_epi16(rows[0], rows[1]), b = _mm_unpacklo_epi16(rows[2], rows[3]);
    __m128i pairs[2] = {_mm_unpacklo_epi32(a, b), _mm_unpackhi_epi32(a, b)};
    UNROLL for (int i = 0; i < 2; i++) { /* bf16 is the upper half of f32 */
        _mm_store_si128((__m128i *)to[2 * i], _mm_unpacklo_epi16(zero, pairs[i]));
        _mm_store_si128((__m128i *)to[2 * i + 1], _mm_unpackhi_epi16(zero, pairs[i]));
    }
}

/* Rows n, n + stretch and so on, and their scales to where they stand side by side. */
INLINE WeightRows weight_rows(const Tile *tile, int n, int stretch, WeightType type,
                              Scales scales) {
    WeightRows w = {.columns = tile->w->columns, .scales = scales};
    int blocks = type == WEIGHT_Q8 ? q8_blocks(w.columns) : q4_blocks(w.columns), b = 0;
    const uint16_t *from[COLUMNS];
    for (int i = 0; i < COLUMNS; i++) {
        from[i] = tile_scales(tile, n + i * stretch);
        w.q[i] = (const uint8_t *)tile_w(tile, n + i * stretch);
        __builtin_prefetch(from[i] + blocks);
    }
    for (; b + 4 <= blocks; b += 4)
        transpose_scales(from, b, scales + b);
    for (; b < blocks; b++)
        for (int i = 0; i < COLUMNS; i++)
            scales[b][i] = bf16_to_f32(from[i][b]);
    for (int i = 0; i < COLUMNS; i++)
        scales[blocks][i] = 0; /* of Q4, if the last block of x has one */
    return w;
}

/* A last block that is not whole, with zeros behind it. */
INLINE WeightRows copy_last(const WeightRows *w, WeightType type, uint8_t (*copy)[BLOCK]) {
    int block = w->columns / BLOCK, rest = w->columns % BLOCK;
    WeightRows last = {.columns = rest,
                       .scales = w->scales + (type == WEIGHT_Q8 ? block : 2 * block)};
    for (int n = 0; n < COLUMNS; n++)
        last.q[n] = fill_up(w->q[n] + weight_bytes(type, block * BLOCK), stored_bytes(type, rest),
                            copy[n], sizeof copy[n]);
    return last;
}

/* Of COLUMNS vectors each half added up. */
INLINE __m256i add_up_halves(const __m256i *dots) {
    __m256i a = _mm256_add_epi32(_mm256_unpacklo_epi32(dots[0], dots[1]),
                                 _mm256_unpackhi_epi32(dots[0], dots[1]));
    __m256i b = _mm256_add_epi32(_mm256_unpacklo_epi32(dots[2], dots[3]),
                                 _mm256_unpackhi_epi32(dots[2], dots[3]));
    return _mm256_add_epi32(_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));
}

/* The vectors of two rows, each added up: the first row's are the lower half. */
INLINE __m256i add_up(const __m256i *first, const __m256i *second) {
    __m256i a = add_up_halves(first), b = add_up_halves(second);
    return _mm256_add_epi32(_mm256_permute2x128_si256(a, b, 0x20),
                            _mm256_permute2x128_si256(a, b, 0x31));
}

typedef __m256i Dots[2][ROWS][COLUMNS]; /* of each part of a block that has a scale */

/* Block b of row n of w by block x_block of rows of x. */
INLINE void multiply_column(const QuantRows *x, int x_block, int rows, const WeightRows *w, int b,
                            WeightType type, Dots dots, int n) {
    const uint8_t *q = w->q[n] + weight_bytes(type, b * BLOCK);
    __m256i weights[4];
    __builtin_prefetch(q + BYTES_AHEAD);
    if (type == WEIGHT_Q8)
        take_bytes(q, weights);
    else
        take_nibbles(q, weights);
    UNROLL for (int r = 0; r < rows; r++) {
        const __m256i *from =
            (const __m256i *)((const int16_t *)x->x +
                              ((size_t)(r * x->blocks) + (size_t)x_block) * BLOCK);
        __m256i products[4];
        UNROLL for (int i = 0; i < 4; i++) {
            products[i] = _mm256_madd_epi16(weights[i], _mm256_load_si256(from + i));
        }
        dots[0][r][n] = _mm256_add_epi32(products[0], products[1]);
        dots[1][r][n] = _mm256_add_epi32(products[2], products[3]);
        if (type == WEIGHT_Q8)
            dots[0][r][n] = _mm256_add_epi32(dots[0][r][n], dots[1][r][n]);
    }
}

/* Block b of w, which is block x_block of rows of x, added to sums: two rows a vector. */
INLINE void multiply_lying(const QuantRows *x, int x_block, int rows, const WeightRows *w, int b,
                           WeightType type, __m256 *sums) {
    const int parts = type == WEIGHT_Q8 ? 1 : 2;
    Dots dots;
    if (rows == 1)
        UNROLL for (int n = 0; n < COLUMNS; n++) {
            multiply_column(x, x_block, rows, w, b, type, dots, n);
        }
    else /* in a loop, lest the compiler keep x in registers that it does not have */
        _Pragma("GCC unroll 1") for (int n = 0; n < COLUMNS; n++)
            multiply_column(x, x_block, rows, w, b, type, dots, n);
    if (rows == 1 && parts == 2) { /* one after the other, as they are in the other forms */
        const float *scales = w->scales[2 * b];
        __m128 x_scale = _mm_broadcast_ss(x->scales + x_block);
        __m256 both = _mm256_cvtepi32_ps(add_up(dots[0][0], dots[1][0]));
        __m128 sum = _mm256_castps256_ps128(*sums);
        sum = _mm_fmadd_ps(_mm256_castps256_ps128(both), _mm_mul_ps(_mm_load_ps(scales), x_scale),
                           sum);
        sum = _mm_fmadd_ps(_mm256_extractf128_ps(both, 1),
                           _mm_mul_ps(_mm_load_ps(scales + COLUMNS), x_scale), sum);
        *sums = _mm256_castps128_ps256(sum);
        return;
    }
    UNROLL for (int part = 0; part < parts; part++) {
        __m256 scale = _mm256_broadcast_ps((const __m128 *)w->scales[b * parts + part]);
        UNROLL for (int pair = 0; pair < (rows + 1) / 2; pair++) {
            int r = 2 * pair, other = r + 1 < rows ? r + 1 : r;
            __m128 low = _mm_broadcast_ss(x->scales + r * x->blocks + x_block);
            __m128 high = _mm_broadcast_ss(x->scales + other * x->blocks + x_block);
            __m256 sum = _mm256_cvtepi32_ps(add_up(dots[part][r], dots[part][other]));
            __m256 both = _mm256_mul_ps(scale, _mm256_set_m128(high, low));
            sums[pair] = _mm256_fmadd_ps(sum, both, sums[pair]);
        }
    }
}

/*
 * = x w^T; rows and type are constants. c: rows TILE_COLUMNS apart, and in each the COLUMNS
 * results `stretch` apart.
 */
INLINE void multiply_rows(const QuantRows *x, int rows, const WeightRows *w, WeightType type,
                          float *c, int stretch) {
    int whole = w->columns / BLOCK;
    __m256 sums[ROWS / 2];
    UNROLL for (int pair = 0; pair < ROWS / 2; pair++) {
        sums[pair] = _mm256_setzero_ps();
    }
    for (int b = 0; b < whole; b++)
        multiply_lying(x, b, rows, w, b, type, sums);
    if (w->columns % BLOCK > 0) {
        uint8_t copy[COLUMNS][BLOCK];
        WeightRows last = copy_last(w, type, copy);
        multiply_lying(x, whole, rows, &last, 0, type, sums);
    }
    UNROLL for (int r = 0; r < rows; r++) {
        __m128 half =
            r % 2 ? _mm256_extractf128_ps(sums[r / 2], 1) : _mm256_castps256_ps128(sums[r / 2]);
        UNROLL for (int n = 0; n < COLUMNS; n++) {
            c[r * TILE_COLUMNS + n * stretch] = half[n];
        }
    }
}

INLINE void multiply_of(const Tile *tile, WeightType type, float *c) {
    const QuantRows *x = tile->quantized;
    Scales scales __attribute__((aligned(16)));
    int stretch = ceil_div(tile->columns, COLUMNS);
    for (int n = 0; n < stretch; n++) {
        WeightRows w = weight_rows(tile, n, stretch, type, scales);
        for (int r = 0; r < tile->rows; r += ROWS) {
            size_t first = (size_t)(r * x->blocks);
            QuantRows group = {.x = (int16_t *)x->x + first * BLOCK,
                               .scales = x->scales + first,
                               .blocks = x->blocks};
            float *to = c + r * TILE_COLUMNS + n;
            if (tile->rows - r == 1)
                multiply_rows(&group, 1, &w, type, to, stretch);
            else if (tile->rows - r == 2)
                multiply_rows(&group, 2, &w, type, to, stretch);
            else if (tile->rows - r == 3)
                multiply_rows(&group, 3, &w, type, to, stretch);
            else
                multiply_rows(&group, ROWS, &w, type, to, stretch);
        }
    }
}

/* ---- rows side by side ---- */

typedef struct Scratch {
    float sums[TILE_COLUMNS][SPAN];
    PackedWeights w;
} Scratch;

_Static_assert(MATMUL_FEW_ROWS == SPAN, "few rows are one span");

INLINE void multiply_lanes(const Tile *tile, float *c, Scratch *scratch) {
    const QuantRows *x = tile->quantized;
    for (int k = 0; k < tile->w->columns; k += DEPTH) {
        Spans span = {(LaneBlock *)x->x + k / BLOCK, (float(*)[SPAN])x->scales + k / BLOCK, 0,
                      &scratch->sums};
        multiply_spans(tile, &span, k, &scratch->w);
    }
    put_span(scratch->sums, tile->rows, tile->columns, c);
}

TARGET void multiply_quant_avx2(const Tile *tile, float *c, void *scratch) {
    if (tile->job->rows > MOST_LYING)
        multiply_lanes(tile, c, scratch);
    else if (tile->w->type == WEIGHT_Q8)
        multiply_of(tile, WEIGHT_Q8, c);
    else
        multiply_of(tile, WEIGHT_Q4, c);
}
#endif
