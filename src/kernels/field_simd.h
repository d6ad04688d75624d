/*
 * field_simd.h - attention as field.h describes it, written once over a vector.
 * Included after words_simd.h, whose vectors it uses; in addition
 *
 *   Operand join(const Sum *parts)       PAIR vectors, their lanes side by side, as words
 *   Sum     add_product(Sum sum, Sum a, Sum b)
 *   Sum     larger(Sum a, Sum b)         b if one of them is NaN
 *   bool    any_above(Sum a, Sum b)      in any lane
 *   Sum     fraction(Sum x)              x - floor(x)
 *   Sum     times_power(Sum y, Sum x)    y * 2^floor(x), or next to 0 where x < -126
 *
 * Queries run along the lanes, a tile of ROWS vectors of them. Scores are keys
 * times queries and outputs values times probabilities: both times a few rows
 * of a, a word of which is spread over all lanes, meet the vectors of a row of b.
 * So the largest score and the sum of a query stand in its own lane, and
 * probabilities lie as the second product wants them.
 */
#include "kernels/field_kernel.h"

#include <math.h>

#define LOG2_E 1.44269504f
#define SLACK 8.0f /* the largest score may be passed by a factor of 2^8 before all is scaled */

_Static_assert(FIELD_QUERIES % SPAN == 0, "whole tiles");

typedef int32_t Lanes __attribute__((vector_size(sizeof(Sum))));

/* One tile's share of the space. */
typedef struct QueryTile {
    Element *queries; /* [words][SPAN] */
    float *out;       /* [dim][SPAN] */
    float *by_row, *by_column;
    float *most, *sum; /* [SPAN] */
    int first, count;  /* queries of the field */
} QueryTile;

/* Keys in work. */
typedef struct KeyBlock {
    int first, count;
    ptrdiff_t place[FIELD_KEYS]; /* of their vectors after the first one's; BEYOND: the padding */
} KeyBlock;

#define BEYOND (-1) /* the grid */

INLINE Sum all_lanes(float value) {
    return (Sum){0} + value;
}

INLINE Sum choose(Lanes which, Sum yes, Sum no) {
    return (Sum)((which & (Lanes)yes) | (~which & (Lanes)no));
}

/*
 * 2^x by a polynomial for 2^fraction(x), whose error is 8e-5, or 2e-9 and with
 * rounding 2e-7. NaN stays NaN.
 */
INLINE Sum power_of_two(Sum x) {
    static const float rough[] = {0.9999252186f, 0.6958335427f, 0.2260671487f, 0.07802452726f};
    static const float fine[] = {1.000000002f,    0.6931469838f,  0.2402298363f,   0.05548334197f,
                                 0.009678841018f, 0.00124396877f, 0.0002170225568f};
    const float *c = PAIR == 2 ? rough : fine;
    int degree = PAIR == 2 ? 3 : 6;
    Sum f = fraction(x), p = all_lanes(c[degree]);
    UNROLL for (int i = degree - 1; i >= 0; i--) {
        p = add_product(all_lanes(c[i]), p, f);
    }
    return times_power(p, x);
}

/* ---- from rows of f32 to words ---- */

/* Up to `most` keys from `first` on; none beyond the field. */
INLINE KeyBlock find_keys(const Field *f, int first, int most) {
    KeyBlock block;
    int y = first / f->width, x = first % f->width;
    block.first = first;
    block.count = max_int(min_int(most, f->height * f->width - first), 0);
    for (int i = 0; i < block.count; i++) {
        bool inside = y < f->inner_height && x < f->inner_width;
        block.place[i] = inside ? ((ptrdiff_t)y * f->line + x) * (ptrdiff_t)f->stride : BEYOND;
        if (++x == f->width) {
            x = 0;
            y++;
        }
    }
    return block;
}

INLINE const float *key_row(const KeyBlock *block, int i, const float *first, const float *pad) {
    return block->place[i] == BEYOND ? pad : first + block->place[i];
}

/* Keys and values from..to-1 of a block are wanted soon: each lies in a page of its own. */
INLINE void fetch_keys(const Field *f, const KeyBlock *block, int from, int to) {
    for (int i = from; i < to; i++)
        for (int d = 0; d < f->dim; d += CACHE_LINE / (int)sizeof(float)) {
            __builtin_prefetch(key_row(block, i, f->k, f->pad_k) + d);
            __builtin_prefetch(key_row(block, i, f->v, f->pad_v) + d);
        }
}

/* The offset of a query's vectors in units of positions. */
INLINE size_t query_place(const Field *f, int query) {
    return (size_t)(query / f->inner_width) * (size_t)f->line + (size_t)(query % f->inner_width);
}

