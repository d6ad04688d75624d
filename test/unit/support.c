#include "support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void assert_ok(OcrCode code, const OcrError *err) {
    if (code != OCR_OK)
        fail_msg("code %d: %s", (int)code, err->message);
}

void assert_fails(OcrCode code, const OcrError *err, OcrCode expected, const char *part) {
    if (code == OCR_OK)
        fail_msg("no error, expected code %d", (int)expected);
    if (code != expected || err->code != expected || !strstr(err->message, part))
        fail_msg("code %d (%d): \"%s\"; expected %d: \"%s\"", (int)code, (int)err->code,
                 err->message, (int)expected, part);
}

OcrBytes read_file(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file)
        fail_msg("cannot open %s", path);
    fseek(file, 0, SEEK_END);
    size_t size = (size_t)ftell(file);
    rewind(file);
    uint8_t *data = malloc(size);
    assert_true(size == 0 || fread(data, 1, size, file) == size);
    fclose(file);
    return (OcrBytes){data, size};
}

void free_bytes(OcrBytes bytes) {
    free((void *)bytes.data);
}

void *keep_block(void *owner, size_t bytes) {
    void **block = owner;
    return *block = malloc(bytes);
}

const char *golden_path(const char *name) {
    static char path[4096];
    snprintf(path, sizeof path, "%s/%s", GOLDENS, name);
    return path;
}

json_t *golden_json(const char *name) {
    json_error_t error;
    json_t *root = json_load_file(golden_path(name), 0, &error);
    if (!root)
        fail_msg("%s:%d: %s", name, error.line, error.text);
    return root;
}

static uint32_t rotate(uint32_t x, int n) {
    return x >> n | x << (32 - n);
}

static void sha256_block(uint32_t state[8], const uint8_t block[64]) {
    static const uint32_t round_constants[64] = {
        0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4,
        0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe,
        0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f,
        0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7,
        0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc,
        0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b,
        0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116,
        0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
        0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7,
        0xc67178f2};
    uint32_t w[64], s[8];
    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 |
               (uint32_t)block[4 * i + 2] << 8 | block[4 * i + 3];
    for (int i = 16; i < 64; i++)
        w[i] = w[i - 16] + w[i - 7] +
               (rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3) +
               (rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10);
    memcpy(s, state, sizeof s);
    for (int i = 0; i < 64; i++) {
        uint32_t t = s[7] + (rotate(s[4], 6) ^ rotate(s[4], 11) ^ rotate(s[4], 25)) +
                     ((s[4] & s[5]) ^ (~s[4] & s[6])) + round_constants[i] + w[i];
        uint32_t u = (rotate(s[0], 2) ^ rotate(s[0], 13) ^ rotate(s[0], 22)) +
                     ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
        memmove(s + 1, s, 7 * sizeof *s);
        s[4] += t;
        s[0] = t + u;
    }
    for (int i = 0; i < 8; i++)
        state[i] += s[i];
}

/* FIPS 180-4 */
void sha256_hex(const void *data, size_t size, char text[65]) {
    uint32_t state[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                         0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    const uint8_t *bytes = data;
    size_t whole = size / 64, rest = size % 64;
    for (size_t i = 0; i < whole; i++)
        sha256_block(state, bytes + 64 * i);

    uint8_t tail[128] = {0};
    size_t tail_blocks = rest < 56 ? 1 : 2;
    if (rest > 0)
        memcpy(tail, bytes + 64 * whole, rest);
    tail[rest] = 0x80;
    for (int i = 0; i < 8; i++)
        tail[64 * tail_blocks - 1 - i] = (uint8_t)((uint64_t)size * 8 >> 8 * i);
    for (size_t i = 0; i < tail_blocks; i++)
        sha256_block(state, tail + 64 * i);

    for (int i = 0; i < 8; i++)
        snprintf(text + 8 * i, 9, "%08x", state[i]);
}

uint64_t random_next(uint64_t *state) {
    uint64_t z = *state += 0x9E3779B97F4A7C15;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
    z = (z ^ z >> 27) * 0x94D049BB133111EB;
    return z ^ z >> 31;
}

int random_between(uint64_t *state, int low, int high) {
    return low + (int)(random_next(state) % (uint64_t)((int64_t)high - low + 1));
}

void round_to_integers(const float *x, int count, int most, float *out) {
    enum { BLOCK = 64 };
    for (int first = 0; first < count; first += BLOCK) {
        int end = first + BLOCK < count ? first + BLOCK : count;
        float largest = 0;
        for (int k = first; k < end; k++)
            largest = fmaxf(largest, fabsf(x[k]));
        float inverse = largest > 0 ? (float)most / largest : 0, scale = largest / (float)most;
        for (int k = first; k < end; k++)
            out[k] = rintf(x[k] * inverse) * scale;
    }
}
