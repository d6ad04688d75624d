/*
 * A main for the fuzzers where libFuzzer is not at hand: runs the entry once
 * over each file named.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END) != 0)
        return -1;
    size_t size = (size_t)ftell(file);
    uint8_t *data = malloc(size > 0 ? size : 1); /* exactly, so that ASan sees a read beyond it */
    rewind(file);
    int result = fread(data, 1, size, file) == size ? 0 : -1;
    fclose(file);
    if (result == 0)
        LLVMFuzzerTestOneInput(data, size);
    free(data);
    return result;
}

int main(int count, char **paths) {
    for (int i = 1; i < count; i++)
        if (replay(paths[i]) != 0) {
            fprintf(stderr, "cannot read %s\n", paths[i]);
            return 1;
        }
    printf("%d inputs\n", count - 1);
    return 0;
}
