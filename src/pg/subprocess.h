/*
 * subprocess.h - a program that a backend starts, reads from, and never leaves behind.
 *
 * The program gets a file as standard input, a pipe as standard output and a
 * temporary file for its complaints; nothing else of the backend: no other file,
 * no socket, no signal handler, an environment of two variables. It runs in a
 * process group of its own, within limits, and cannot outlive the backend. (A
 * backend that dies of SIGKILL kills no group: the kernel ends the program, and
 * children that it may have find the pipe closed.)
 *
 * A subprocess belongs to the memory context in which it was started: when that
 * is reset, by an error or a cancel too, the group is killed and reaped.
 */
#ifndef PG_SUBPROCESS_H
#define PG_SUBPROCESS_H

#include "utils/timestamp.h"

typedef struct Subprocess Subprocess;

typedef struct SubprocessLimits {
    uint64 memory;      /* bytes of address space */
    uint64 cpu_seconds; /* 0: no limit */
} SubprocessLimits;

/*
 * The program's file: the word itself if it is an absolute path, what is found in PATH if it has no
 * slash; NULL if there is none that may be executed.
 */
const char *subprocess_find(const char *word);

/* arguments: NULL at the end, the program's name first. input: path of the file to be read. */
Subprocess *subprocess_start(const char *program, char *const *arguments, const char *input,
                             SubprocessLimits limits);

/* Some of its output, at most `size` bytes: 0 at the end, -1 if nothing came before the deadline.
 */
ssize_t subprocess_read(Subprocess *process, void *buffer, size_t size, TimestampTz deadline);

/* Wait for its end, or bring it about at the deadline; what wait(2) says of it. */
int subprocess_wait(Subprocess *process, TimestampTz deadline);

/* The last line of its complaints, palloc'ed; "" if there are none. */
const char *subprocess_complaint(Subprocess *process);

/* End it if it still runs, and free what it has taken. */
void subprocess_end(Subprocess *process);

#endif
