/*
 * Attention over the cache against the definition in double precision, for tokens of
 * several slots and for stretches of one, at every CPU level, in each type that is kept.
 */
#include "support.h"

#include "base/bf16.h"
#include "decoder/cache.h"
#include "kernels/convert.h"
#include "kernels/cpu.h"
#include "kernels/quant.h"
#include "kernels/rows.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SLOTS 3
#define LAYERS 2
#define HEADS 2
#define DIM 84 /* no multiple of a vector; two blocks of Q8 */
#define WIDTH (HEADS * DIM)
#define POSITIONS 700
#define LAYER 1

static uint64_t seed = 4;

typedef struct Bench {
    Cache cache;
    Compute compute;
    void *block, *scratch;
    float *k, *v; /* [slot][position][WIDTH] what is kept */
} Bench;

static float *row_of(float *rows, DecoderRow at) {
    return rows + (size_t)(at.slot * POSITIONS + at.position) * WIDTH;
}

static const WeightType types[] = {WEIGHT_F32, WEIGHT_BF16, WEIGHT_Q8};
#define TYPES (int)(sizeof types / sizeof *types)

/* x [WIDTH] becomes what is kept of it. */
static void round_row(float *x, WeightType type) {
    int8_t q[DIM];
    uint16_t scales[DIM / Q8_BLOCK + 1];
    for (int i = 0; type == WEIGHT_BF16 && i < WIDTH; i++)
        x[i] = bf16_to_f32(bf16_nearest(x[i]));
    for (float *head = x; type == WEIGHT_Q8 && head < x + WIDTH; head += DIM) {
        round_to_q8(head, DIM, q, scales);
        dequantize_q8(q, scales, 0, DIM, head);
    }
}

/* A cache that is full in the layer that is looked at. Scores are in about -9 .. 9. */
static Bench make_bench(WeightType type, int threads) {
    Bench b = {.compute = {.precision = PRECISION_EXACT}};
    OcrError err;
    CacheShape shape = {SLOTS, LAYERS, HEADS, DIM, POSITIONS, type};
    Arena arena = ARENA_MEASURE;
    cache_layout(&b.cache, &shape, &arena);
    b.block = aligned_alloc(ARENA_ALIGNMENT, arena.used);
    memset(b.block, 0xFF, arena.used); /* NaN, where nothing was put */
    arena = (Arena){b.block, 0};
    cache_layout(&b.cache, &shape, &arena);
    b.compute.thread_floats = compute_whole_lines(cache_thread_floats(&shape));
    b.scratch = aligned_alloc(64, (size_t)threads * b.compute.thread_floats * sizeof(float));
    b.compute.thread_scratch = b.scratch;
    assert_ok(pool_create(threads, &b.compute.pool, &err), &err);
    b.k = malloc(SLOTS * POSITIONS * WIDTH * sizeof(float));
    b.v = malloc(SLOTS * POSITIONS * WIDTH * sizeof(float));
    uint64_t random = 11;
    for (int slot = 0; slot < SLOTS; slot++)
        for (int position = 0; position < POSITIONS; position++) {
            DecoderRow at = {slot, position};
            float *k = row_of(b.k, at), *v = row_of(b.v, at);
            for (int i = 0; i < WIDTH; i++) {
                k[i] = (float)random_between(&random, -1000, 1000) / 300;
                v[i] = (float)random_between(&random, -1000, 1000) / 1000;
            }
            cache_put(&b.cache, LAYER, at, k, v);
            round_row(k, type);
            round_row(v, type);
        }
    return b;
}

static void free_bench(Bench *b) {
    pool_destroy(b->compute.pool);
    free(b->block);
    free(b->scratch);
    free(b->k);
    free(b->v);
}

/* The result for one head of one row. */
static void expect(const Bench *b, DecoderRow row, int head, const float *q, double *out) {
    double total = 0;
    memset(out, 0, DIM * sizeof *out);
    for (int position = 0; position <= row.position; position++) {
        DecoderRow at = {row.slot, position};
        const float *k = row_of(b->k, at) + head * DIM, *v = row_of(b->v, at) + head * DIM;
        double score = 0;
        for (int i = 0; i < DIM; i++)
            score += q[i] * k[i];
        double weight = exp(score / sqrt(DIM));
        total += weight;
        for (int i = 0; i < DIM; i++)
            out[i] += weight * v[i];
    }
    for (int i = 0; i < DIM; i++)
        out[i] /= total;
}

