/*
 * The thread pool. Also meant to be run under ThreadSanitizer: what the tasks
 * write without atomics is read when the loop has ended.
 */
#include "support.h"

#include "kernels/pool.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static OcrPool *pool_of(int threads) {
    OcrPool *pool;
    OcrError err;
    assert_ok(pool_create(threads, &pool, &err), &err);
    assert_int_equal(pool_threads(pool), threads);
    return pool;
}

static void pause_ms(int ms) {
    struct timespec t = {0, ms * 1000000L};
    nanosleep(&t, NULL);
}

/* ---- every chunk once ---- */

#define MAX_CHUNKS 1000

typedef struct Marks {
    int threads;
    int runs[MAX_CHUNKS]; /* how often each chunk was run */
    atomic_int in_use[POOL_MAX_THREADS];
    atomic_int wrong;
} Marks;

static void mark(void *context, int chunk, int thread) {
    Marks *marks = context;
    if (thread < 0 || thread >= marks->threads || atomic_fetch_add(&marks->in_use[thread], 1) != 0)
        atomic_fetch_add(&marks->wrong, 1);
    marks->runs[chunk]++;
    atomic_fetch_sub(&marks->in_use[thread], 1);
}

static void check_loop(OcrPool *pool, Marks *marks, int chunks) {
    memset(marks->runs, 0, sizeof marks->runs);
    pool_run(pool, chunks, mark, marks);
    assert_int_equal(atomic_load(&marks->wrong), 0);
    for (int i = 0; i < MAX_CHUNKS; i++)
        assert_int_equal(marks->runs[i], i < chunks ? 1 : 0);
}

static void test_each_chunk_once(void **state) {
    static Marks marks;
    (void)state;
    for (int threads = 1; threads <= 9; threads += 2) {
        OcrPool *pool = pool_of(threads);
        marks.threads = threads;
        for (int chunks = 0; chunks <= 20; chunks++)
            check_loop(pool, &marks, chunks);
        check_loop(pool, &marks, MAX_CHUNKS);
        pool_destroy(pool);
    }
}

/* ---- who gets which chunk ---- */

#define STUCK_CHUNKS 20

typedef struct Stuck {
    atomic_int held, done;
    int worker; /* the worker's chunk, which lasts as long as the others together */
    int of_caller[STUCK_CHUNKS], count; /* the caller's, in order */
} Stuck;

static void get_stuck(void *context, int chunk, int thread) {
    Stuck *stuck = context;
    if (thread == 0) {
        stuck->of_caller[stuck->count++] = chunk;
        while (atomic_load(&stuck->held) == 0)
            pause_ms(1);
    } else {
        stuck->worker = chunk;
        atomic_store(&stuck->held, 1);
        while (atomic_load(&stuck->done) < STUCK_CHUNKS - 1)
            pause_ms(1);
    }
    atomic_fetch_add(&stuck->done, 1);
}

/* Each thread begins with its share; what a slow one leaves of its own the other takes, last first.
 */
static void test_shares(void **state) {
    OcrPool *pool = pool_of(2);
    const int half = STUCK_CHUNKS / 2;
    (void)state;
    for (int round = 0; round < 20; round++) {
        Stuck stuck = {0};
        pool_run(pool, STUCK_CHUNKS, get_stuck, &stuck);
        assert_int_equal(stuck.worker, half);
        assert_int_equal(stuck.count, STUCK_CHUNKS - 1);
        for (int i = 0; i < half; i++)
            assert_int_equal(stuck.of_caller[i], i);
        for (int i = half; i < STUCK_CHUNKS - 1; i++)
            assert_int_equal(stuck.of_caller[i], STUCK_CHUNKS - 1 - (i - half));
    }
    pool_destroy(pool);
}

/* The pace of decoding: short loops one after the other, and pauses in which workers fall asleep.
 */
static void test_many_loops(void **state) {
    static Marks marks;
    OcrPool *pool = pool_of(4);
    (void)state;
    marks.threads = 4;
    for (int i = 0; i < 5000; i++) {
        check_loop(pool, &marks, i % 7);
        if (i % 500 == 0)
            pause_ms(3);
    }
    pool_destroy(pool);
}

static void test_pools_come_and_go(void **state) {
    static Marks marks;
    (void)state;
    for (int i = 0; i < 200; i++) {
        int threads = 1 + i % 6;
        OcrPool *pool = pool_of(threads);
        marks.threads = threads;
        if (i % 3)
            check_loop(pool, &marks, i);
        pool_destroy(pool);
    }
    pool_destroy(NULL);
}

/* ---- signals ---- */

typedef struct Meeting {
    int guests;
    atomic_int arrived;
    atomic_int open; /* workers in which some signal is not blocked */
    pthread_t caller;
} Meeting;

