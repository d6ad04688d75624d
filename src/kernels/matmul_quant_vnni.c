/*
 * Quantized weights by AVX512-VNNI: four products of bytes are added to each of 16 sums in one
 * instruction, whose first factor is unsigned. So weights are raised until none is negative, by
 * 128 or, of Q4, as their nibbles lie, by 8, and what that adds is taken off each block's sum.
 *
 * Sixteen rows of weights are taken at a time: each has its products in a register, and these
 * are added up together, into one in which a row has a lane.
 */
#if defined(__x86_64__)
#include "kernels/quant_bytes.h"

/* ---- activations ---- */

/*
 * A block of x where weights are Q4, next to the other one of a pair: [halves of the blocks of
 * weights][high, low][64]. The first halves of all of them meet the low nibbles of a line.
 */
static void put_halves(const Numbers *block, bool second, int8_t (*pair)[2][Q8_BLOCK]) {
    const int half = Q4_BLOCK / 2;
    for (int i = 0; i < 4; i++) {
        int at = (second ? 2 : 0) * half + i / 2 * half;
        memcpy(pair[i % 2][0] + at, block->high + i * half, (size_t)half);
        memcpy(pair[i % 2][1] + at, block->low + i * half, (size_t)half);
    }
}

static int sum_of(const Numbers *block, int first, int count) {
    int sum = 0;
    for (int k = first; k < first + count; k++)
        sum += 256 * block->high[k] + block->low[k];
    return sum;
}

/* Row r of the job; of Q4 blocks there is an even number, the last of them maybe of zeros. */
TARGET static void quantize_row(const Matmul *job, int r, const QuantRows *rows) {
    size_t first = (size_t)r * (size_t)rows->blocks;
    for (int b = 0; b < rows->blocks; b++) {
        size_t block = first + (size_t)b;
        char *to = (char *)rows->x + block * QUANT_BLOCK_BYTES;
        int32_t *raised = rows->raised + 2 * block;
        Numbers numbers;
        rows->scales[block] = quantize_numbers(job_x(job, r) + b * Q8_BLOCK,
                                               max_int(job->w.columns - b * Q8_BLOCK, 0), &numbers);
        if (job->w.type == WEIGHT_Q8) {
            raised[0] = 128 * sum_of(&numbers, 0, Q8_BLOCK);
            memcpy(to, &numbers, sizeof numbers);
        } else {
            raised[0] = 8 * sum_of(&numbers, 0, Q4_BLOCK);
            raised[1] = 8 * sum_of(&numbers, Q4_BLOCK, Q4_BLOCK);
            put_halves(&numbers, b % 2, (void *)(to - b % 2 * QUANT_BLOCK_BYTES));
        }
    }
}

void quantize_rows_vnni(const Matmul *job, const QuantRows *rows) {
    for (int r = 0; r < job->rows; r++)
        quantize_row(job, r, rows);
}

/* ---- products ---- */

/* Pairs of vectors that stand for two rows each, added up within quarters: a a' b b' */
INLINE void add_up_quarters(const __m512i *dots, __m512i *fours) {
    __m512i pairs[8];
    UNROLL for (int i = 0; i < 8; i++) { /* in each quarter a b a b */
        pairs[i] = _mm512_add_epi32(_mm512_unpacklo_epi32(dots[2 * i], dots[2 * i + 1]),
                                    _mm512_unpackhi_epi32(dots[2 * i], dots[2 * i + 1]));
    }
    UNROLL for (int i = 0; i < 4; i++) { /* a b c d */
        fours[i] = _mm512_add_epi32(_mm512_unpacklo_epi64(pairs[2 * i], pairs[2 * i + 1]),
                                    _mm512_unpackhi_epi64(pairs[2 * i], pairs[2 * i + 1]));
    }
}

