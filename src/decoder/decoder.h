/*
 * decoder.h - the language model: a stack of pre-norm layers over a KV cache (spec 5).
 *
 * Work comes as a batch of rows, each a position of some slot. A stretch of one
 * slot's prompt and one new token for each of many slots are the same thing to
 * every part but attention, which takes the rows of a stretch in tiles.
 */
#ifndef OCR_DECODER_H
#define OCR_DECODER_H

#include "decoder/cache.h"
#include "decoder/moe.h"

/* Rows of a prompt that go through the layers together. */
#define DECODER_PROMPT_ROWS 512

typedef struct Decoder {
    const DecoderConfig *config;
    const Weights *weights;
    Cache cache;
    float *frequencies; /* [dim / 2] of the rotary embedding */
    /* The batch in work. */
    int rows;
    bool one_slot;   /* rows are consecutive positions of one slot */
    DecoderRow *row; /* [rows] */
    float *x;        /* [rows][hidden] residual stream: filled by the caller, then by the layers */
    float *cosines, *sines; /* [rows][dim / 2] of each row's position */
    float *normed;          /* [rows][hidden] */
    float *q, *k, *v;       /* [rows][hidden] */
    float *inner;           /* [rows][dense_width] */
    Moe moe;
    float *logits; /* [rows of tokens][vocabulary] */
} Decoder;

/* For that many pages of so many positions. */
CacheShape decoder_cache_shape(const DecoderConfig *config, int slots, int positions,
                               WeightType type);
/* Its type, with layers of such weights and products of that precision. */
WeightType decoder_cache_type(const DecoderConfig *config, WeightType weights, Precision precision);

/*
 * Two layouts: what lives as long as the session, and the buffers of a batch,
 * which others may use while no batch is in work.
 */
void decoder_layout_cache(Decoder *decoder, const DecoderConfig *config, const CacheShape *shape,
                          Arena *arena);
void decoder_layout(Decoder *decoder, const Weights *weights, Arena *arena);
/* Once the cache's memory is real. */
void decoder_init(Decoder *decoder);

/*
 * Begin a batch of rows: consecutive positions of one slot, up to DECODER_PROMPT_ROWS, or
 * one position each of up to DECODER_TOKEN_ROWS slots. The caller then fills decoder->x.
 * What comes out for a token does not depend on the others, bit for bit.
 */
void decoder_begin_stretch(Decoder *decoder, int slot, int first_position, int rows);
void decoder_begin_tokens(Decoder *decoder, const DecoderRow *rows, int count);

/* One layer over the batch; layers in order. */
void decoder_layer(Decoder *decoder, int layer, const Compute *compute);

/* Logits of the last `count` rows, up to DECODER_TOKEN_ROWS, into decoder->logits[0..count-1]. */
void decoder_logits(Decoder *decoder, int count, const Compute *compute);

#endif