/* The last query again in the lanes beyond it. */
INLINE void pack_queries(const Field *f, const QueryTile *tile) {
    for (int lane = 0; lane < tile->count; lane += LANES) {
        const float *rows[LANES];
        for (int i = 0; i < LANES; i++) {
            int query = tile->first + min_int(lane + i, tile->count - 1);
            rows[i] = f->q + query_place(f, query) * (size_t)f->stride;
        }
        pack_lanes(rows, f->dim, tile->queries + lane * PAIR);
    }
}

/* to[filled_up(count)][row_words(dim)] */
INLINE void pack_keys(const Field *f, const KeyBlock *block, Element *to) {
    int words = row_words(f->dim);
    for (int i = 0; i < block->count; i++)
        pack_row(key_row(block, i, f->k, f->pad_k), f->dim, to + i * words * PAIR);
    for (int i = block->count; i < filled_up(block->count); i++)
        pack_row(NULL, 0, to + i * words * PAIR);
}

/* x[LANES], of which `count` are there; 0 beyond. */
INLINE Sum load_some(const float *x, int count) {
    float part[LANES] = {0};
    if (count >= LANES)
        return load_lanes(x);
    for (int i = 0; i < count; i++)
        part[i] = x[i];
    return load_lanes(part);
}

/* to[filled_up(dim)][row_words(FIELD_KEYS)]: transposed. */
INLINE void pack_values(const Field *f, const KeyBlock *block, Element *to) {
    int words = row_words(FIELD_KEYS);
    for (int word = 0; word < row_words(block->count); word += LANES)
        for (int d = 0; d < filled_up(f->dim); d += LANES) {
            Sum square[LANES];
            UNROLL for (int i = 0; i < LANES; i++) {
                Sum parts[PAIR];
                UNROLL for (int j = 0; j < PAIR; j++) {
                    int key = (word + i) * PAIR + j;
                    parts[j] = (Sum){0};
                    if (key < block->count && d < f->dim)
                        parts[j] = load_some(key_row(block, key, f->v, f->pad_v) + d, f->dim - d);
                }
                square[i] = (Sum)join(parts);
            }
            transpose(square);
            UNROLL for (int i = 0; i < LANES; i++) {
                store_packed(to + ((d + i) * words + word) * PAIR, (Operand)square[i]);
            }
        }
}

/* ---- the bias of positions ---- */

/*
 * by[key][lane], in log2: of the products of a tile's queries with a table, that of
 * each key's distance; distance[lane] is the one of key 0, and the others follow.
 * Vectors without queries are left out.
 */
INLINE void pick_distances(const float *products, const int *distance, int lanes, int keys,
                           float *by) {
    for (int lane = 0; lane < lanes; lane++) {
        const float *from = products + distance[lane] * SPAN + lane;
        for (int key = 0; key < keys; key++)
            by[key * SPAN + lane] = from[key * SPAN] * LOG2_E;
    }
}

/* Distance y - y' stands at index h - 1 - y + y' of the table. */
INLINE void find_bias(const Field *f, const QueryTile *tile, const FieldSpace *space,
                      MultiplyWords *multiply) {
    int words = row_words(f->dim), span_h = 2 * f->height - 1;
    int by_row[SPAN], by_column[SPAN], vectors = ceil_div(tile->count, LANES);
    for (int lane = 0; lane < vectors * LANES; lane++) {
        int query = min_int(tile->first + lane, tile->first + tile->count - 1);
        by_row[lane] = f->height - 1 - query / f->inner_width;
        by_column[lane] = f->width - 1 - query % f->inner_width;
    }
    WordProduct product = {.a = space->table,
                           .b = tile->queries,
                           .c = space->scores,
                           .a_stride = (size_t)words,
                           .span = SPAN,
                           .rows = span_h,
                           .words = ceil_div(f->dim, PAIR),
                           .vectors = vectors};
    multiply(&product);
    pick_distances(space->scores, by_row, vectors * LANES, f->height, tile->by_row);
    product.a = (const Element *)space->table + filled_up(span_h) * words * PAIR;
    product.rows = 2 * f->width - 1;
    multiply(&product);
    pick_distances(space->scores, by_column, vectors * LANES, f->width, tile->by_column);
}

/* Both tables, each filled up to whole sides. */
INLINE void pack_tables(const Field *f, Element *to) {
    int words = row_words(f->dim);
    const float *tables[] = {f->rel_h, f->rel_w};
    int spans[] = {2 * f->height - 1, 2 * f->width - 1};
    for (int t = 0; t < 2; t++)
        for (int i = 0; i < filled_up(spans[t]); i++, to += words * PAIR)
            if (i < spans[t])
                pack_row(tables[t] + (size_t)i * (size_t)f->dim, f->dim, to);
            else
                memset(to, 0, (size_t)(words * PAIR) * sizeof *to);
}

/* ---- softmax, block by block ---- */

