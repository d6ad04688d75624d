/* Reading JSON files: what each failure is called. */
#include "support.h"

#include "model/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void good_files_are_read(void **state) {
    (void)state;
    json_t *root;
    OcrError err;
    assert_ok(
        json_read_file(golden_path("nano1/config.json"), 1 << 20, OCR_MODEL_CONFIG, &root, &err),
        &err);
    assert_int_equal(json_integer_value(json_object_get(root, "vocab_size")), 1024);
    json_decref(root);
}

static void bad_text_is_refused(void **state) {
    (void)state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"", "x is not valid JSON: line 1"},
        {"{\"a\": 1,\n \"a\": 2}", "line 2"},
        {"{\"a\": \"\\ud800\"}", "Unicode"},
        {"{\"a\": \"\\u0000\"}", "\\u0000"},
        {"[1e999]", "overflow"},
        {"[99999999999999999999]", "too big"},
        {"[1] x", "end of file"},
        {"[\"\xFF\"]", "0xff"},
        {"5", "'[' or '{' expected"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *root;
        OcrError err;
        OcrCode code = json_read_bytes("x", cases[i].text, strlen(cases[i].text), OCR_MODEL_FORMAT,
                                       &root, &err);
        assert_fails(code, &err, OCR_MODEL_FORMAT, cases[i].message);
    }
}

static void assert_unreadable(const char *path, size_t max_bytes, OcrCode expected,
                              const char *message) {
    json_t *root;
    OcrError err;
    OcrCode code = json_read_file(path, max_bytes, OCR_MODEL_CONFIG, &root, &err);
    assert_fails(code, &err, expected, message);
    assert_non_null(strstr(err.message, path));
}

static void system_errors_have_their_codes(void **state) {
    (void)state;
    char folder[] = "/tmp/test_json.XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/pipe", folder);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_unreadable(path, 100, OCR_MODEL_UNREADABLE, "not a regular file"); /* and no waiting */
    unlink(path);

    assert_unreadable(path, 100, OCR_MODEL_MISSING, "No such file");
    assert_unreadable("/etc/passwd/x", 100, OCR_MODEL_MISSING, "Not a directory");
    assert_unreadable(folder, 100, OCR_MODEL_UNREADABLE, "not a regular file");
    assert_unreadable("/dev/zero", 100, OCR_MODEL_UNREADABLE, "not a regular file");
    snprintf(path, sizeof path, "%s/loop", folder);
    assert_int_equal(symlink(path, path), 0);
    assert_unreadable(path, 100, OCR_MODEL_UNREADABLE, "symbolic links");
    unlink(path);
    if (geteuid() != 0) { /* root may read everything */
        FILE *file = fopen(path, "w");
        assert_non_null(file);
        fclose(file);
        chmod(path, 0);
        assert_unreadable(path, 100, OCR_MODEL_UNREADABLE, "ermission");
        unlink(path);
    }
    rmdir(folder);
}

static void files_have_a_limit(void **state) {
    (void)state;
    const char *path = golden_path("nano1/config.json");
    struct stat status;
    json_t *root;
    OcrError err;
    assert_int_equal(stat(path, &status), 0);
    size_t size = (size_t)status.st_size;
    assert_ok(json_read_file(path, size, OCR_MODEL_CONFIG, &root, &err), &err);
    json_decref(root);
    assert_unreadable(path, size - 1, OCR_MODEL_CONFIG, "more than");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_files_are_read),
        cmocka_unit_test(bad_text_is_refused),
        cmocka_unit_test(system_errors_have_their_codes),
        cmocka_unit_test(files_have_a_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
