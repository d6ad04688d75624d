#include "vision/positions.h"

#include "model/weights.h"
#include "vision/cubic.h"

#include <string.h>

typedef struct GridResize {
    const PositionGrid *grid;
    int columns, taps;
    int *first;      /* [to] first input sample of each output sample */
    int *count;      /* [to] how many */
    float *weights;  /* [to][taps] */
    float *rows;     /* [from][from][columns] the table as f32 */
    float *squeezed; /* [to][from][columns] after the vertical pass */
    float *x;        /* [to][to][columns] */
} GridResize;

static void fill_weights(GridResize *resize) {
    int from = resize->grid->from, to = resize->grid->to;
    for (int i = 0; i < to; i++) {
        CubicWindow window = cubic_window(from, to, i);
        float *weights = resize->weights + (size_t)i * (size_t)resize->taps;
        double sum = 0;
        resize->first[i] = window.first;
        resize->count[i] = window.count;
        for (int j = 0; j < window.count; j++)
            sum += cubic((window.first + j + 0.5 - window.center) / window.stretch);
        for (int j = 0; j < window.count; j++)
            weights[j] =
                (float)(cubic((window.first + j + 0.5 - window.center) / window.stretch) / sum);
    }
}

static void add_scaled(float *y, const float *x, float factor, size_t count) {
    for (size_t i = 0; i < count; i++)
        y[i] += factor * x[i];
}

static void vertical_task(void *context, int chunk, int thread) {
    const GridResize *resize = context;
    size_t line = (size_t)resize->grid->from * (size_t)resize->columns;
    const float *weights = resize->weights + (size_t)chunk * (size_t)resize->taps;
    float *out = resize->squeezed + (size_t)chunk * line;
    (void)thread;
    memset(out, 0, line * sizeof *out);
    for (int j = 0; j < resize->count[chunk]; j++)
        add_scaled(out, resize->rows + (size_t)(resize->first[chunk] + j) * line, weights[j], line);
}

static void horizontal_task(void *context, int chunk, int thread) {
    const GridResize *resize = context;
    int from = resize->grid->from, to = resize->grid->to;
    size_t columns = (size_t)resize->columns;
    (void)thread;
    for (int i = 0; i < to; i++) {
        float *out = resize->x + ((size_t)chunk * (size_t)to + (size_t)i) * columns;
        const float *weights = resize->weights + (size_t)i * (size_t)resize->taps;
        for (int j = 0; j < resize->count[i]; j++)
            add_scaled(out,
                       resize->squeezed +
                           ((size_t)chunk * (size_t)from + (size_t)(resize->first[i] + j)) *
                               columns,
                       weights[j], columns);
    }
}

static void row_task(void *context, int chunk, int thread) {
    const GridResize *resize = context;
    (void)thread;
    matrix_row(resize->grid->table, resize->grid->first_row + chunk,
               resize->rows + (size_t)chunk * (size_t)resize->columns);
}

static void same_size_task(void *context, int chunk, int thread) {
    const GridResize *resize = context;
    float *row = resize->rows + (size_t)chunk * (size_t)resize->columns;
    row_task(context, chunk, thread);
    add_scaled(resize->x + (size_t)chunk * (size_t)resize->columns, row, 1.0f,
               (size_t)resize->columns);
}

static GridResize layout(const PositionGrid *grid, int columns, Arena *arena) {
    GridResize resize = {
        .grid = grid, .columns = columns, .taps = cubic_taps(grid->from, grid->to)};
    size_t from = (size_t)grid->from, to = (size_t)grid->to, width = (size_t)columns;
    resize.first = ARENA_TAKE(arena, int, to);
    resize.count = ARENA_TAKE(arena, int, to);
    resize.weights = ARENA_TAKE(arena, float, to *(size_t)resize.taps);
    resize.rows = ARENA_TAKE(arena, float, from *from *width);
    resize.squeezed = ARENA_TAKE(arena, float, to *from *width);
    return resize;
}

size_t positions_scratch_floats(int from, int to, int columns) {
    PositionGrid grid = {.from = from, .to = to};
    Arena arena = ARENA_MEASURE;
    layout(&grid, columns, &arena);
    return arena.used / sizeof(float);
}

void positions_add(const PositionGrid *grid, float *x, const Compute *compute, float *scratch) {
    Arena arena = {(unsigned char *)scratch, 0};
    GridResize resize = layout(grid, grid->table->columns, &arena);
    resize.x = x;
    if (grid->from == grid->to) {
        pool_run(compute->pool, grid->from * grid->from, same_size_task, &resize);
        return;
    }
    fill_weights(&resize);
    pool_run(compute->pool, grid->from * grid->from, row_task, &resize);
    pool_run(compute->pool, grid->to, vertical_task, &resize);
    pool_run(compute->pool, grid->to, horizontal_task, &resize);
}

void relative_positions(const float *table, int from, int to, int dim, float *out) {
    for (int i = 0; i < to; i++) {
        float *row = out + (size_t)(to - 1 - i) * (size_t)dim;
        if (from == to) {
            memcpy(row, table + (size_t)i * (size_t)dim, (size_t)dim * sizeof *row);
            continue;
        }
        float place = ((float)i + 0.5f) * ((float)from / (float)to) - 0.5f;
        place = place < 0 ? 0 : place;
        int low = (int)place, high = low + 1 < from ? low + 1 : from - 1;
        float part = place - (float)low;
        for (int d = 0; d < dim; d++)
            row[d] = table[(size_t)low * (size_t)dim + (size_t)d] * (1 - part) +
                     table[(size_t)high * (size_t)dim + (size_t)d] * part;
    }
}