/* fours[4], whose quarters each hold sums of four rows, to one sum for each of 16 rows. */
INLINE __m512i add_up(const __m512i *fours) {
    __m512i halves[2];
    UNROLL for (int i = 0; i < 2; i++) {
        halves[i] = _mm512_add_epi32(_mm512_shuffle_i32x4(fours[2 * i], fours[2 * i + 1], 0x44),
                                     _mm512_shuffle_i32x4(fours[2 * i], fours[2 * i + 1], 0xEE));
    }
    return _mm512_add_epi32(_mm512_shuffle_i32x4(halves[0], halves[1], 0x88),
                            _mm512_shuffle_i32x4(halves[0], halves[1], 0xDD));
}

/* Bytes of a line, or what is there of it. */
INLINE __m512i load_line(const uint8_t *q, __mmask64 there) {
    return there == ~(__mmask64)0 ? _mm512_loadu_si512(q) : _mm512_maskz_loadu_epi8(there, q);
}

INLINE __mmask64 bytes_there(size_t bytes) {
    return bytes >= 64 ? ~(__mmask64)0 : ((__mmask64)1 << bytes) - 1;
}

/* Sixteen rows of weights, and their scales where those that meet a vector of sums stand together.
 */
typedef struct WeightRows {
    Lines lines;
    __m512 scales[2 * QUANT_COLUMNS / Q8_BLOCK + COLUMNS]; /* Q8: [blocks]; Q4: [lines][4] */
} WeightRows;

/* A block of each of 16 rows, at q[16] + at, times one of x, whose raise is given. */
INLINE __m512i multiply_q8(const uint8_t *const *q, size_t at, __mmask64 there, ptrdiff_t ahead,
                           const Numbers *x, int raised) {
    const __m512i raise = _mm512_set1_epi8((char)0x80);
    __m512i high = _mm512_load_si512(x->high), low = _mm512_load_si512(x->low);
    __m512i dots[COLUMNS], fours[4];
    UNROLL for (int i = 0; i < COLUMNS; i++) {
        __builtin_prefetch(q[i] + (ptrdiff_t)at + ahead);
        __m512i w = _mm512_xor_si512(load_line(q[i] + at, there), raise);
        __m512i dot = _mm512_dpbusd_epi32(_mm512_setzero_si512(), w, high);
        dots[i] = _mm512_dpbusd_epi32(_mm512_slli_epi32(dot, 8), w, low);
    }
    add_up_quarters(dots, fours);
    return _mm512_sub_epi32(add_up(fours), _mm512_set1_epi32(raised));
}

/* Four blocks of Q4 of each of 16 rows: a block's sums are a quarter of each of fours[4]. */
INLINE void multiply_q4(const Lines *lines, size_t at, __mmask64 there,
                        const int8_t (*x)[2][Q8_BLOCK], const int32_t *raised, __m512i *fours) {
    const __m512i nibble = _mm512_set1_epi8(15);
    const __m512i quarters = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    __m512i high[2], low[2], dots[COLUMNS];
    UNROLL for (int half = 0; half < 2; half++) {
        high[half] = _mm512_load_si512(x[half][0]);
        low[half] = _mm512_load_si512(x[half][1]);
    }
    UNROLL for (int i = 0; i < COLUMNS; i++) {
        __builtin_prefetch(lines->w[i] + (ptrdiff_t)at + lines->ahead);
        __m512i line = load_line(lines->w[i] + at, there), w[2];
        w[0] = _mm512_and_si512(line, nibble);
        w[1] = _mm512_and_si512(_mm512_srli_epi16(line, 4), nibble);
        __m512i dot = _mm512_dpbusd_epi32(_mm512_setzero_si512(), w[0], high[0]);
        dot = _mm512_slli_epi32(_mm512_dpbusd_epi32(dot, w[1], high[1]), 8);
        dots[i] = _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(dot, w[0], low[0]), w[1], low[1]);
    }
    add_up_quarters(dots, fours);
    __m512i four = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)raised));
    __m512i off = _mm512_permutexvar_epi32(quarters, four);
    UNROLL for (int i = 0; i < 4; i++) {
        fours[i] = _mm512_sub_epi32(fours[i], off);
    }
}

