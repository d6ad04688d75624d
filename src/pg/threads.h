/*
 * threads.h - the engine's threads in this backend.
 *
 * They run engine code alone: no PostgreSQL call, no signal. They are started
 * when the first page is read, never at library load, which under
 * shared_preload_libraries happens in the postmaster.
 */
#ifndef PG_THREADS_H
#define PG_THREADS_H

#include "engine.h"

/*
 * Threads for the page at hand: deepseek_ocr.threads, or this process's share
 * of the cores, since the workers of a parallel query read pages side by side.
 */
int threads_wanted(void);

/*
 * The process's pool with that many threads, as many as are wanted; long work in it answers to
 * cancellation. Valid until the next call, or as long as it is pinned.
 */
OcrPool *threads_pool(int count);

/* Use no instructions above this level, from now on or when nothing is pinned any more. */
void threads_limit_cpu(OcrCpuLevel level);

/* Keep number of threads, pool and level of instructions until the memory context is reset. */
void threads_pin(MemoryContext context);

#endif
