#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Up to capacity bytes; fewer at the end of the file, -1 on failure. */
static ssize_t read_fully(int fd, char *out, size_t capacity) {
    size_t have = 0;
    while (have < capacity) {
        ssize_t got = read(fd, out + have, capacity - have);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -1;
        if (got == 0)
            break;
        have += (size_t)got;
    }
    return (ssize_t)have;
}

static OcrCode read_open_file(int fd, const char *path, size_t max_bytes, OcrCode too_large,
                              char **bytes, size_t *size, OcrError *err) {
    struct stat status;
    if (fstat(fd, &status) != 0)
        return ocr_fail(err, OCR_MODEL_UNREADABLE, "could not read \"%s\": %s", path,
                        strerror(errno));
    if (!S_ISREG(status.st_mode))
        return ocr_fail(err, OCR_MODEL_UNREADABLE, "\"%s\" is not a regular file", path);
    if ((uintmax_t)status.st_size > max_bytes)
        return ocr_fail(err, too_large, "\"%s\" has %lld bytes, more than %zu", path,
                        (long long)status.st_size, max_bytes);

    char *buffer = malloc((size_t)status.st_size + 1);
    if (!buffer)
        return ocr_fail(err, OCR_OUT_OF_MEMORY, "out of memory while reading \"%s\"", path);
    ssize_t got = read_fully(fd, buffer, (size_t)status.st_size);
    if (got < 0) {
        int problem = errno;
        free(buffer);
        return ocr_fail(err, OCR_MODEL_UNREADABLE, "could not read \"%s\": %s", path,
                        strerror(problem));
    }
    buffer[got] = '\0';
    *bytes = buffer;
    *size = (size_t)got;
    return OCR_OK;
}

OcrCode file_read(const char *path, size_t max_bytes, OcrCode too_large, char **bytes, size_t *size,
                  OcrError *err) {
    /* Without O_NONBLOCK, opening a FIFO would wait for its writer. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        bool missing = errno == ENOENT || errno == ENOTDIR;
        return ocr_fail(err, missing ? OCR_MODEL_MISSING : OCR_MODEL_UNREADABLE,
                        "could not open \"%s\": %s", path, strerror(errno));
    }
    OcrCode code = read_open_file(fd, path, max_bytes, too_large, bytes, size, err);
    close(fd);
    return code;
}