/* ---- a tile ---- */

/*
 * Of Q4, sixteen scales from `block` on of each row, of which `count` are there, as sums of blocks
 * stand: to[line][i], where lane 4 j + r is block 4 line + j of row 4 i + r.
 */
INLINE void place_scales(const uint16_t *const *from, int block, int count, __m512 *to) {
    const __m512i lines[] = {_mm512_setr_epi64(0, 4, 8, 12, 1, 5, 9, 13),
                             _mm512_setr_epi64(2, 6, 10, 14, 3, 7, 11, 15)};
    /* 4 r + j to the upper half of a lane, which makes it an f32 */
    const __m512i place = _mm512_slli_epi32(
        _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), 16);
    const __m512i second = _mm512_add_epi32(place, _mm512_set1_epi32(16 << 16));
    __mmask16 there = (__mmask16)(count < 16 ? (1u << count) - 1 : 0xFFFF);
    UNROLL for (int i = 0; i < 4; i++) {
        __m256i rows[4];
        UNROLL for (int r = 0; r < 4; r++) {
            rows[r] = _mm256_maskz_loadu_epi16(there, from[4 * i + r] + block);
        }
        __m512i low = _mm512_inserti64x4(_mm512_castsi256_si512(rows[0]), rows[1], 1);
        __m512i high = _mm512_inserti64x4(_mm512_castsi256_si512(rows[2]), rows[3], 1);
        UNROLL for (int line = 0; line < 4; line++) { /* of each two in a vector [line][r][j] */
            __m512i two = _mm512_permutex2var_epi64(low, lines[line / 2], high);
            to[4 * line + i] =
                (__m512)_mm512_maskz_permutexvar_epi16(0xAAAAAAAA, line % 2 ? second : place, two);
        }
    }
}

TARGET static void take_rows(const Tile *tile, const Order *order, int n, WeightRows *w) {
    int blocks = row_scales(tile->w);
    find_rows(tile, order, n, &w->lines);
    if (tile->w->type == WEIGHT_Q8)
        transpose_scales(w->lines.scales, blocks, w->scales);
    else
        for (int b = 0; b < blocks; b += COLUMNS)
            place_scales(w->lines.scales, b, blocks - b, w->scales + b);
}

TARGET static __m512 row_by_q8(const QuantRows *x, int row, int columns, const WeightRows *w) {
    __m512 sums = _mm512_setzero_ps();
    size_t first = (size_t)row * (size_t)x->blocks;
    const Numbers *numbers = (const Numbers *)x->x + first;
    for (int b = 0; b < ceil_div(columns, Q8_BLOCK); b++) {
        size_t at = (size_t)b * Q8_BLOCK, block = first + (size_t)b;
        __m512 scale = _mm512_mul_ps(w->scales[b], _mm512_set1_ps(x->scales[block]));
        __mmask64 there = bytes_there((size_t)columns - at);
        __m512i dots =
            multiply_q8(w->lines.w, at, there, w->lines.ahead, &numbers[b], x->raised[2 * block]);
        sums = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots), scale, sums);
    }
    return sums;
}

