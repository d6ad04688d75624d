/*
 * shared.h - the extension's part of the server's shared memory.
 *
 * The server lays its memory out once, when it starts, so there is such a part
 * only if the library is in shared_preload_libraries. Who wants some of it
 * defines a SharedArea and puts it on module.c's list. In each backend
 * area.memory then is that memory; without preloading it stays NULL, and what
 * to do then is up to the area's owner.
 *
 * An area does not grow and is not saved: it begins as zeros when the server
 * starts, also after a crash, so zeros must be a valid state of what lies in
 * it. Pointers into it are valid in all processes.
 */
#ifndef PG_SHARED_H
#define PG_SHARED_H

#include "storage/lwlock.h"

typedef struct SharedArea {
    const char *name; /* in pg_shmem_allocations, and of the lock as a wait event */
    Size bytes;
    void *memory; /* NULL: not preloaded */
    LWLock *lock; /* for the owner to guard the memory with */
} SharedArea;

/* Once, from _PG_init; list and areas must live as long as the process. */
void shared_reserve(SharedArea *const *areas, int count);

#endif
