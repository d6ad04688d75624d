#include "postgres.h"
#include "pg/compat.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/hashfn.h"
#include "lib/stringinfo.h"
#include "storage/fd.h"
#include "utils/acl.h"

#include "pg/model_folder.h"

#define WARM_CHUNK (4 * 1024 * 1024)

bool model_name_is_valid(const char *name) {
    if (is_absolute_path(name))
        return true;
    return name[0] != '\0' && name[0] != '.' && first_dir_separator(name) == NULL;
}

char *model_directory(void) {
    char share[MAXPGPATH];

    get_share_path(my_exec_path, share);
    return psprintf("%s/extension/deepseek_ocr/models", share);
}

char *model_path(const char *name) {
    char *path =
        is_absolute_path(name) ? pstrdup(name) : psprintf("%s/%s", model_directory(), name);

    canonicalize_path(path);
    return path;
}

bool model_is_folder(const char *name) {
    struct stat status;

    return stat(model_path(name), &status) == 0 && S_ISDIR(status.st_mode);
}

bool model_paths_are_visible(void) {
    return has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_SETTINGS);
}

const char *model_shown_name(const char *name) {
    return model_paths_are_visible() ? name : last_dir_separator(model_path(name)) + 1;
}

const char *model_message(const char *name, const char *message) {
    const char *path = model_path(name);
    StringInfoData shown;
    const char *found;

    if (model_paths_are_visible())
        return message;
    initStringInfo(&shown);
    while ((found = strstr(message, path)) != NULL) {
        appendBinaryStringInfo(&shown, message, found - message);
        appendStringInfoString(&shown, model_shown_name(name));
        message = found + strlen(path);
    }
    appendStringInfoString(&shown, message);
    return shown.data;
}

typedef void (*FileVisitor)(const char *path, const char *name, const struct stat *status,
                            void *arg);

/* Calls visit for each regular file; false if there is no such folder. */
static bool visit_files(const char *folder, FileVisitor visit, void *arg) {
    DIR *dir = AllocateDir(folder);
    struct dirent *entry;

    if (dir == NULL)
        return false;
    while ((entry = ReadDirExtended(dir, folder, LOG)) != NULL) {
        char path[MAXPGPATH];
        struct stat status;

        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        if (stat(path, &status) == 0 && S_ISREG(status.st_mode))
            visit(path, entry->d_name, &status, arg);
    }
    FreeDir(dir);
    return true;
}

/* A sum, since a folder lists its files in no particular order. */
static void add_file(const char *path, const char *name, const struct stat *status, void *arg) {
    uint64 identity[] = {status->st_dev,          status->st_ino,          status->st_size,
                         status->st_mtim.tv_sec,  status->st_mtim.tv_nsec, status->st_ctim.tv_sec,
                         status->st_ctim.tv_nsec, status->st_mode};

    *(uint64 *)arg +=
        hash_bytes_extended((const unsigned char *)identity, sizeof identity,
                            hash_bytes_extended((const unsigned char *)name, strlen(name), 0));
}

uint64 model_folder_stamp(const char *path) {
    uint64 stamp = 0;

    return visit_files(path, add_file, &stamp) ? stamp : 0;
}

static void warm_file(const char *path, const char *name, const struct stat *status, void *arg) {
    const char *suffix = strrchr(name, '.');
    char *buffer;
    ssize_t got;
    int file;

    if (suffix == NULL || strcmp(suffix, ".safetensors") != 0)
        return;
    file = OpenTransientFile(path, O_RDONLY | PG_BINARY);
    if (file < 0)
        ereport(ERROR, (errcode_for_file_access(),
                        errmsg("could not open file \"%s\": %m", model_shown_name(path))));
    buffer = palloc(WARM_CHUNK);
    while ((got = read(file, buffer, WARM_CHUNK)) > 0)
        CHECK_FOR_INTERRUPTS();
    if (got < 0)
        ereport(ERROR, (errcode_for_file_access(),
                        errmsg("could not read file \"%s\": %m", model_shown_name(path))));
    pfree(buffer);
    CloseTransientFile(file);
}

void model_folder_warm(const char *path) {
    visit_files(path, warm_file, NULL);
}