static void fill(float *x, int count) {
    for (int i = 0; i < count * WIDTH; i++)
        x[i] = (float)random_between(&seed, -1000, 1000) / 400;
}

/* rounds: with keys of Q8, queries become integers of 16 bits */
static void compare(const Bench *b, const DecoderRow *rows, int count, const float *q,
                    const float *x, bool rounds) {
    for (int r = 0; r < count; r++)
        for (int head = 0; head < HEADS; head++) {
            double expected[DIM];
            int at = r * WIDTH + head * DIM;
            float query[DIM];
            memcpy(query, q + at, sizeof query);
            if (b->cache.shape.type == WEIGHT_Q8 && rounds)
                round_to_integers(q + at, DIM, 32639, query);
            expect(b, rows[r], head, query, expected);
            for (int i = 0; i < DIM; i++)
                if (!(fabs(x[at + i] - expected[i]) < 1e-5))
                    fail_msg("position %d: %g, not %g", rows[r].position, x[at + i], expected[i]);
        }
}

static void tokens_see_their_slots(void **state) {
    (void)state;
    static const int positions[][SLOTS] = {
        {0, 1, 2}, {254, 255, 256}, {257, 0, 511}, {512, 513, 30}, {POSITIONS - 1, 300, 600}};
    for (int t = 0; t < TYPES; t++)
        for (int level = CPU_PORTABLE; level <= (int)cpu_best_level(); level++) {
            cpu_force_level((CpuLevel)level);
            Bench b = make_bench(types[t], 2);
            for (size_t p = 0; p < sizeof positions / sizeof *positions; p++) {
                DecoderRow rows[SLOTS];
                float q[SLOTS * WIDTH], x[SLOTS * WIDTH], alone[WIDTH];
                for (int s = 0; s < SLOTS; s++)
                    rows[s] = (DecoderRow){(s + 1) % SLOTS, positions[p][s]};
                fill(q, SLOTS);
                memcpy(x, q, sizeof x);
                cache_attend_tokens(&b.cache, LAYER, rows, SLOTS, x, &b.compute);
                compare(&b, rows, SLOTS, q, x, true);
                for (int s = 0; s < SLOTS; s++) {
                    memcpy(alone, q + s * WIDTH, sizeof alone);
                    cache_attend_tokens(&b.cache, LAYER, &rows[s], 1, alone, &b.compute);
                    assert_memory_equal(alone, x + s * WIDTH, sizeof alone);
                }
            }
            free_bench(&b);
        }
    cpu_force_level(cpu_best_level());
}

static void stretches_see_what_is_before(void **state) {
    (void)state;
    static const int places[][2] = {/* first position, count */
                                    {0, 1},    {0, 33},    {0, 300},
                                    {200, 64}, {256, 256}, {POSITIONS - 40, 40}};
    for (int t = 0; t < TYPES; t++)
        for (int level = CPU_PORTABLE; level <= (int)cpu_best_level(); level++) {
            cpu_force_level((CpuLevel)level);
            Bench b = make_bench(types[t], 2);
            for (size_t p = 0; p < sizeof places / sizeof *places; p++) {
                int count = places[p][1];
                DecoderRow rows[300];
                float *q = malloc((size_t)count * WIDTH * sizeof *q);
                float *x = malloc((size_t)count * WIDTH * sizeof *x);
                for (int r = 0; r < count; r++)
                    rows[r] = (DecoderRow){2, places[p][0] + r};
                fill(q, count);
                memcpy(x, q, (size_t)count * WIDTH * sizeof *x);
                cache_attend_stretch(&b.cache, LAYER, rows, count, x, &b.compute);
                compare(&b, rows, count, q, x, false);
                free(q);
                free(x);
            }
            free_bench(&b);
        }
    cpu_force_level(cpu_best_level());
}

