/*
 * A tokenizer.json is the input. One that is accepted must encode and decode:
 * the bytes of the file itself as the prompt, and every id.
 */
#include "base/character.h"
#include "model/tokenizer.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define VOCABULARY 2048
#define MAX_IDS 8192

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition) {
    if (!condition)
        abort();
}

static void use(const Tokenizer *tokenizer, const char *text, size_t size) {
    static int ids[MAX_IDS];
    OcrError err;
    int count = 0;
    require(tokenizer_image_id(tokenizer) >= 0 && tokenizer_image_id(tokenizer) < VOCABULARY);
    if (tokenizer_encode(tokenizer, text, size, ids, MAX_IDS, &count, &err) == OCR_OK) {
        for (int i = 0; i < count && i < MAX_IDS; i++)
            require(ids[i] >= 0 && ids[i] < VOCABULARY);
    }
    for (int id = 0; id < VOCABULARY; id++)
        ids[id] = id;
    size_t length = tokenizer_decode(tokenizer, ids, VOCABULARY, NULL, 0);
    char *out = malloc(length + 1);
    require(out && tokenizer_decode(tokenizer, ids, VOCABULARY, out, length) == length);
    for (size_t i = 0; i < length;) {
        int character = utf8_character(out + i, length - i);
        require(character > 0);
        i += (size_t)character;
    }
    free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char path[64];
    TokenizerFile *file;
    OcrError err;
    int memory = memfd_create("tokenizer.json", 0);
    if (memory < 0)
        return 0;
    snprintf(path, sizeof path, "/proc/self/fd/%d", memory);
    if (write(memory, data, size) == (ssize_t)size &&
        tokenizer_file_read(path, VOCABULARY, &file, &err) == OCR_OK) {
        Arena measure = ARENA_MEASURE;
        tokenizer_build(file, &measure);
        Arena arena = {aligned_alloc(ARENA_ALIGNMENT, measure.used), 0};
        if (arena.base) {
            Tokenizer *tokenizer = tokenizer_build(file, &arena);
            require(arena.used == measure.used);
            use(tokenizer, (const char *)data, size);
            tokenizer_release(tokenizer);
        }
        free(arena.base);
        tokenizer_file_close(file);
    }
    close(memory);
    return 0;
}
