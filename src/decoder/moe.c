#include "decoder/moe.h"

#include "kernels/rows.h"

#include <string.h>

void moe_layout(Moe *moe, const DecoderConfig *config, int max_rows, Arena *arena) {
    size_t rows = (size_t)max_rows, places = rows * (size_t)config->experts_per_token;
    bool any = config->dense_layers < config->layers;
    size_t inner = any ? (size_t)config->expert_width : 0;
    moe->config = config;
    moe->scores = ARENA_TAKE(arena, float, rows *(size_t)config->experts);
    moe->weights = ARENA_TAKE(arena, float, places);
    moe->chosen = ARENA_TAKE(arena, int, places);
    moe->place = ARENA_TAKE(arena, int, places);
    moe->members = ARENA_TAKE(arena, int, places);
    moe->start = ARENA_TAKE(arena, int, (size_t)config->experts + 1);
    moe->inner = ARENA_TAKE(arena, float, places *inner);
    moe->shared = ARENA_TAKE(arena, float, rows *(any ? (size_t)config->shared_width : 0));
    moe->parts = ARENA_TAKE(arena, float, any ? places *(size_t)config->hidden : 0);
    moe->jobs = ARENA_TAKE(arena, Matmul, (size_t)config->experts + 1);
}

/* Insertion into a sorted list; what is equal stays behind. */
void top_k(const float *p, int count, int k, int *out) {
    int held = 0;
    for (int c = 0; c < count; c++) {
        int place = held;
        while (place > 0 && p[c] > p[out[place - 1]])
            place--;
        if (place == k)
            continue;
        if (held < k)
            held++;
        memmove(out + place + 1, out + place, (size_t)(held - 1 - place) * sizeof *out);
        out[place] = c;
    }
}

/*
 * A pool task: probabilities of a row in f32, the k best of them, not renormalised unless the
 * model says so.
 */
static void choose_task(void *context, int row, int thread) {
    const Moe *moe = context;
    int experts = moe->config->experts, k = moe->config->experts_per_token;
    float *p = moe->scores + (size_t)row * (size_t)experts;
    int *chosen = moe->chosen + (size_t)row * (size_t)k;
    float *weights = moe->weights + (size_t)row * (size_t)k, sum = 0;
    (void)thread;
    softmax(p, experts);
    top_k(p, experts, k, chosen);
    for (int i = 0; i < k; i++)
        sum += p[chosen[i]];
    for (int i = 0; i < k; i++) {
        weights[i] = p[chosen[i]];
        if (moe->config->normalise_weights && k > 1)
            weights[i] /= sum + 1e-20f;
        weights[i] *= moe->config->routed_scale;
    }
}

/* Counting sort of the choices by expert; stable, so rows stay in order. */
static void group(Moe *moe, int rows) {
    int experts = moe->config->experts, choices = rows * moe->config->experts_per_token;
    for (int e = 0; e <= experts; e++)
        moe->start[e] = 0;
    for (int c = 0; c < choices; c++)
        moe->start[moe->chosen[c] + 1]++;
    for (int e = 0; e < experts; e++)
        moe->start[e + 1] += moe->start[e];
    for (int c = 0; c < choices; c++) {
        int place = moe->start[moe->chosen[c]]++;
        moe->place[c] = place;
        moe->members[place] = c / moe->config->experts_per_token;
    }
    /* start[e] now is where e ends, which is where e + 1 begins. */
    for (int e = experts; e > 0; e--)
        moe->start[e] = moe->start[e - 1];
    moe->start[0] = 0;
}

typedef struct CombineTask {
    const Moe *moe;
    float *x;
} CombineTask;

/* x[row] += sum of its experts' outputs, best expert first. */
static void combine_task(void *context, int row, int thread) {
    const CombineTask *task = context;
    const Moe *moe = task->moe;
    int hidden = moe->config->hidden, k = moe->config->experts_per_token;
    float *x = task->x + (size_t)row * (size_t)hidden;
    (void)thread;
    for (int i = 0; i < k; i++) {
        size_t choice = (size_t)row * (size_t)k + (size_t)i;
        const float *part = moe->parts + (size_t)moe->place[choice] * (size_t)hidden;
        float weight = moe->weights[choice];
        for (int h = 0; h < hidden; h++)
            x[h] += weight * part[h];
    }
}

void moe_run(Moe *moe, const DecoderLayer *layer, const float *normed, float *x, int rows,
             const Compute *compute) {
    int hidden = moe->config->hidden, experts = moe->config->experts;
    int inner = moe->config->expert_width, count = 0;

    /* The gate is computed in f32 whatever the precision of the rest (spec 5). */
    Matmul router = {.x = normed,
                     .rows = rows,
                     .x_stride = hidden,
                     .w = layer->router,
                     .y = moe->scores,
                     .y_stride = experts};
    matmul_run(&router, 1, PRECISION_EXACT, compute->pool, compute->matmul_scratch);
    pool_run(compute->pool, rows, choose_task, moe);
    if (pool_interrupted(compute->pool)) /* rows may be left without a choice */
        return;
    group(moe, rows);

    for (int e = 0; e < experts; e++) {
        int first = moe->start[e], members = moe->start[e + 1] - first;
        if (members > 0)
            moe->jobs[count++] = (Matmul){.x = normed,
                                          .x_rows = moe->members + first,
                                          .rows = members,
                                          .x_stride = hidden,
                                          .w = layer->experts[e].gate,
                                          .up = layer->experts[e].up,
                                          .activation = ACTIVATION_SWIGLU,
                                          .y = moe->inner + (size_t)first * (size_t)inner,
                                          .y_stride = inner};
    }
    moe->jobs[count++] = (Matmul){.x = normed,
                                  .rows = rows,
                                  .x_stride = hidden,
                                  .w = layer->mlp.gate,
                                  .up = layer->mlp.up,
                                  .activation = ACTIVATION_SWIGLU,
                                  .y = moe->shared,
                                  .y_stride = moe->config->shared_width};
    matmul_run(moe->jobs, count, compute->precision, compute->pool, compute->matmul_scratch);

    count = 0;
    for (int e = 0; e < experts; e++) {
        int first = moe->start[e], members = moe->start[e + 1] - first;
        if (members > 0)
            moe->jobs[count++] = (Matmul){.x = moe->inner + (size_t)first * (size_t)inner,
                                          .rows = members,
                                          .x_stride = inner,
                                          .w = layer->experts[e].down,
                                          .y = moe->parts + (size_t)first * (size_t)hidden,
                                          .y_stride = hidden};
    }
    moe->jobs[count++] = (Matmul){.x = moe->shared,
                                  .rows = rows,
                                  .x_stride = moe->config->shared_width,
                                  .w = layer->mlp.down,
                                  .residual = x,
                                  .y = x,
                                  .y_stride = hidden};
    matmul_run(moe->jobs, count, compute->precision, compute->pool, compute->matmul_scratch);

    CombineTask task = {moe, x};
    pool_run(compute->pool, rows, combine_task, &task);
}