static void threads_do_not_show(void **state) {
    (void)state;
    static const DecoderRow rows[] = {{0, 699}, {1, 255}, {2, 256}};
    float q[SLOTS * WIDTH], first[SLOTS * WIDTH], x[SLOTS * WIDTH];
    fill(q, SLOTS);
    for (int t = 0; t < TYPES; t++)
        for (int threads = 1; threads <= 5; threads++) {
            Bench b = make_bench(types[t], threads);
            memcpy(x, q, sizeof x);
            cache_attend_tokens(&b.cache, LAYER, rows, SLOTS, x, &b.compute);
            if (threads == 1)
                memcpy(first, x, sizeof x);
            assert_memory_equal(first, x, sizeof x);
            free_bench(&b);
        }
}

/* Scores far apart, in one stretch and between stretches, neither overflow nor get lost. */
static void large_scores(void **state) {
    (void)state;
    Bench b = make_bench(WEIGHT_BF16, 1);
    static const int places[] = {3, 255, 256, 600};
    for (int p = 0; p < 4; p++) {
        DecoderRow at = {0, places[p]}, last = {0, POSITIONS - 1};
        float k[WIDTH], x[WIDTH], *v = row_of(b.v, at);
        for (int i = 0; i < WIDTH; i++) {
            k[i] = 1000;
            x[i] = 1000;
        }
        cache_put(&b.cache, LAYER, at, k, v);
        cache_attend_tokens(&b.cache, LAYER, &last, 1, x, &b.compute);
        /* All weight is on the one key. */
        for (int i = 0; i < WIDTH; i++)
            assert_true(fabsf(x[i] - v[i]) < 1e-6f);
        cache_put(&b.cache, LAYER, at, row_of(b.k, at), v);
    }
    free_bench(&b);
}

/* A damaged position shows in every row that sees it, and in no other slot. */
static void bad_values_show_in(WeightType type) {
    Bench b = make_bench(type, 2);
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < 3; i++)
        for (int place = 10; place < POSITIONS; place += 301) {
            DecoderRow at = {1, place}, rows[] = {{1, POSITIONS - 1}, {0, POSITIONS - 1}};
            float k[WIDTH], x[2 * WIDTH], *v = row_of(b.v, at);
            memcpy(k, row_of(b.k, at), sizeof k);
            k[5] = bad[i];
            cache_put(&b.cache, LAYER, at, k, v);
            fill(x, 2);
            x[5] = 1;
            cache_attend_tokens(&b.cache, LAYER, rows, 2, x, &b.compute);
            for (int c = 0; c < DIM; c++) {
                assert_true(isnan(x[c]));
                assert_true(isfinite(x[WIDTH + c]));
            }
            cache_put(&b.cache, LAYER, at, row_of(b.k, at), v);
        }
    free_bench(&b);
}

static void bad_values_show(void **state) {
    (void)state;
    for (int t = 0; t < TYPES; t++)
        bad_values_show_in(types[t]);
}

static void nearest_bf16(void **state) {
    (void)state;
    static const float values[] = {0,         -0.0f,          1,        0x1.01p0f,
                                   0x1.03p0f, -0x1.010002p0f, INFINITY, -INFINITY,
                                   NAN,       0x1.fffffep127f};
    static const uint16_t expected[] = {0,      0x8000, 0x3F80, 0x3F80, 0x3F82,
                                        0xBF81, 0x7F80, 0xFF80, 0x7FC0, 0x7F80};
    uint16_t out[10];
    convert_to_bf16(values, 10, out);
    assert_memory_equal(out, expected, sizeof out);
    uint32_t full_nan = 0x7FFFFFFF;
    float value;
    memcpy(&value, &full_nan, sizeof value);
    convert_to_bf16(&value, 1, out);
    assert_int_equal(out[0], 0x7FC0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens_see_their_slots), cmocka_unit_test(stretches_see_what_is_before),
        cmocka_unit_test(threads_do_not_show),    cmocka_unit_test(large_scores),
        cmocka_unit_test(bad_values_show),        cmocka_unit_test(nearest_bf16),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
