/*
 * A checkpoint folder whose single safetensors file is the input: open, then look
 * at the first and last byte of every tensor that was accepted.
 */
#include "model/safetensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static volatile uint8_t sink;
    char folder[] = "/tmp/fuzz_safetensors.XXXXXX", path[sizeof folder + 32];
    Safetensors *files;
    OcrError err;
    if (!mkdtemp(folder))
        return 0;
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    FILE *file = fopen(path, "wb");
    if (file) {
        fwrite(data, 1, size, file);
        fclose(file);
        if (safetensors_open(folder, &files, &err) == OCR_OK) {
            for (int i = 0; i < files->count; i++) {
                const Tensor *tensor = &files->tensors[i];
                const uint8_t *bytes = tensor->data;
                if (tensor->count > 0)
                    sink = (uint8_t)(bytes[0] ^ bytes[tensor_bytes(tensor) - 1]);
            }
            safetensors_close(files, false);
        }
        unlink(path);
    }
    rmdir(folder);
    return sink & 0;
}
