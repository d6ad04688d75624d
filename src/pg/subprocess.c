#include "postgres.h"
#include "pg/compat.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/ilist.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/memutils.h"

#include "pg/subprocess.h"

/* What the program may write to files, of which it has one, for complaints. */
#define MAX_FILE_BYTES (64 * 1024)
/* The part of it in which the last line is looked for. */
#define TAIL_BYTES 1024

/* How often an ending program is looked at; its end sends no event. */
#define WAIT_MS 10

#define DEFAULT_PATH "/usr/local/bin:/usr/bin:/bin"

struct Subprocess {
    dlist_node link; /* in `running` */
    MemoryContext context;
    pid_t pid;       /* leader of the process group; 0 once it is reaped */
    int output;      /* our end of the pipe; -1 if closed */
    File complaints; /* closed by subprocess_end, or with the transaction */
    int status;      /* of a process that was reaped */
};

/* For the end of the backend, which does not reset the memory contexts of its last query. */
static dlist_head running = DLIST_STATIC_INIT(running);

/* ---- which program ---- */

static const char *search_path(void) {
    const char *path = getenv("PATH");

    return path != NULL && path[0] != '\0' ? path : DEFAULT_PATH;
}

static bool is_program(const char *path) {
    struct stat status;

    return stat(path, &status) == 0 && S_ISREG(status.st_mode) && access(path, X_OK) == 0;
}

const char *subprocess_find(const char *word) {
    if (strchr(word, '/'))
        return word[0] == '/' && is_program(word) ? word : NULL;
    for (const char *folder = search_path(); *folder;) {
        size_t length = strcspn(folder, ":");
        const char *path = psprintf("%.*s/%s", (int)length, folder, word);

        if (folder[0] == '/' && is_program(path))
            return path;
        folder += length;
        folder += *folder == ':';
    }
    return NULL;
}

/* ---- the child: between fork and exec only calls that are safe in signal handlers ---- */

typedef struct Start {
    const char *program;
    char *const *arguments;
    char *environment[3];
    int input, output, complaints; /* to become 0, 1, 2 */
    int open_max;                  /* all open files are below it */
    pid_t parent;
    SubprocessLimits limits;
} Start;

static void limit(int resource, rlim_t value) {
    struct rlimit both = {value, value};

    setrlimit(resource, &both);
}

static void close_other_files(int open_max) {
#ifdef SYS_close_range
    if (syscall(SYS_close_range, 3U, ~0U, 0U) == 0)
        return;
#endif
    for (int fd = 3; fd < open_max; fd++)
        close(fd);
}

/* The backend's handlers must not run here; its ignored signals would stay ignored. */
static void reset_signals(void) {
    struct sigaction plain = {.sa_handler = SIG_DFL}, ignored = {.sa_handler = SIG_IGN};
    sigset_t none;

    for (int number = 1; number < NSIG; number++)
        sigaction(number, &plain, NULL);
    sigaction(SIGXFSZ, &ignored, NULL); /* too many complaints are merely lost */
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static _Noreturn void run_child(const Start *start) {
    static const char excuse[] = "the program could not be executed\n";

    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (getppid() != start->parent) /* it ended before the first prctl */
        _exit(127);
    if (dup2(start->input, 0) < 0 || dup2(start->output, 1) < 0 || dup2(start->complaints, 2) < 0 ||
        chdir("/") != 0)
        _exit(127);
    close_other_files(start->open_max);
    limit(RLIMIT_CORE, 0);
    limit(RLIMIT_FSIZE, MAX_FILE_BYTES);
    limit(RLIMIT_AS, start->limits.memory);
    if (start->limits.cpu_seconds > 0)
        limit(RLIMIT_CPU, start->limits.cpu_seconds);
    reset_signals();
    execve(start->program, start->arguments, start->environment);
    if (write(2, excuse, sizeof excuse - 1) < 0)
        _exit(126);
    _exit(127);
}

/* ---- the parent ---- */

/* All that is not closed by the end of the transaction; for a second time it does nothing. */
static void kill_and_reap(Subprocess *process) {
    if (process->output >= 0) {
        close(process->output);
        ReleaseExternalFD();
        process->output = -1;
    }
    if (process->pid > 0) {
        kill(-process->pid, SIGKILL);
        while (waitpid(process->pid, &process->status, 0) < 0 && errno == EINTR)
            ;
        process->pid = 0;
    }
}

static void forget(void *process) {
    kill_and_reap(process);
    dlist_delete(&((Subprocess *)process)->link);
}

static void kill_all(int code, Datum argument) {
    dlist_iter at;

    dlist_foreach(at, &running) kill_and_reap(dlist_container(Subprocess, link, at.cur));
}

static Subprocess *create(void) {
    static bool prepared = false;
    MemoryContext context =
        AllocSetContextCreate(CurrentMemoryContext, "deepseek_ocr process", ALLOCSET_SMALL_SIZES);
    Subprocess *process = MemoryContextAllocZero(context, sizeof *process);
    MemoryContextCallback *callback = MemoryContextAllocZero(context, sizeof *callback);

    if (!prepared)
        on_proc_exit(kill_all, (Datum)0);
    prepared = true;
    process->context = context;
    process->output = -1;
    dlist_push_tail(&running, &process->link);
    callback->func = forget;
    callback->arg = process;
    MemoryContextRegisterResetCallback(context, callback);
    process->complaints = OpenTemporaryFile(false);
    return process;
}

/* Returns the end that is to be written; the other one is the process's. */
static int open_pipe(Subprocess *process) {
    int ends[2];

    if (!AcquireExternalFD())
        ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_RESOURCES),
                        errmsg("too many open files to start a program")));
    if (pipe2(ends, O_CLOEXEC) != 0) {
        int saved = errno;

        ReleaseExternalFD();
        errno = saved;
        ereport(ERROR, (errcode_for_socket_access(), errmsg("could not create pipe: %m")));
    }
    process->output = ends[0];
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    return ends[1];
}

