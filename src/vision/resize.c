/*
 * resize.c - bicubic resampling in two passes.
 *
 * First each row is resampled to the new width and rounded to 8 bits, then the
 * columns of the result to the new height: in this order and with this rounding
 * the bytes equal the reference's. An axis whose length stays the same gets the
 * single weight 1.0, which returns every byte unchanged.
 *
 * The picture between the passes never exists as a whole. The output is made in
 * bands from top to bottom; a band keeps the rows that it shares with the one
 * before and resamples the others. So the scratch holds BAND_ROWS rows and the
 * reach of the kernel, whatever the height of the picture.
 */
#include "vision/resize.h"

#include "base/arena.h"
#include "base/numbers.h"
#include "vision/cubic.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#define WEIGHT_BITS 22
#define WEIGHT_ONE (1 << WEIGHT_BITS)
#define ROUNDING (1 << (WEIGHT_BITS - 1))

#define BAND_ROWS 256 /* input rows that one band adds, about */
#define BAND_LEAST 4  /* output rows of a band at least: as many as an input row can reach */

/* ---- weights ---- */

/* How one axis is resampled: output i is a sum over input first[i] .. first[i] + count[i] - 1. */
typedef struct Axis {
    int in, out;      /* lengths */
    int taps;         /* the longest sum */
    int *first;       /* [out], ascending, as is first + count */
    int *count;       /* [out] */
    int32_t *weights; /* [out][taps], of which count are used; 1.0 = WEIGHT_ONE */
} Axis;

static Axis axis_take(Arena *arena, int in, int out) {
    Axis axis = {.in = in, .out = out, .taps = in == out ? 1 : cubic_taps(in, out)};
    axis.first = ARENA_TAKE(arena, int, (size_t)out);
    axis.count = ARENA_TAKE(arena, int, (size_t)out);
    axis.weights = ARENA_TAKE(arena, int32_t, (size_t)out * (size_t)axis.taps);
    return axis;
}

/* A pool task: the weights of output i. Doubles in the reference's order of operations. */
static void axis_fill(void *context, int i, int thread) {
    (void)thread;
    const Axis *axis = context;
    int32_t *weights = axis->weights + (size_t)i * (size_t)axis->taps;
    if (axis->in == axis->out) {
        axis->first[i] = i;
        axis->count[i] = 1;
        weights[0] = WEIGHT_ONE;
        return;
    }
    CubicWindow window = cubic_window(axis->in, axis->out, i);
    double shrink = 1.0 / window.stretch, sum = 0.0;
    for (int j = 0; j < window.count; j++)
        sum += cubic((window.first + j - window.center + 0.5) * shrink);
    for (int j = 0; j < window.count; j++) {
        double weight = cubic((window.first + j - window.center + 0.5) * shrink) / sum * WEIGHT_ONE;
        weights[j] = (int32_t)(weight + (weight < 0.0 ? -0.5 : 0.5));
    }
    axis->first[i] = window.first;
    axis->count[i] = window.count;
}

/* Output rows of a band. */
static int band_height(int in, int out) {
    int height = (int)((int64_t)BAND_ROWS * out / in);
    return min_int(out, max_int(height, BAND_LEAST));
}

/* Input rows that a band reads at most: the way between its first and last center, and the taps. */
static int band_rows(const Axis *down) {
    double way = (band_height(down->in, down->out) - 1) * ((double)down->in / down->out);
    return (int)fmin(down->in, ceil(way) + down->taps);
}

/* ---- passes ---- */

typedef struct Resize {
    const RgbImage *image;
    const ResizeTarget *target;
    Axis across, down;
    int top;          /* the input row that rows begins with */
    int next;         /* the first row for resample_row */
    int band;         /* the first row for blend_row */
    size_t row_bytes; /* of a row between the passes */
    uint8_t *rows;    /* [band_rows][row_bytes] */
} Resize;