/* Every fourth block is added to the same sums, and these are added up in the end. */
TARGET static __m512 row_by_q4(const QuantRows *x, int row, int columns, const WeightRows *w) {
    __m512 sums[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(),
                      _mm512_setzero_ps()};
    size_t bytes = q4_row_bytes(columns), first = (size_t)row * (size_t)x->blocks;
    const int8_t(*pairs)[2][2][Q8_BLOCK] = (const void *)((const Numbers *)x->x + first);
    for (size_t line = 0; line * Q8_BLOCK < bytes; line++) {
        size_t at = line * Q8_BLOCK, block = first + 2 * line;
        __m512i fours[4];
        multiply_q4(&w->lines, at, bytes_there(bytes - at), pairs[line], x->raised + 2 * block,
                    fours);
        __m512 x_scale = _mm512_insertf32x8(_mm512_set1_ps(x->scales[block]),
                                            _mm256_set1_ps(x->scales[block + 1]), 1);
        UNROLL for (int i = 0; i < 4; i++) {
            __m512 scale = _mm512_mul_ps(w->scales[4 * line + (size_t)i], x_scale);
            sums[i] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(fours[i]), scale, sums[i]);
        }
    }
    __m512 halves[2];
    UNROLL for (int i = 0; i < 2; i++) {
        halves[i] = _mm512_add_ps(_mm512_shuffle_f32x4(sums[2 * i], sums[2 * i + 1], 0x44),
                                  _mm512_shuffle_f32x4(sums[2 * i], sums[2 * i + 1], 0xEE));
    }
    return _mm512_add_ps(_mm512_shuffle_f32x4(halves[0], halves[1], 0x88),
                         _mm512_shuffle_f32x4(halves[0], halves[1], 0xDD));
}

TARGET void multiply_quant_vnni(const Tile *tile, float *c, void *scratch) {
    WeightRows *w = scratch;
    _Static_assert(sizeof *w <= KERNEL_SCRATCH_BYTES, "more scratch is needed");
    int columns = tile->w->columns;
    Order order = order_of(tile);
    for (int n = 0; n < order.steps; n++) {
        take_rows(tile, &order, n, w);
        for (int r = 0; r < tile->rows; r++) {
            float *to = c + r * TILE_COLUMNS + n * order.step, sums[COLUMNS];
            bool q8 = tile->w->type == WEIGHT_Q8;
            _mm512_storeu_ps(order.apart == 1 ? to : sums,
                             q8 ? row_by_q8(tile->quantized, r, columns, w)
                                : row_by_q4(tile->quantized, r, columns, w));
            for (int i = 0; order.apart > 1 && i < COLUMNS; i++)
                to[i * order.apart] = sums[i];
        }
    }
}

/* ---- keys ---- */

#define KEYS_AHEAD 2048 /* bytes, to be fetched early */

/* Of block b of keys n.., the last one again beyond it. */
INLINE __m512 key_scales(const Matrix *keys, int n, int b) {
    float scales[COLUMNS];
    int blocks = q8_blocks(keys->columns);
    if (blocks == 1 && n + COLUMNS <= keys->rows) {
        __m256i bits = _mm256_loadu_si256((const __m256i *)(keys->scales + n));
        return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
    }
    for (int i = 0; i < COLUMNS; i++)
        scales[i] = bf16_to_f32(keys->scales[min_int(n + i, keys->rows - 1) * blocks + b]);
    return _mm512_loadu_ps(scales);
}

TARGET void attend_keys_vnni(const QuantRows *query, const Matrix *keys, float *scores) {
    const Numbers *numbers = query->x;
    size_t row = (size_t)keys->columns;
    for (int n = 0; n < keys->rows; n += COLUMNS) {
        const uint8_t *q[COLUMNS];
        for (int i = 0; i < COLUMNS; i++)
            q[i] = (const uint8_t *)keys->data + (size_t)min_int(n + i, keys->rows - 1) * row;
        __m512 sums = _mm512_setzero_ps();
        for (int b = 0; b < q8_blocks(keys->columns); b++) {
            size_t at = (size_t)b * Q8_BLOCK;
            __m512 scale = _mm512_mul_ps(key_scales(keys, n, b), _mm512_set1_ps(query->scales[b]));
            __m512i dots = multiply_q8(q, at, bytes_there(row - at), KEYS_AHEAD, &numbers[b],
                                       query->raised[2 * b]);
            sums = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots), scale, sums);
        }
        int count = min_int(COLUMNS, keys->rows - n);
        _mm512_mask_storeu_ps(scores + n, (__mmask16)((1u << count) - 1), sums);
    }
}
#endif
