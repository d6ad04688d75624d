/*
 * Smaller copies of a checkpoint: whole or not there at all, and as close to the
 * original as their type allows. Rounded arithmetic is judged teacher-forced: each
 * step continues the golden text, whatever the rounded model would have said.
 */
#include "support.h"

#include "engine.h"
#include "trace.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NANO CHECKPOINTS "/nano1"
#define THREADS 2

static char folder[PATH_MAX]; /* of the running test */
static char target[PATH_MAX + 16];
static OcrPool *pool;

static int make_folder(void **state) {
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/test_quantizer.XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    snprintf(target, sizeof target, "%s/small", folder);
    return 0;
}

static int remove_folder(void **state) {
    char command[PATH_MAX + 16];
    (void)state;
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

static bool exists(const char *suffix) {
    char path[PATH_MAX + 64];
    snprintf(path, sizeof path, "%s%s", target, suffix);
    return access(path, F_OK) == 0;
}

static void quantize(const char *source, OcrQuantType type) {
    OcrError err;
    OcrQuantizer *quantizer;
    OcrStep step;
    int64_t written, total;
    assert_ok(ocr_quantizer_open(source, target, type, &quantizer, &err), &err);
    while ((step = ocr_quantizer_step(quantizer, &err)) == OCR_STEP_MORE)
        assert_false(exists(""));
    if (step == OCR_STEP_FAILED)
        fail_msg("%s", err.message);
    ocr_quantizer_progress(quantizer, &written, &total);
    assert_int_equal(written, total);
    ocr_quantizer_close(quantizer);
    struct stat file;
    char path[PATH_MAX + 64];
    snprintf(path, sizeof path, "%s/model.safetensors", target);
    assert_int_equal(stat(path, &file), 0);
    assert_int_equal(file.st_size, total);
    assert_true(exists("/tokenizer.json"));
    assert_false(exists(".partial"));
}

/* Where the data begins in the target's weights. */
static uint64_t data_place(void) {
    char path[PATH_MAX + 64];
    uint8_t size[8];
    uint64_t place = 0;
    snprintf(path, sizeof path, "%s/model.safetensors", target);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    assert_int_equal(fread(size, 1, sizeof size, file), sizeof size);
    fclose(file);
    for (int i = 7; i >= 0; i--)
        place = place << 8 | size[i];
    return sizeof size + place;
}

static OcrModelInfo info_of(const char *model_folder) {
    OcrError err;
    OcrModel *model;
    OcrModelInfo info;
    void *tables = NULL;
    assert_ok(ocr_model_open(model_folder, (OcrAllocator){keep_block, &tables}, &model, &err),
              &err);
    ocr_model_info(model, &info);
    ocr_model_close(model);
    free(tables);
    return info;
}

/* ---- how close it is ---- */

typedef struct Closeness {
    json_t *golden;
    double vision_squares, vision_worst; /* errors of samples, in units of the tensor's std */
    int vision_samples;
    double logit_squares; /* of the prefill, likewise */
    int logit_samples;
    double clear_margin; /* of logits, in the golden */
    int flipped;         /* tokens of a clear margin that were not the best */
} Closeness;

static double number(json_t *object, const char *name) {
    return json_number_value(json_object_get(object, name));
}

static void see_vision(Closeness *seen, const float *rows) {
    json_t *tensor = json_object_get(json_object_get(seen->golden, "tensors"), "vision_sequence");
    size_t i;
    json_t *sample;
    json_array_foreach(json_object_get(tensor, "samples"), i, sample) {
        double error = fabs(rows[json_integer_value(json_array_get(sample, 0))] -
                            json_number_value(json_array_get(sample, 1))) /
                       number(tensor, "std");
        seen->vision_squares += error * error;
        seen->vision_worst = error > seen->vision_worst ? error : seen->vision_worst;
        seen->vision_samples++;
    }
}

static void see_logits(Closeness *seen, int step, float *logits, int vocabulary) {
    json_t *prefill = json_object_get(seen->golden, "prefill_logits"), *sample;
    size_t i;
    int best = 0, token = (int)json_integer_value(
                      json_array_get(json_object_get(seen->golden, "tokens"), (size_t)step));
    double margin =
        json_number_value(json_array_get(json_object_get(seen->golden, "margin"), (size_t)step));
    if (step == 0)
        json_array_foreach(json_object_get(prefill, "samples"), i, sample) {
            double error = (logits[json_integer_value(json_array_get(sample, 0))] -
                            json_number_value(json_array_get(sample, 1))) /
                           number(prefill, "std");
            seen->logit_squares += error * error;
            seen->logit_samples++;
        }
    for (int id = 1; id < vocabulary; id++)
        if (logits[id] > logits[best])
            best = id;
    if (best != token && margin > seen->clear_margin)
        seen->flipped++;
    logits[token] = 1e6f; /* the teacher's word */
}

static void see(void *context, const char *name, int index, int first_row, const float *data,
                int rows, int columns) {
    Closeness *seen = context;
    (void)first_row, (void)rows;
    if (strcmp(name, "vision_sequence") == 0)
        see_vision(seen, data);
    else if (strcmp(name, "logits") == 0)
        see_logits(seen, index, (float *)(uintptr_t)data, columns);
}

static Closeness measure(const char *model_folder, const char *name, double clear_margin) {
    Closeness seen = {.golden = golden_json(name), .clear_margin = clear_margin};
    OcrError err;
    OcrModel *model;
    OcrImageInfo image;
    OcrPlan plan;
    void *tables = NULL;
    char path[64];
    json_t *golden = seen.golden;
    snprintf(path, sizeof path, "images/%s",
             json_string_value(json_object_get(json_object_get(golden, "image"), "file")));
    OcrBytes file = read_file(golden_path(path));
    OcrRequest request = {.prompt = json_string_value(json_object_get(golden, "prompt")),
                          .max_tokens = (int)json_array_size(json_object_get(golden, "tokens"))};
    assert_true(ocr_mode_parse(json_string_value(json_object_get(golden, "mode")), &request.mode));
    assert_ok(ocr_model_open(model_folder, (OcrAllocator){keep_block, &tables}, &model, &err),
              &err);
    assert_ok(ocr_image_probe(file, 0, INT64_MAX, &image, &err), &err);
    assert_ok(ocr_plan_page(model, &image, &request, &plan, &err), &err);
    OcrLimits limits = {.slots = 1, .threads = THREADS, .compute = OCR_COMPUTE_AUTO};
    ocr_limits_add(&limits, &plan, &request);
    void *block = malloc(ocr_session_bytes(model, &limits)),
         *scratch = malloc(ocr_start_bytes(&image, &plan));
    OcrSession *session = ocr_session_create(model, &limits, pool, block);
    Trace trace = {see, &seen};
    ocr_session_trace(session, &trace);
    OcrInput input = {file, &image, &request, &plan};
    assert_ok(ocr_session_start(session, 0, &input, scratch, &err), &err);
    OcrStep step;
    while ((step = ocr_session_step(session, &err)) == OCR_STEP_MORE)
        ;
    if (step == OCR_STEP_FAILED)
        fail_msg("%s", err.message);
    free(block);
    free(scratch);
    ocr_model_close(model);
    free(tables);
    free_bytes(file);
    json_decref(golden);
    return seen;
}

typedef struct Limits {
    double vision_rms, vision_worst, logit_rms; /* in units of a tensor's std */
    double clear_margin;
    int flipped; /* tokens of all pages */
} Limits;

static const char *const cases[] = {"nano_alpha_tiny.json",       "nano_page_small_tiny.json",
                                    "nano_page_small_small.json", "nano_exif6_base.json",
                                    "nano_palette_base.json",     "nano_scan_wide_gundam.json"};
#define CASES (int)(sizeof cases / sizeof *cases)

/* Over all pages together, since the samples of one are few. */
static void assert_close(const char *model_folder, Limits limits) {
    Closeness sum = {0};
    for (int i = 0; i < CASES; i++) {
        Closeness seen = measure(model_folder, cases[i], limits.clear_margin);
        sum.vision_squares += seen.vision_squares;
        sum.vision_samples += seen.vision_samples;
        sum.logit_squares += seen.logit_squares;
        sum.logit_samples += seen.logit_samples;
        sum.vision_worst = fmax(sum.vision_worst, seen.vision_worst);
        sum.flipped += seen.flipped;
    }
    double vision_rms = sqrt(sum.vision_squares / sum.vision_samples);
    double logit_rms = sqrt(sum.logit_squares / sum.logit_samples);
    print_message("vision rms %.4f worst %.4f, logits rms %.4f, %d clear tokens flipped\n",
                  vision_rms, sum.vision_worst, logit_rms, sum.flipped);
    assert_true(vision_rms <= limits.vision_rms && sum.vision_worst <= limits.vision_worst);
    assert_true(logit_rms <= limits.logit_rms && sum.flipped <= limits.flipped);
}

static void bf16_is_close(void **state) {
    (void)state;
    assert_close(NANO, (Limits){0.01, 0.05, 0.05, 0.3, 0});
}

static void q8_is_close(void **state) {
    (void)state;
    quantize(NANO, OCR_QUANT_Q8);
    /* The random routers are nearly flat: at one of the 144 steps they choose other experts. */
    assert_close(target, (Limits){0.03, 0.15, 0.25, 1, 1});
}

/* Nano's random routers flip at a touch; what must hold is that the towers, in 8 bits, are as with
 * q8. */
static void q4_has_towers_of_q8(void **state) {
    (void)state;
    quantize(NANO, OCR_QUANT_Q4);
    assert_close(target, (Limits){0.03, 0.15, 0.5, 2, 4});
}

/* ---- steps ---- */

/* Between steps a query can be cancelled: none takes a whole tensor, be it only copied. */
static void steps_are_short(void **state) {
    (void)state;
    OcrError err;
    OcrQuantizer *quantizer;
    OcrStep step;
    assert_ok(ocr_quantizer_open(NANO, target, OCR_QUANT_Q8, &quantizer, &err), &err);
    do {
        int64_t before, after, total;
        ocr_quantizer_progress(quantizer, &before, &total);
        step = ocr_quantizer_step(quantizer, &err);
        ocr_quantizer_progress(quantizer, &after, &total);
        assert_in_range(after - before, 0, 1 << 18);
    } while (step == OCR_STEP_MORE);
    assert_int_equal(step, OCR_STEP_DONE);
    ocr_quantizer_close(quantizer);
}

/* ---- whole, or not at all ---- */

static int until_failure; /* allocations of the JSON library before the one that fails */

static void *allocate_but_once(size_t size) {
    return until_failure-- != 0 ? malloc(size) : NULL;
}

static OcrCode open_failing_at(int allocation, OcrQuantizer **quantizer) {
    OcrError err;
    until_failure = allocation;
    json_set_alloc_funcs(allocate_but_once, free);
    OcrCode code = ocr_quantizer_open(NANO, target, OCR_QUANT_Q8, quantizer, &err);
    json_set_alloc_funcs(malloc, free);
    return code;
}

/* A tensor that finds no room in the header must not be missing in the copy. */
static void no_tensor_is_lost_without_memory(void **state) {
    (void)state;
    OcrQuantizer *quantizer;
    assert_int_equal(open_failing_at(INT_MAX, &quantizer), OCR_OK);
    int needed = INT_MAX - until_failure;
    ocr_quantizer_close(quantizer);
    for (int allocation = 0; allocation < needed; allocation += 61)
        assert_int_not_equal(open_failing_at(allocation, &quantizer), OCR_OK);
}

static void nothing_is_left_of_a_failure(void **state) {
    (void)state;
    OcrError err;
    OcrQuantizer *quantizer;
    assert_fails(ocr_quantizer_open("/nowhere", target, OCR_QUANT_Q8, &quantizer, &err), &err,
                 OCR_MODEL_MISSING, "/nowhere");
    assert_ok(ocr_quantizer_open(NANO, target, OCR_QUANT_Q8, &quantizer, &err), &err);
    assert_int_equal(ocr_quantizer_step(quantizer, &err), OCR_STEP_MORE);
    assert_true(exists(".partial"));
    ocr_quantizer_close(quantizer);
    assert_false(exists(".partial"));
    assert_false(exists(""));
}

static void a_target_is_never_overwritten(void **state) {
    (void)state;
    OcrError err;
    OcrQuantizer *first, *second;
    assert_int_equal(mkdir(target, 0700), 0);
    assert_fails(ocr_quantizer_open(NANO, target, OCR_QUANT_Q8, &first, &err), &err, OCR_TARGET,
                 "already exists");
    assert_int_equal(rmdir(target), 0);
    assert_ok(ocr_quantizer_open(NANO, target, OCR_QUANT_Q8, &first, &err), &err);
    assert_fails(ocr_quantizer_open(NANO, target, OCR_QUANT_Q8, &second, &err), &err, OCR_TARGET,
                 "another process");
    assert_true(exists(".partial/model.safetensors"));
    ocr_quantizer_close(first);
    assert_fails(ocr_quantizer_open(NANO, "/nowhere/small", OCR_QUANT_Q8, &first, &err), &err,
                 OCR_TARGET, "No such file");
    assert_fails(ocr_quantizer_open(NANO, "", OCR_QUANT_Q8, &first, &err), &err, OCR_TARGET,
                 "empty");
}

#define REMAINS (1 << 20) /* bytes */

/* What a writer that was killed leaves. Returns the file, open. */
static int leave_remains(const char *name) {
    char path[PATH_MAX + 64];
    snprintf(path, sizeof path, "%s.partial", target);
    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(path, sizeof path, "%s.partial/%s", target, name);
    int file = open(path, O_RDWR | O_CREAT, 0600);
    assert_int_equal(ftruncate(file, REMAINS), 0);
    return file;
}

static off_t size_of(int file) {
    struct stat status;
    assert_int_equal(fstat(file, &status), 0);
    return status.st_size;
}

/* The next writer takes the folder over, but the file stays whole for those who have it mapped. */
static void remains_are_taken_over(void **state) {
    (void)state;
    int file = leave_remains("model.safetensors");
    quantize(NANO, OCR_QUANT_Q8);
    assert_string_equal(info_of(target).weight_type, "q8");
    assert_int_equal(size_of(file), REMAINS);
    close(file);
}

/* Whoever holds the remains is about to take them over. */
static void remains_are_taken_over_once(void **state) {
    (void)state;
    OcrError err;
    OcrQuantizer *quantizer;
    int file = leave_remains("model.safetensors");
    assert_int_equal(flock(file, LOCK_EX), 0);
    assert_fails(ocr_quantizer_open(NANO, target, OCR_QUANT_Q8, &quantizer, &err), &err, OCR_TARGET,
                 "another process");
    assert_true(exists(".partial/model.safetensors"));
    close(file);
}

/* A folder that is called like an unfinished copy, but is somebody's. */
static void files_of_others_are_left_alone(void **state) {
    (void)state;
    OcrError err;
    OcrQuantizer *quantizer;
    close(leave_remains("model-00001-of-000002.safetensors"));
    assert_fails(ocr_quantizer_open(NANO, target, OCR_QUANT_Q8, &quantizer, &err), &err, OCR_TARGET,
                 "no unfinished copy");
    assert_true(exists(".partial/model-00001-of-000002.safetensors"));
    assert_false(exists(".partial/model.safetensors"));
}

/* What bringing a folder to disk comes to, for the partial folder and the one around it. */
static int partial_error, parent_error;

/* Instead of the C library's. */
int fsync(int file) {
    struct stat status, parent;
    if (fstat(file, &status) == 0 && stat(folder, &parent) == 0 && S_ISDIR(status.st_mode))
        errno = status.st_ino == parent.st_ino ? parent_error : partial_error;
    else
        errno = 0;
    return errno ? -1 : (int)syscall(SYS_fsync, file);
}

/* Not every file system can bring a folder to disk. */
static void folders_need_not_be_synced(void **state) {
    (void)state;
    partial_error = EINVAL;
    parent_error = EBADF;
    quantize(NANO, OCR_QUANT_Q8);
    partial_error = parent_error = 0;
}

static void what_is_in_place_has_not_failed(void **state) {
    (void)state;
    parent_error = EIO;
    quantize(NANO, OCR_QUANT_Q8);
    parent_error = 0;
}

static void what_cannot_be_synced_is_not_put_in_place(void **state) {
    (void)state;
    OcrError err;
    OcrQuantizer *quantizer;
    OcrStep step;
    partial_error = EIO;
    assert_ok(ocr_quantizer_open(NANO, target, OCR_QUANT_Q8, &quantizer, &err), &err);
    while ((step = ocr_quantizer_step(quantizer, &err)) == OCR_STEP_MORE)
        ;
    partial_error = 0;
    assert_int_equal(step, OCR_STEP_FAILED);
    assert_int_equal(err.code, OCR_TARGET);
    ocr_quantizer_close(quantizer);
    assert_false(exists(".partial"));
    assert_false(exists(""));
}

static void q8_has_the_parameters_of_its_source(void **state) {
    (void)state;
    quantize(NANO, OCR_QUANT_Q8);
    assert_int_equal(info_of(target).parameters, info_of(NANO).parameters);
}

static void blocks_are_not_parted_between_cache_lines(void **state) {
    (void)state;
    quantize(NANO, OCR_QUANT_Q8);
    assert_int_equal(data_place() % 64, 0);
}

static void a_copy_is_not_quantized_again(void **state) {
    (void)state;
    OcrError err;
    OcrQuantizer *quantizer;
    char again[PATH_MAX + 32];
    quantize(NANO, OCR_QUANT_Q8);
    snprintf(again, sizeof again, "%s/again", folder);
    assert_fails(ocr_quantizer_open(target, again, OCR_QUANT_Q4, &quantizer, &err), &err,
                 OCR_MODEL_TENSOR, "quantized again");
}

static int start_pool(void **state) {
    OcrError err;
    (void)state;
    return (int)ocr_pool_create(THREADS, &pool, &err);
}

static int stop_pool(void **state) {
    (void)state;
    ocr_pool_destroy(pool);
    return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(bf16_is_close),
        TEST(q8_is_close),
        TEST(q4_has_towers_of_q8),
        TEST(steps_are_short),
        TEST(no_tensor_is_lost_without_memory),
        TEST(nothing_is_left_of_a_failure),
        TEST(a_target_is_never_overwritten),
        TEST(remains_are_taken_over),
        TEST(remains_are_taken_over_once),
        TEST(files_of_others_are_left_alone),
        TEST(folders_need_not_be_synced),
        TEST(what_is_in_place_has_not_failed),
        TEST(what_cannot_be_synced_is_not_put_in_place),
        TEST(q8_has_the_parameters_of_its_source),
        TEST(blocks_are_not_parted_between_cache_lines),
        TEST(a_copy_is_not_quantized_again),
    };
    return cmocka_run_group_tests(tests, start_pool, stop_pool);
}
