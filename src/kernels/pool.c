/*
 * pool.c - the engine's threads.
 *
 * A loop is two counters. `waiting` is the number of chunks not yet handed out:
 * whoever takes it from n to n - 1 owns a chunk, and while it is owned the loop
 * cannot end, so task and context may be read. `unfinished` is the number of
 * chunks not yet done; the loop ends when it is 0. A worker that wakes late
 * therefore finds waiting <= 0 and has nothing to tell anybody: nobody waits for
 * a thread that holds no chunk.
 *
 * Which chunk that is: the first one left of the thread's own share, or the last
 * one left of another's. So a thread goes through neighbours, whose data follow
 * each other, and yet all end together. Shares only shrink, and together hold a
 * chunk for everybody who owns one and has not taken it.
 *
 * Loops follow each other within microseconds while a token is computed, so an
 * idle worker first spins for SPIN_NS and only then sleeps; the caller does the
 * same while it waits for the last chunks. The spinning is bounded and yields,
 * because the other backends want the core too.
 *
 * Sleeping is a condition variable. Whoever is about to sleep says so (sleepers,
 * caller_sleeps) before it looks at the counter for the last time, and whoever
 * changes the counter looks for sleepers afterwards; all four accesses are
 * sequentially consistent, so one of the two sees the other.
 */
#include "kernels/pool.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CACHE_LINE 64
#define SPIN_NS 50000
#define SPINS_PER_LOOK 32 /* pauses between two looks at the clock */

/* Chunks first..end-1 of a loop, in one word: end << 32 | first. */
typedef struct Share {
    alignas(CACHE_LINE) atomic_uint_fast64_t left;
} Share;

typedef struct Worker {
    Share share;
    OcrPool *pool;
    pthread_t id; /* not the caller's */
    int thread;
} Worker;

struct OcrPool {
    int threads;
    bool (*watch)(void);
    bool interrupted; /* of the calling thread, as watch */

    /* The loop in progress; written by the caller while waiting is 0. */
    PoolTask task;
    void *context;

    alignas(CACHE_LINE) atomic_int waiting; /* below 0 when several find it empty at once */
    alignas(CACHE_LINE) atomic_int unfinished;
    alignas(CACHE_LINE) atomic_int sleepers; /* workers in work_arrived */
    atomic_bool caller_sleeps;               /* in work_done */
    atomic_bool stop;

    pthread_mutex_t lock; /* held to sleep and to wake, never while working */
    pthread_cond_t work_arrived;
    pthread_cond_t work_done;

    Worker workers[]; /* [threads], the caller first */
};

static inline void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb" ::: "memory");
#endif
}

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static bool work_waits(OcrPool *pool) {
    return atomic_load(&pool->waiting) > 0 || atomic_load(&pool->stop);
}

static bool work_ended(OcrPool *pool) {
    return atomic_load(&pool->unfinished) == 0;
}

/* Look for the condition for SPIN_NS; false if it did not come true. */
static bool spin_for(OcrPool *pool, bool (*condition)(OcrPool *)) {
    int64_t end = now_ns() + SPIN_NS;
    do {
        for (int i = 0; i < SPINS_PER_LOOK; i++) {
            if (condition(pool))
                return true;
            relax();
        }
        sched_yield();
    } while (now_ns() < end);
    return false;
}

static void fill_shares(OcrPool *pool, int chunks) {
    uint64_t first = 0;
    for (int t = 0; t < pool->threads; t++) {
        uint64_t end = (uint64_t)chunks * (uint64_t)(t + 1) / (uint64_t)pool->threads;
        atomic_store(&pool->workers[t].share.left, end << 32 | first);
        first = end;
    }
}

/* The first or the last chunk of a share; -1 if none is left. */
static int take_of(Share *share, bool last) {
    uint_fast64_t left = atomic_load(&share->left), rest;
    uint32_t first, end;
    do {
        first = (uint32_t)left;
        end = (uint32_t)(left >> 32);
        if (first == end)
            return -1;
        rest = last ? left - ((uint64_t)1 << 32) : left + 1;
    } while (!atomic_compare_exchange_weak(&share->left, &left, rest));
    return (int)(last ? end - 1 : first);
}

/* The chunk of a thread that owns one. */
static int own_chunk(OcrPool *pool, int thread) {
    int chunk = take_of(&pool->workers[thread].share, false);
    for (int t = 1; chunk < 0; t++)
        chunk = take_of(&pool->workers[(thread + t) % pool->threads].share, true);
    return chunk;
}

/* Work off one chunk; false if none is left. */
static bool take_chunk(OcrPool *pool, int thread) {
    if (atomic_load(&pool->waiting) <= 0)
        return false;
    if (atomic_fetch_sub(&pool->waiting, 1) <= 0)
        return false;
    pool->task(pool->context, own_chunk(pool, thread), thread);
    if (atomic_fetch_sub(&pool->unfinished, 1) == 1 && atomic_load(&pool->caller_sleeps)) {
        pthread_mutex_lock(&pool->lock);
        pthread_cond_signal(&pool->work_done);
        pthread_mutex_unlock(&pool->lock);
    }
    return true;
}