static inline uint8_t to_byte(int32_t sum) {
    sum >>= WEIGHT_BITS;
    return (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
}

/* A pool task: one input row to the new width. */
static void resample_row(void *context, int chunk, int thread) {
    (void)thread;
    const Resize *job = context;
    const Axis *across = &job->across;
    size_t y = (size_t)(job->next + chunk);
    const uint8_t *row = job->image->pixels + y * (size_t)job->image->width * 3;
    uint8_t *out = job->rows + (y - (size_t)job->top) * job->row_bytes;
    for (int x = 0; x < across->out; x++) {
        const int32_t *weights = across->weights + (size_t)x * (size_t)across->taps;
        const uint8_t *in = row + 3 * (size_t)across->first[x];
        int32_t red = ROUNDING, green = ROUNDING, blue = ROUNDING;
        for (int j = 0; j < across->count[x]; j++) {
            red += in[3 * j] * weights[j];
            green += in[3 * j + 1] * weights[j];
            blue += in[3 * j + 2] * weights[j];
        }
        *out++ = to_byte(red);
        *out++ = to_byte(green);
        *out++ = to_byte(blue);
    }
}

/* rows: [count][stride], of which the first `width` bytes are blended into out. */
static void blend(const uint8_t *rows, size_t stride, const int32_t *weights, int count,
                  uint8_t *out, size_t width) {
    int32_t sums[256];
    for (size_t x = 0; x < width; x += 256) {
        size_t n = width - x < 256 ? width - x : 256;
        for (size_t i = 0; i < n; i++)
            sums[i] = ROUNDING;
        for (int j = 0; j < count; j++) {
            const uint8_t *row = rows + (size_t)j * stride + x;
            int32_t weight = weights[j];
            for (size_t i = 0; i < n; i++)
                sums[i] += row[i] * weight;
        }
        for (size_t i = 0; i < n; i++)
            out[x + i] = to_byte(sums[i]);
    }
}

/* A pool task: one output row, in each of the panels that it crosses. */
static void blend_row(void *context, int chunk, int thread) {
    (void)thread;
    const Resize *job = context;
    const ResizeTarget *target = job->target;
    const Axis *down = &job->down;
    int y = job->band + chunk;
    const int32_t *weights = down->weights + (size_t)y * (size_t)down->taps;
    const uint8_t *rows = job->rows + (size_t)(down->first[y] - job->top) * job->row_bytes;

    size_t panel = (size_t)(y / target->panel_height) * (size_t)target->columns;
    size_t offset = (size_t)(y % target->panel_height) * target->row_bytes;
    size_t width = (size_t)target->panel_width * 3;
    for (int column = 0; column < target->columns; column++, panel++)
        blend(rows + (size_t)column * width, job->row_bytes, weights, down->count[y],
              target->pixels + panel * target->panel_bytes + offset, width);
}

static Resize resize_take(Arena *arena, int width, int height, const ResizeTarget *target) {
    int out_width = target->columns * target->panel_width;
    Resize job = {.target = target, .row_bytes = (size_t)out_width * 3};
    job.across = axis_take(arena, width, out_width);
    job.down = axis_take(arena, height, target->rows * target->panel_height);
    job.rows = arena_take(arena, (size_t)band_rows(&job.down), job.row_bytes);
    return job;
}

size_t resize_scratch_bytes(int width, int height, const ResizeTarget *target) {
    Arena arena = ARENA_MEASURE;
    resize_take(&arena, width, height, target);
    return arena.used + ARENA_ALIGNMENT;
}

OcrCode resize(const RgbImage *image, const ResizeTarget *target, OcrPool *pool, void *scratch,
               OcrError *err) {
    size_t misaligned = (uintptr_t)scratch % ARENA_ALIGNMENT;
    Arena arena = {(unsigned char *)scratch + (ARENA_ALIGNMENT - misaligned), 0};
    Resize job = resize_take(&arena, image->width, image->height, target);
    const Axis *down = &job.down;
    job.image = image;
    pool_run(pool, job.across.out, axis_fill, &job.across);
    pool_run(pool, job.down.out, axis_fill, &job.down);

    int height = band_height(down->in, down->out);
    int end = 0; /* of the input rows that rows holds */
    for (job.band = 0; job.band < down->out && !pool_interrupted(pool); job.band += height) {
        int last = min_int(job.band + height, down->out) - 1;
        int top = down->first[job.band];
        if (end > top)
            memmove(job.rows, job.rows + (size_t)(top - job.top) * job.row_bytes,
                    (size_t)(end - top) * job.row_bytes);
        job.top = top;
        job.next = max_int(end, top);
        end = down->first[last] + down->count[last];
        pool_run(pool, end - job.next, resample_row, &job);
        pool_run(pool, last + 1 - job.band, blend_row, &job);
    }
    if (pool_interrupted(pool))
        return ocr_fail(err, OCR_INTERRUPTED, "interrupted while resizing an image");
    return OCR_OK;
}