/*
 * scores[count][SPAN] to log2, with the bias of keys that follow each other in a
 * row of the field; the largest of each lane are kept in most[vectors].
 */
INLINE void scale_run(const float *by_row, const float *by_column, Sum scale, int count,
                      float *scores, int vectors, Sum *most) {
    Sum row[ROWS];
    UNROLL for (int v = 0; v < vectors; v++) {
        row[v] = (Sum){0};
        if (by_row)
            row[v] = load_lanes(by_row + v * LANES);
    }
    for (int i = 0; i < count; i++, scores += SPAN, by_column += by_row ? SPAN : 0) {
        UNROLL for (int v = 0; v < vectors; v++) {
            Sum bias = row[v];
            if (by_row)
                bias += load_lanes(by_column + v * LANES);
            Sum s = add_product(bias, load_lanes(scores + v * LANES), scale);
            most[v] = larger(most[v], s);
            store_lanes(scores + v * LANES, s);
        }
    }
}

INLINE void scale_scores(const Field *f, const QueryTile *tile, const KeyBlock *block,
                         float *scores, int vectors, Sum *most) {
    Sum scale = all_lanes(LOG2_E / sqrtf((float)f->dim));
    UNROLL for (int v = 0; v < vectors; v++) {
        most[v] = all_lanes(-INFINITY);
    }
    if (!f->rel_h) {
        scale_run(NULL, NULL, scale, block->count, scores, vectors, most);
        return;
    }
    int y = block->first / f->width, x = block->first % f->width;
    for (int i = 0, run; i < block->count; i += run, x = 0, y++) {
        run = min_int(f->width - x, block->count - i);
        scale_run(tile->by_row + y * SPAN, tile->by_column + x * SPAN, scale, run,
                  scores + i * SPAN, vectors, most);
    }
}

/*
 * Raise the maxima of lanes in which they are passed by too much, and scale down
 * what has been summed by them; other lanes keep their bits.
 */
INLINE void raise_most(const Field *f, const QueryTile *tile, const Sum *most, int vectors) {
    for (int v = 0; v < vectors; v++) {
        float *tile_most = tile->most + v * LANES, *tile_sum = tile->sum + v * LANES;
        Sum before = load_lanes(tile_most);
        if (!any_above(most[v], before + SLACK))
            continue;
        Lanes above = most[v] > before + SLACK;
        Sum after = choose(above, most[v], before);
        Sum factor = choose(above, power_of_two(before - after), all_lanes(1));
        store_lanes(tile_most, after);
        store_lanes(tile_sum, load_lanes(tile_sum) * factor);
        for (int d = 0; d < f->dim; d++) {
            float *out = tile->out + d * SPAN + v * LANES;
            store_lanes(out, load_lanes(out) * factor);
        }
    }
}

/* Before the first block. */
INLINE void begin_sums(const QueryTile *tile, const Sum *most, int vectors) {
    UNROLL for (int v = 0; v < vectors; v++) {
        store_lanes(tile->most + v * LANES, most[v]);
        store_lanes(tile->sum + v * LANES, (Sum){0});
    }
}

/* scores[count][SPAN] become the words of their exponentials, in place: [filled up][SPAN]. */
INLINE void exponentiate(const QueryTile *tile, float *scores, int count, int vectors) {
    Element *to = (Element *)scores;
    Sum most[ROWS], sums[ROWS];
    UNROLL for (int v = 0; v < vectors; v++) {
        most[v] = load_lanes(tile->most + v * LANES);
        sums[v] = load_lanes(tile->sum + v * LANES);
    }
    int word = 0;
    for (; word < ceil_div(count, PAIR); word++) {
        bool whole = (word + 1) * PAIR <= count; /* else a pair lacks its second half */
        UNROLL for (int v = 0; v < vectors; v++) {
            Sum parts[PAIR] = {0};
            UNROLL for (int j = 0; j < PAIR; j++) {
                if (j == 0 || whole) {
                    Sum s = load_lanes(scores + (word * PAIR + j) * SPAN + v * LANES);
                    parts[j] = power_of_two(s - most[v]);
                    sums[v] += parts[j];
                }
            }
            store_packed(to + (word * SPAN + v * LANES) * PAIR, join(parts));
        }
    }
    UNROLL for (int v = 0; v < vectors; v++) {
        store_lanes(tile->sum + v * LANES, sums[v]);
    }
    for (; word % WORD_SIDE != 0; word++)
        UNROLL for (int v = 0; v < vectors; v++) {
            store_packed(to + (word * SPAN + v * LANES) * PAIR, (Operand)(Sum){0});
        }
}

/* ---- tiles and blocks ---- */