static int open_path(const char *path, int flags) {
    int fd = OpenTransientFile(path, flags | PG_BINARY);

    if (fd < 0)
        ereport(ERROR, (errcode_for_file_access(), errmsg("could not open file \"%s\": %m", path)));
    return fd;
}

/*
 * A number above that of each open file. The limit of open files can be a billion, too many to
 * close one by one.
 */
static int open_files(void) {
    DIR *folder = AllocateDir("/proc/self/fd");
    struct dirent *entry;
    int most = 0;

    if (folder == NULL)
        return (int)sysconf(_SC_OPEN_MAX);
    while ((entry = ReadDir(folder, "/proc/self/fd")) != NULL)
        most = Max(most, atoi(entry->d_name));
    FreeDir(folder);
    return most + 1;
}

static pid_t fork_child(const Start *start) {
    sigset_t all, before;
    pid_t pid;

    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    pid = fork();
    if (pid == 0)
        run_child(start);
    sigprocmask(SIG_SETMASK, &before, NULL);
    return pid;
}

Subprocess *subprocess_start(const char *program, char *const *arguments, const char *input,
                             SubprocessLimits limits) {
    Subprocess *process = create();
    Start start = {.program = program,
                   .arguments = arguments,
                   .environment = {psprintf("PATH=%s", search_path()), "LC_ALL=C", NULL},
                   .parent = getpid(),
                   .limits = limits};
    int saved;

    start.input = open_path(input, O_RDONLY);
    start.complaints = open_path(FilePathName(process->complaints), O_WRONLY | O_APPEND);
    start.output = open_pipe(process);
    start.open_max = open_files();
    process->pid = fork_child(&start);
    saved = errno;
    close(start.output);
    CloseTransientFile(start.complaints);
    CloseTransientFile(start.input);
    if (process->pid < 0) {
        process->pid = 0;
        errno = saved;
        ereport(ERROR, (errcode(ERRCODE_SYSTEM_ERROR), errmsg("could not start a program: %m")));
    }
    setpgid(process->pid, process->pid); /* whoever of the two comes first */
    return process;
}

/* Sleep until there may be output, if fd is not PGINVALID, or something else to do. */
static void wait_a_moment(pgsocket fd, long milliseconds) {
    int events = WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH;

    if (fd != PGINVALID_SOCKET)
        events |= WL_SOCKET_READABLE;
    if (WaitLatchOrSocket(MyLatch, events, fd, milliseconds, PG_WAIT_EXTENSION) & WL_LATCH_SET)
        ResetLatch(MyLatch);
    CHECK_FOR_INTERRUPTS();
}

static long milliseconds_until(TimestampTz deadline) {
    TimestampTz now = GetCurrentTimestamp();

    return deadline <= now ? 0 : (long)Min((deadline - now) / 1000 + 1, INT_MAX);
}

ssize_t subprocess_read(Subprocess *process, void *buffer, size_t size, TimestampTz deadline) {
    for (;;) {
        ssize_t got = read(process->output, buffer, size);
        long rest;

        if (got >= 0)
            return got;
        if (errno == EINTR)
            continue;
        if (errno != EAGAIN && errno != EWOULDBLOCK)
            ereport(ERROR, (errcode_for_file_access(), errmsg("could not read from pipe: %m")));
        rest = milliseconds_until(deadline);
        if (rest == 0)
            return -1;
        wait_a_moment(process->output, rest);
    }
}

/* Has the leader of the group ended? It stays there to be reaped with the rest. */
static bool has_ended(pid_t pid) {
    siginfo_t info = {0};

    return waitid(P_PID, pid, &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid == pid;
}

int subprocess_wait(Subprocess *process, TimestampTz deadline) {
    while (process->pid > 0 && !has_ended(process->pid) && milliseconds_until(deadline) > 0)
        wait_a_moment(PGINVALID_SOCKET, WAIT_MS);
    kill_and_reap(process);
    return process->status;
}

const char *subprocess_complaint(Subprocess *process) {
    char *tail = palloc(TAIL_BYTES + 1), *line;
    off_t size = FileSize(process->complaints);
    int length = FileRead(process->complaints, tail, TAIL_BYTES, Max(size - TAIL_BYTES, 0),
                          PG_WAIT_EXTENSION);

    while (length > 0 && isspace((unsigned char)tail[length - 1]))
        length--;
    tail[Max(length, 0)] = '\0';
    line = strrchr(tail, '\n');
    return line ? line + 1 : tail;
}

void subprocess_end(Subprocess *process) {
    kill_and_reap(process);
    FileClose(process->complaints);
    MemoryContextDelete(process->context);
}
