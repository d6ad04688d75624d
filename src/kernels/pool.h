/*
 * pool.h - the engine's threads.
 *
 * One pool per process, started when the first page is read (never at library
 * load: under shared_preload_libraries that is the postmaster). Workers block
 * every signal and run only engine code. The calling thread works too, so a
 * pool of one has no threads at all.
 */
#ifndef OCR_POOL_H
#define OCR_POOL_H

#include "base/status.h"

#include <stdbool.h>

#define POOL_MAX_THREADS 256

typedef struct OcrPool OcrPool;

/* One chunk of a loop. `thread` is 0..threads-1: which private scratch to use. */
typedef void (*PoolTask)(void *context, int chunk, int thread);

/* threads: 1..POOL_MAX_THREADS, the calling thread included. */
OcrCode pool_create(int threads, OcrPool **out, OcrError *err);
void pool_destroy(OcrPool *pool); /* joins the workers; NULL is allowed */
int pool_threads(const OcrPool *pool);

/*
 * A predicate polled between chunks by the calling thread alone. Once it
 * returns true the loop in progress and all later ones skip their remaining
 * chunks, until the predicate is set again.
 */
void pool_watch(OcrPool *pool, bool (*interrupted)(void));
bool pool_interrupted(OcrPool *pool);
/* The predicate itself, for work outside a loop; NULL if there is none. */
bool (*pool_watched(const OcrPool *pool))(void);

/*
 * Run task for chunk 0..chunks-1 on all threads; returns when all have ended. Each
 * thread goes through a share of chunks that follow each other, and at its end takes
 * chunks of the others' one by one, so a thread that loses its core delays no more
 * than the chunk it holds.
 */
void pool_run(OcrPool *pool, int chunks, PoolTask task, void *context);

#endif