/* Waits for the others, so that every thread has one chunk. */
static void meet(void *context, int chunk, int thread) {
    Meeting *meeting = context;
    sigset_t mask;
    (void)chunk;
    pthread_sigmask(SIG_BLOCK, NULL, &mask);
    if (thread == 0) {
        if (!pthread_equal(pthread_self(), meeting->caller) || sigismember(&mask, SIGUSR1))
            atomic_fetch_add(&meeting->open, 1);
    } else {
        static const int signals[] = {SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGALRM, SIGHUP, SIGCHLD};
        for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
            if (!sigismember(&mask, signals[i]))
                atomic_fetch_add(&meeting->open, 1);
    }
    atomic_fetch_add(&meeting->arrived, 1);
    for (int ms = 0; atomic_load(&meeting->arrived) < meeting->guests && ms < 10000; ms++)
        pause_ms(1);
}

static void test_workers_block_signals(void **state) {
    sigset_t before, after;
    Meeting meeting = {.guests = 5, .caller = pthread_self()};
    (void)state;
    pthread_sigmask(SIG_BLOCK, NULL, &before);
    OcrPool *pool = pool_of(5);
    pthread_sigmask(SIG_BLOCK, NULL, &after);
    for (int signal = 1; signal < NSIG; signal++)
        assert_int_equal(sigismember(&before, signal), sigismember(&after, signal));
    pool_run(pool, 5, meet, &meeting);
    assert_int_equal(atomic_load(&meeting.arrived), 5);
    assert_int_equal(atomic_load(&meeting.open), 0);
    pool_destroy(pool);
}

/* ---- interrupts ---- */

static pthread_t caller;
static int polls, polls_before_interrupt;
static atomic_int strangers; /* calls by another thread */

static bool interrupted(void) {
    if (!pthread_equal(pthread_self(), caller))
        atomic_fetch_add(&strangers, 1);
    return ++polls > polls_before_interrupt;
}

static void count(void *context, int chunk, int thread) {
    (void)chunk, (void)thread;
    atomic_fetch_add((atomic_int *)context, 1);
    pause_ms(1);
}

/* So many that the others cannot work them off while the caller does not get a core. */
#define LONG_LOOP 100000

static void test_interrupt(void **state) {
    (void)state;
    caller = pthread_self();
    for (int threads = 1; threads <= 4; threads++) {
        atomic_int runs = 0;
        OcrPool *pool = pool_of(threads);
        polls = 0;
        polls_before_interrupt = 5;
        pool_watch(pool, interrupted);
        pool_run(pool, LONG_LOOP, count, &runs);
        int done = atomic_load(&runs);
        assert_true(done > 0 && done < LONG_LOOP);
        assert_true(pool_interrupted(pool));
        assert_int_equal(polls, 6);

        /* It stays so, and is not asked again. */
        pool_run(pool, 10, count, &runs);
        assert_int_equal(atomic_load(&runs), done);
        assert_int_equal(polls, 6);

        /* Until the predicate is set again. */
        polls = 0;
        polls_before_interrupt = 1000000;
        pool_watch(pool, interrupted);
        assert_false(pool_interrupted(pool));
        pool_run(pool, 10, count, &runs);
        assert_int_equal(atomic_load(&runs), done + 10);

        pool_watch(pool, NULL);
        pool_run(pool, 10, count, &runs);
        assert_int_equal(atomic_load(&runs), done + 20);
        assert_false(pool_interrupted(pool));
        pool_destroy(pool);
    }
    assert_int_equal(atomic_load(&strangers), 0);
}

static void test_interrupted_before(void **state) {
    atomic_int runs = 0;
    OcrPool *pool = pool_of(3);
    (void)state;
    caller = pthread_self();
    polls = 0;
    polls_before_interrupt = 0;
    pool_watch(pool, interrupted);
    pool_run(pool, 10, count, &runs);
    assert_int_equal(atomic_load(&runs), 0);
    pool_destroy(pool);
}

/* ---- failure ---- */

/* No room for the stacks of 200 threads: an error, and those that were started have ended. */
static void test_no_room(void **state) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    (void)state;
    skip(); /* the sanitizers themselves need the room */
#else
    struct rlimit before, small;
    long pages;
    (void)state;
    FILE *f = fopen("/proc/self/statm", "r");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%ld", &pages), 1);
    fclose(f);
    getrlimit(RLIMIT_AS, &before);
    small = before;
    small.rlim_cur = (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE) + (64 << 20);
    assert_int_equal(setrlimit(RLIMIT_AS, &small), 0);
    OcrPool *pool = NULL;
    OcrError err = {0};
    OcrCode code = pool_create(200, &pool, &err);
    setrlimit(RLIMIT_AS, &before);
    assert_fails(code, &err, OCR_SYSTEM, "thread");
    assert_null(pool);
#endif
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_chunk_once),
        cmocka_unit_test(test_shares),
        cmocka_unit_test(test_many_loops),
        cmocka_unit_test(test_pools_come_and_go),
        cmocka_unit_test(test_workers_block_signals),
        cmocka_unit_test(test_interrupt),
        cmocka_unit_test(test_interrupted_before),
        cmocka_unit_test(test_no_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
