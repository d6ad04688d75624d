#include "postgres.h"
#include "pg/compat.h"

#include "storage/ipc.h"
#include "storage/shmem.h"

#include "pg/shared.h"

static SharedArea *const *areas; /* [area_count] */
static int area_count;
static shmem_request_hook_type previous_request_hook;
static shmem_startup_hook_type previous_startup_hook;

/* Once, before the server knows how much memory it will have. */
static void request(void) {
    if (previous_request_hook)
        previous_request_hook();
    for (int i = 0; i < area_count; i++) {
        RequestAddinShmemSpace(MAXALIGN(areas[i]->bytes));
        RequestNamedLWLockTranche(areas[i]->name, 1);
    }
}

/* When the memory is there, and again when a crash made the server begin anew. */
static void startup(void) {
    bool found;

    if (previous_startup_hook)
        previous_startup_hook();
    LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
    for (int i = 0; i < area_count; i++) {
        SharedArea *area = areas[i];

        area->memory = ShmemInitStruct(area->name, area->bytes, &found);
        if (!found)
            memset(area->memory, 0, area->bytes);
        area->lock = &GetNamedLWLockTranche(area->name)->lock;
    }
    LWLockRelease(AddinShmemInitLock);
}

void shared_reserve(SharedArea *const *list, int count) {
    if (!process_shared_preload_libraries_in_progress)
        return;
    areas = list;
    area_count = count;
    previous_startup_hook = shmem_startup_hook;
    shmem_startup_hook = startup;
    compat_on_shmem_request(&previous_request_hook, request);
}
