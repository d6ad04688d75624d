/*
 * field.h - what the queries of one head draw from all keys of a field (spec 3.2, 3.4).
 *
 * Scores are never stored but for a block of keys by a tile of queries, small
 * enough for the first cache: the softmax is carried from block to block by its
 * running maximum and sum, and the output is scaled down whenever the maximum
 * grows. Runs on the calling thread, inside a task of the pool.
 *
 * PRECISION_FAST rounds queries, keys, values, distance tables and probabilities
 * to bf16 where the processor multiplies such pairs; sums are f32, and a
 * probability's exponential is then within 8e-5, else within 2e-7, of itself. What
 * a query receives depends on nothing but its own vector and the field.
 */
#ifndef OCR_FIELD_H
#define OCR_FIELD_H

#include "kernels/matmul.h"

/* At a time, at most: keys are packed once for all of them, and meanwhile nothing interrupts. */
#define FIELD_QUERIES 768

/*
 * A rectangle of a grid of positions; the positions in it are counted along its
 * rows. It may reach over the grid's lower and right edge: what lies beyond are
 * keys like the others, with `pad` for their vectors, but no queries.
 */
typedef struct Field {
    const float *q, *k, *v; /* [dim] of the first position; the next is `stride` floats on */
    float *out;             /* [dim] likewise, but out_stride floats on */
    int stride, out_stride;
    int line;                      /* positions in a row of the grid */
    int height, width;             /* keys */
    int inner_height, inner_width; /* queries: the part within the grid */
    const float *pad_k, *pad_v;    /* [dim] */
    int dim;
    const float *rel_h; /* [2 * height - 1][dim] by row distance, largest first; NULL: none */
    const float *rel_w; /* [2 * width - 1][dim] by column distance; NULL with rel_h */
} Field;

/* Bytes of scratch, aligned to 64, for fields of that size. */
size_t field_scratch_bytes(int height, int width, int dim);

/*
 * out = softmax(q k^T / sqrt(dim) + bias) v for queries first..first+count-1 of the
 * inner part, count <= FIELD_QUERIES. The bias of a key is the unscaled query
 * times the two table rows of its distance.
 */
void field_attend(const Field *field, int first, int count, Precision precision, void *scratch);

#endif
