#include "postgres.h"
#include "pg/compat.h"

#include <sched.h>
#include <unistd.h>

#include "storage/lock.h"
#include "storage/lwlock.h"
#include "storage/proc.h"

#include "pg/errors.h"
#include "pg/settings.h"
#include "pg/threads.h"

static OcrPool *pool;
static int pool_size;
static int pins;         /* while there are any, threads and instructions stay as they are */
static int pinned_count; /* the threads */
static OcrCpuLevel cpu_limit = OCR_CPU_AMX; /* that is wanted */

/* Cores that the system lets this process run on. */
static int usable_cores(void) {
    cpu_set_t cores;

    if (sched_getaffinity(0, sizeof cores, &cores) == 0)
        return Max(CPU_COUNT(&cores), 1);
    return Max((int)sysconf(_SC_NPROCESSORS_ONLN), 1);
}

/*
 * Processes that execute this query: its leader and the workers that run now,
 * which are the members of the leader's lock group.
 */
static int query_processes(void) {
    PGPROC *leader = MyProc->lockGroupLeader;
    LWLock *lock;
    dlist_iter iter;
    int count = 0;

    if (leader == NULL)
        return 1;
    lock = LockHashPartitionLockByProc(leader);
    LWLockAcquire(lock, LW_SHARED);
    dlist_foreach(iter, &leader->lockGroupMembers) count++;
    LWLockRelease(lock);
    return Max(count, 1);
}

int threads_wanted(void) {
    if (pins > 0)
        return pinned_count;
    if (setting_threads > 0)
        return setting_threads;
    return Min(Max(usable_cores() / query_processes(), 1), SETTING_MAX_THREADS);
}

void threads_limit_cpu(OcrCpuLevel level) {
    cpu_limit = level;
    if (pins == 0)
        ocr_cpu_limit(level);
}

/* Asked by the engine from the backend's own thread. True only if CHECK_FOR_INTERRUPTS will act. */
static bool interrupted(void) {
    return (QueryCancelPending || ProcDiePending || compat_timeout_pending()) &&
           INTERRUPTS_CAN_BE_PROCESSED();
}

OcrPool *threads_pool(int count) {
    OcrError err;

    if (pool != NULL && pool_size != count) {
        ocr_pool_destroy(pool);
        pool = NULL;
    }
    if (pool == NULL) {
        if (ocr_pool_create(count, &pool, &err) != OCR_OK) {
            pool = NULL;
            error_raise(&err);
        }
        pool_size = count;
    }
    ocr_pool_watch(pool, interrupted);
    return pool;
}

static void unpin(void *arg) {
    if (--pins == 0)
        ocr_cpu_limit(cpu_limit);
}

void threads_pin(MemoryContext context) {
    MemoryContextCallback *callback = MemoryContextAllocZero(context, sizeof *callback);

    callback->func = unpin;
    MemoryContextRegisterResetCallback(context, callback);
    pinned_count = threads_wanted();
    pins++;
}