/* What the keys of a block add to the tile's sums. */
INLINE void weigh_block(const Field *f, const QueryTile *tile, const KeyBlock *block,
                        const FieldSpace *space, MultiplyWords *multiply, int vectors) {
    Sum most[ROWS];
    bool begun = block->first > 0;
    WordProduct product = {.a = space->keys,
                           .b = tile->queries,
                           .c = space->scores,
                           .a_stride = (size_t)row_words(f->dim),
                           .span = SPAN,
                           .rows = block->count,
                           .words = ceil_div(f->dim, PAIR),
                           .vectors = vectors};
    multiply(&product);
    scale_scores(f, tile, block, space->scores, vectors, most);
    if (begun)
        raise_most(f, tile, most, vectors);
    else
        begin_sums(tile, most, vectors);
    exponentiate(tile, space->scores, block->count, vectors);
    product = (WordProduct){.a = space->values,
                            .b = space->scores,
                            .c = tile->out,
                            .a_stride = (size_t)row_words(FIELD_KEYS),
                            .span = SPAN,
                            .rows = f->dim,
                            .words = ceil_div(block->count, PAIR),
                            .vectors = vectors,
                            .add = begun};
    multiply(&product);
}

/* Tile number `index` of queries first..first+count-1. */
INLINE QueryTile begin_tile(const Field *f, const FieldSpace *space, int index, int first,
                            int count) {
    size_t before = (size_t)index * SPAN;
    QueryTile tile = {
        .queries = (Element *)space->queries + before * (size_t)(row_words(f->dim) * PAIR),
        .out = space->out + before * (size_t)filled_up(f->dim),
        .by_row = space->by_row + before * (size_t)f->height,
        .by_column = space->by_column + before * (size_t)f->width,
        .most = space->most + before,
        .sum = space->sum + before,
        .first = first + (int)before,
        .count = min_int(SPAN, count - (int)before),
    };
    return tile;
}

/* values[LANES] to where only `count` have room. */
INLINE void store_some(float *to, Sum values, int count) {
    float part[LANES];
    if (count >= LANES) {
        store_lanes(to, values);
        return;
    }
    store_lanes(part, values);
    for (int i = 0; i < count; i++)
        to[i] = part[i];
}

/* The sums, divided by the sum of exponentials, to where they belong. */
INLINE void finish_tile(const Field *f, const QueryTile *tile) {
    for (int lane = 0; lane < tile->count; lane += LANES) {
        Sum scale = 1.0f / load_lanes(tile->sum + lane);
        float *rows[LANES];
        int lanes = min_int(LANES, tile->count - lane);
        for (int i = 0; i < lanes; i++)
            rows[i] = f->out + query_place(f, tile->first + lane + i) * (size_t)f->out_stride;
        for (int d = 0; d < f->dim; d += LANES) {
            Sum square[LANES];
            UNROLL for (int i = 0; i < LANES; i++) {
                square[i] = load_lanes(tile->out + (d + i) * SPAN + lane) * scale;
            }
            transpose(square);
            UNROLL for (int i = 0; i < LANES; i++) {
                if (i < lanes)
                    store_some(rows[i] + d, square[i], f->dim - d);
            }
        }
    }
}

/* Tiles of queries in a loop within blocks of keys: a block is packed once for all of them. */
INLINE void attend_tiles(const Field *f, int first, int count, const FieldSpace *space,
                         MultiplyWords *multiply) {
    QueryTile tiles[FIELD_QUERIES / SPAN];
    int tile_count = ceil_div(count, SPAN);
    if (f->rel_h)
        pack_tables(f, space->table);
    for (int t = 0; t < tile_count; t++) {
        tiles[t] = begin_tile(f, space, t, first, count);
        pack_queries(f, &tiles[t]);
        if (f->rel_h)
            find_bias(f, &tiles[t], space, multiply);
    }

    int keys = f->height * f->width, blocks = ceil_div(keys, FIELD_KEYS);
    int block_keys = filled_up(ceil_div(keys, blocks));
    KeyBlock block = find_keys(f, 0, block_keys), next;
    for (; block.count > 0; block = next) {
        pack_keys(f, &block, space->keys);
        pack_values(f, &block, space->values);
        next = find_keys(f, block.first + block_keys, block_keys);
        for (int t = 0; t < tile_count; t++) {
            int vectors = ceil_div(tiles[t].count, LANES);
            fetch_keys(f, &next, next.count * t / tile_count, next.count * (t + 1) / tile_count);
            if (vectors == ROWS)
                weigh_block(f, &tiles[t], &block, space, multiply, ROWS);
            else if (vectors == 2)
                weigh_block(f, &tiles[t], &block, space, multiply, 2);
            else
                weigh_block(f, &tiles[t], &block, space, multiply, 1);
        }
    }
    for (int t = 0; t < tile_count; t++)
        finish_tile(f, &tiles[t]);
}

TARGET void NAME(field)(const Field *field, int first, int count, const FieldSpace *space) {
    attend_tiles(field, first, count, space, multiply_words);
}
