#include "vision/turn.h"

/* pixels: [size][size], size even. Four that take each other's places, at a time. */
static void turn_square(uint8_t (*pixels)[3], int size) {
    for (int y = 0; y < size / 2; y++)
        for (int x = 0; x < size / 2; x++) {
            int right = size - 1 - x, bottom = size - 1 - y;
            uint8_t *ring[] = {pixels[y * size + x], pixels[right * size + y],
                               pixels[bottom * size + right], pixels[x * size + bottom]};
            for (int c = 0; c < 3; c++) {
                uint8_t first = ring[0][c];
                ring[0][c] = ring[1][c];
                ring[1][c] = ring[2][c];
                ring[2][c] = ring[3][c];
                ring[3][c] = first;
            }
        }
}

static void swap_bytes(uint8_t *a, uint8_t *b, size_t count) {
    for (size_t i = 0; i < count; i++) {
        uint8_t byte = a[i];
        a[i] = b[i];
        b[i] = byte;
    }
}

/* Which tile comes to place i. */
static int tile_before(const ViewPlan *plan, int i) {
    int row = i / plan->rows, column = i % plan->rows;
    return (plan->rows - 1 - column) * plan->columns + row;
}

/* The tile that belongs to place i has moved, if its own place was among those filled already. */
static void move_tiles(const ViewPlan *plan, uint8_t *views) {
    size_t bytes = (size_t)plan->tile_size * (size_t)plan->tile_size * 3;
    for (int i = 0; i < view_tiles(plan); i++) {
        int from = tile_before(plan, i);
        while (from < i)
            from = tile_before(plan, from);
        if (from > i)
            swap_bytes(views + (size_t)i * bytes, views + (size_t)from * bytes, bytes);
    }
}

typedef struct TurnTask {
    const ViewPlan *plan;
    uint8_t *views;
} TurnTask;

static void turn_task(void *context, int i, int thread) {
    const TurnTask *task = context;
    int size;
    const uint8_t *view = views_at(task->plan, task->views, i, &size);
    (void)thread;
    turn_square((uint8_t(*)[3])(task->views + (view - task->views)), size);
}

void views_turn(const ViewPlan *plan, OcrPool *pool, uint8_t *views) {
    TurnTask task = {plan, views};
    pool_run(pool, view_tiles(plan) + 1, turn_task, &task);
    move_tiles(plan, views);
}
