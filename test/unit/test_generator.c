/* The generated checkpoints are those that the goldens were computed on. */
#include "support.h"

#include <stdio.h>
#include <string.h>

static const char *file_of(const char *folder, const char *name) {
    static char path[4096];
    snprintf(path, sizeof path, "%s/%s/%s", CHECKPOINTS, folder, name);
    return path;
}

static void assert_sum(const char *folder, const char *name, const char *expected) {
    char sum[65];
    OcrBytes shard = read_file(file_of(folder, name));
    sha256_hex(shard.data, shard.size, sum);
    assert_string_equal(sum, expected);
    free_bytes(shard);
}

/* The sums of nano stand beside the goldens; that of micro is the reference generator's. */
static void weights_are_equal(void **state) {
    (void)state;
    json_t *oracle = golden_json("nano1/oracle.json"), *sums = json_object_get(oracle, "sha256");
    json_t *expected;
    const char *name;
    assert_int_equal(json_object_size(sums), 2);
    json_object_foreach(sums, name, expected)
        assert_sum("nano1", name, json_string_value(expected));
    json_decref(oracle);
    assert_sum("micro2", "model-00001-of-000001.safetensors",
               "024f5acce256ada7aa3f1def3388a085ee7662d8b4f1e489aa7a6583e7642fc5");
}

static void assert_same_json(const char *name) {
    json_error_t problem;
    char golden[256];
    snprintf(golden, sizeof golden, "nano1/%s", name);
    json_t *expected = golden_json(golden);
    json_t *written = json_load_file(file_of("nano1", name), 0, &problem);
    assert_non_null(written);
    assert_true(json_equal(written, expected));
    json_decref(written);
    json_decref(expected);
}

static void small_files_are_equal(void **state) {
    (void)state;
    assert_same_json("config.json");
    assert_same_json("tokenizer.json");
    assert_same_json("model.safetensors.index.json");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_are_equal),
        cmocka_unit_test(small_files_are_equal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
