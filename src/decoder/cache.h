/*
 * cache.h - keys and values of all positions that the decoder has seen, and attention
 * over them.
 *
 * The cache holds bf16, as the released model itself computes, or f32 where numbers shall be
 * exact. Where the decoder's weights are quantized it holds Q8, a block or more for each
 * head: keys and values of a long context are then most of what a token reads. Products and
 * sums are f32 in any case.
 *
 * A query goes over its keys in stretches of CACHE_STRETCH. What a stretch comes to is
 * the largest score, the sum of exp(score - largest), and the sum of its values weighted
 * so; two stretches are joined by scaling both to the larger maximum. Therefore the
 * scores of one stretch are all that is in work at once, and the stretches of a long
 * context can be shared among threads. Where they begin depends on positions alone: a
 * row's result does not depend on threads or on other rows.
 */
#ifndef OCR_CACHE_H
#define OCR_CACHE_H

#include "base/arena.h"
#include "kernels/compute.h"

#define CACHE_STRETCH 256

/* Slots that are advanced by a token together, at most. */
#define DECODER_TOKEN_ROWS MATMUL_FEW_ROWS

/* A row of a batch: one position of one slot. */
typedef struct DecoderRow {
    int slot, position;
} DecoderRow;

typedef struct CacheShape {
    int slots, layers, heads, dim, positions;
    WeightType type; /* WEIGHT_F32, WEIGHT_BF16 or WEIGHT_Q8 */
} CacheShape;

typedef struct Cache {
    CacheShape shape;
    void *data;       /* [slot][layer][key, value][head][positions][dim] */
    uint16_t *scales; /* of Q8, the same with blocks in place of dim */
    /* Of tokens' stretches, before they are joined: [row][head][stretch][2 + dim] */
    float *parts;
} Cache;

void cache_layout(Cache *cache, const CacheShape *shape, Arena *arena);
/* Floats of scratch that a thread needs. */
size_t cache_thread_floats(const CacheShape *shape);

/* Keep a row's keys and values. k, v: [heads * dim] */
void cache_put(const Cache *cache, int layer, DecoderRow row, const float *k, const float *v);

/*
 * Attention of rows that are in the cache already, to all that their slots have up to
 * them. x: [count][heads * dim], queries, then results. Either consecutive positions of
 * one slot, or one position each of at most DECODER_TOKEN_ROWS slots.
 */
void cache_attend_stretch(const Cache *cache, int layer, const DecoderRow *rows, int count,
                          float *x, const Compute *compute);
void cache_attend_tokens(const Cache *cache, int layer, const DecoderRow *rows, int count, float *x,
                         const Compute *compute);

#endif