static void *work(void *argument) {
    Worker *worker = argument;
    OcrPool *pool = worker->pool;
    while (!atomic_load(&pool->stop)) {
        while (take_chunk(pool, worker->thread))
            ;
        if (spin_for(pool, work_waits))
            continue;
        pthread_mutex_lock(&pool->lock);
        atomic_fetch_add(&pool->sleepers, 1);
        while (!work_waits(pool))
            pthread_cond_wait(&pool->work_arrived, &pool->lock);
        atomic_fetch_sub(&pool->sleepers, 1);
        pthread_mutex_unlock(&pool->lock);
    }
    return NULL;
}

static void wake(OcrPool *pool, int workers) {
    if (atomic_load(&pool->sleepers) == 0)
        return;
    pthread_mutex_lock(&pool->lock);
    if (workers < pool->threads - 1) {
        for (int i = 0; i < workers; i++)
            pthread_cond_signal(&pool->work_arrived);
    } else {
        pthread_cond_broadcast(&pool->work_arrived);
    }
    pthread_mutex_unlock(&pool->lock);
}

bool (*pool_watched(const OcrPool *pool))(void) {
    return pool->watch;
}

bool pool_interrupted(OcrPool *pool) {
    if (!pool->interrupted && pool->watch)
        pool->interrupted = pool->watch();
    return pool->interrupted;
}

void pool_watch(OcrPool *pool, bool (*interrupted)(void)) {
    pool->watch = interrupted;
    pool->interrupted = false;
}

void pool_run(OcrPool *pool, int chunks, PoolTask task, void *context) {
    if (pool->threads == 1 || chunks <= 1) { /* nobody else, or not worth their attention */
        for (int i = 0; i < chunks && !pool_interrupted(pool); i++)
            task(context, i, 0);
        return;
    }
    if (pool_interrupted(pool))
        return;
    pool->task = task;
    pool->context = context;
    fill_shares(pool, chunks);
    atomic_store(&pool->unfinished, chunks);
    atomic_store(&pool->waiting, chunks);
    wake(pool, chunks - 1);

    while (take_chunk(pool, 0)) {
        if (pool_interrupted(pool)) {
            int skipped = atomic_exchange(&pool->waiting, 0);
            if (skipped > 0)
                atomic_fetch_sub(&pool->unfinished, skipped);
        }
    }
    if (spin_for(pool, work_ended))
        return;
    pthread_mutex_lock(&pool->lock);
    atomic_store(&pool->caller_sleeps, true);
    while (!work_ended(pool))
        pthread_cond_wait(&pool->work_done, &pool->lock);
    atomic_store(&pool->caller_sleeps, false);
    pthread_mutex_unlock(&pool->lock);
}

int pool_threads(const OcrPool *pool) {
    return pool->threads;
}

static OcrCode start_worker(OcrPool *pool, int thread, OcrError *err) {
    Worker *worker = &pool->workers[thread];
    worker->pool = pool;
    worker->thread = thread;
    int failure = pthread_create(&worker->id, NULL, work, worker);
    if (failure)
        return ocr_fail(err, OCR_SYSTEM, "could not start thread %d of %d: %s", thread + 1,
                        pool->threads, strerror(failure));
    return OCR_OK;
}

/* Those that have started, the caller among them. */
static void stop_workers(OcrPool *pool, int started) {
    pthread_mutex_lock(&pool->lock);
    atomic_store(&pool->stop, true);
    pthread_cond_broadcast(&pool->work_arrived);
    pthread_mutex_unlock(&pool->lock);
    for (int i = 1; i < started; i++)
        pthread_join(pool->workers[i].id, NULL);
    pthread_cond_destroy(&pool->work_arrived);
    pthread_cond_destroy(&pool->work_done);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}

OcrCode pool_create(int threads, OcrPool **out, OcrError *err) {
    *out = NULL;
    size_t bytes = sizeof(OcrPool) + (size_t)threads * sizeof(Worker);
    OcrPool *pool = aligned_alloc(CACHE_LINE, (bytes + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE);
    if (!pool)
        return ocr_fail(err, OCR_OUT_OF_MEMORY, "no memory for a pool of %d threads", threads);
    memset(pool, 0, sizeof *pool);
    pool->threads = threads;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->work_arrived, NULL);
    pthread_cond_init(&pool->work_done, NULL);

    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    OcrCode code = OCR_OK;
    int started = 1;
    while (started < threads && (code = start_worker(pool, started, err)) == OCR_OK)
        started++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (code != OCR_OK) {
        stop_workers(pool, started);
        return code;
    }
    *out = pool;
    return OCR_OK;
}

void pool_destroy(OcrPool *pool) {
    if (pool)
        stop_workers(pool, pool->threads);
}
