/*
 * The whole engine against the numeric goldens: an independent f32 reference on
 * a generated checkpoint, stage by stage and token by token.
 */
#include "support.h"

#include "engine.h"
#include "trace.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define THREADS 2
#define MAX_PIXELS 100000000
#define LOGIT_TOLERANCE 5e-4

static OcrPool *pool;

typedef struct Page {
    json_t *golden;
    int view, tiles; /* the view that is being encoded, and how many tiles there are */
    int compared;    /* samples of the golden's tensors */
    int tokens;      /* logits seen */
    double worst;    /* error in units of the tolerance */
} Page;

static void compare(Page *page, double error, double tolerance, const char *name) {
    double units = error / tolerance;
    if (!(units <= page->worst))
        page->worst = units;
    if (!(units <= 1))
        print_error("%s: error %g, tolerance %g\n", name, error, tolerance);
}

/* Samples of the golden tensor `name` that lie in rows first_row.. of data. */
static void compare_tensor(Page *page, const char *name, int first_row, const float *data, int rows,
                           int columns) {
    json_t *tensor = json_object_get(json_object_get(page->golden, "tensors"), name);
    if (!tensor)
        return;
    json_t *shape = json_object_get(tensor, "shape"), *samples = json_object_get(tensor, "samples");
    /* [c, n, n] in the goldens is [n * n][c] here. */
    bool channels_first = json_array_size(shape) == 3 && strstr(name, "sam_embed") == NULL &&
                          strstr(name, "sam_block") == NULL;
    double tolerance = 1e-4 * json_number_value(json_object_get(tensor, "std")) + 1e-5;
    size_t i;
    json_t *sample;
    json_array_foreach(samples, i, sample) {
        long flat = (long)json_integer_value(json_array_get(sample, 0));
        long row = flat / columns, column = flat % columns;
        if (channels_first) {
            column = flat / rows;
            row = flat % rows;
        }
        if (row < first_row || row >= first_row + rows)
            continue;
        double value = json_number_value(json_array_get(sample, 1));
        compare(page, fabs(data[(row - first_row) * columns + column] - value), tolerance, name);
        page->compared++;
    }
}

static void compare_logits(Page *page, int step, const float *logits, int vocabulary) {
    json_t *prefill = json_object_get(page->golden, "prefill_logits");
    json_t *tokens = json_object_get(page->golden, "tokens");
    if ((size_t)step >= json_array_size(tokens))
        return;
    page->tokens++;
    int token = (int)json_integer_value(json_array_get(tokens, (size_t)step));
    assert_in_range(token, 0, vocabulary - 1);
    double best =
        json_number_value(json_array_get(json_object_get(page->golden, "logit"), (size_t)step));
    compare(page, fabs(logits[token] - best), LOGIT_TOLERANCE, "logit");
    if (step > 0)
        return;
    static const char *const lists[] = {"samples", "top"};
    for (int l = 0; l < 2; l++) {
        size_t i;
        json_t *pair;
        json_array_foreach(json_object_get(prefill, lists[l]), i, pair) {
            int id = (int)json_integer_value(json_array_get(pair, 0));
            double value = json_number_value(json_array_get(pair, 1));
            compare(page, fabs(logits[id] - value), LOGIT_TOLERANCE, "prefill_logits");
        }
    }
}

static void see_tensor(void *context, const char *name, int index, int first_row, const float *data,
                       int rows, int columns) {
    Page *page = context;
    char full[64];
    bool global = page->view == page->tiles, first_tile = !global && page->view == 0;
    bool per_view =
        strncmp(name, "sam", 3) == 0 || strncmp(name, "clip", 4) == 0 || strcmp(name, "proj") == 0;

    if (strcmp(name, "view") == 0) {
        page->view = index;
        return;
    }
    if (strcmp(name, "logits") == 0) {
        compare_logits(page, index, data, columns);
        return;
    }
    if (per_view && !global && !first_tile)
        return;
    if (strcmp(name, "sam") == 0 || strcmp(name, "proj") == 0) {
        snprintf(full, sizeof full, "%s_%s", global ? "global" : "tile0", name);
        compare_tensor(page, full, first_row, data, rows, columns);
    } else if (strcmp(name, "clip_block") == 0) {
        json_t *tensors = json_object_get(page->golden, "tensors");
        snprintf(full, sizeof full, "clip_block_%d", index);
        if (global)
            compare_tensor(page, full, first_row, data, rows, columns);
        /* The last block's output is the tower's. */
        snprintf(full, sizeof full, "clip_block_%d", index + 1);
        if (!json_object_get(tensors, full))
            compare_tensor(page, global ? "global_clip" : "tile0_clip", first_row, data, rows,
                           columns);
    } else if (!per_view || global) {
        bool numbered = strcmp(name, "sam_block") == 0 || strcmp(name, "layer") == 0;
        snprintf(full, sizeof full, numbered ? "%s_%d" : "%s", name, index);
        compare_tensor(page, full, first_row, data, rows, columns);
    }
}

/* Read one page as a golden says; the session's block is returned for free(). */
static OcrSession *run_page(const OcrModel *model, json_t *golden, Page *page, void **block) {
    OcrError err;
    const char *image_name =
        json_string_value(json_object_get(json_object_get(golden, "image"), "file"));
    char path[64];
    snprintf(path, sizeof path, "images/%s", image_name);
    OcrBytes file = read_file(golden_path(path));
    OcrImageInfo image;
    OcrPlan plan;
    OcrRequest request = {
        .prompt = json_string_value(json_object_get(golden, "prompt")),
        .max_tokens = (int)json_array_size(json_object_get(golden, "tokens")),
        .ngram_size = (int)json_integer_value(json_object_get(golden, "no_repeat_ngram_size"))};
    assert_true(ocr_mode_parse(json_string_value(json_object_get(golden, "mode")), &request.mode));
    assert_ok(ocr_image_probe(file, 0, MAX_PIXELS, &image, &err), &err);
    assert_ok(ocr_plan_page(model, &image, &request, &plan, &err), &err);

    json_t *input = json_object_get(golden, "input");
    assert_int_equal(plan.prompt_positions, json_integer_value(json_object_get(input, "length")));
    assert_int_equal(plan.image_slots, json_integer_value(json_object_get(input, "image_slots")));

    OcrLimits limits = {.slots = 1, .threads = THREADS, .compute = OCR_COMPUTE_F32};
    ocr_limits_add(&limits, &plan, &request);
    *block = malloc(ocr_session_bytes(model, &limits));
    void *scratch = malloc(ocr_start_bytes(&image, &plan));
    OcrSession *session = ocr_session_create(model, &limits, pool, *block);
    Trace trace = {see_tensor, page};
    ocr_session_trace(session, &trace);
    page->tiles = plan.columns * plan.rows > 1 ? plan.columns * plan.rows : 0;
    OcrInput asked = {file, &image, &request, &plan};
    assert_ok(ocr_session_start(session, 0, &asked, scratch, &err), &err);
    free(scratch);
    free_bytes(file);
    OcrStep step;
    while ((step = ocr_session_step(session, &err)) == OCR_STEP_MORE)
        ;
    if (step == OCR_STEP_FAILED)
        fail_msg("%s", err.message);
    assert_true(ocr_session_finished(session, 0));
    ocr_session_trace(session, NULL);
    return session;
}

static void check_case(const char *folder, const char *name) {
    json_t *golden = golden_json(name);
    OcrError err;
    OcrModel *model;
    void *tables = NULL, *block;
    assert_ok(ocr_model_open(folder, (OcrAllocator){keep_block, &tables}, &model, &err), &err);
    Page page = {.golden = golden};
    OcrSession *session = run_page(model, golden, &page, &block);

    OcrPage result;
    ocr_session_page(session, 0, &result);
    json_t *tokens = json_object_get(golden, "tokens");
    assert_int_equal(result.tokens, json_array_size(tokens));
    for (int i = 0; i < result.tokens; i++)
        assert_int_equal(result.ids[i], json_integer_value(json_array_get(tokens, (size_t)i)));
    /* Every tensor of the file but the pixels, whose bytes test_views compares. */
    json_t *tensors = json_object_get(golden, "tensors"), *tensor;
    const char *tensor_name;
    int samples = 0;
    json_object_foreach(tensors, tensor_name, tensor) {
        if (strcmp(tensor_name, "pixels_global") != 0)
            samples += (int)json_array_size(json_object_get(tensor, "samples"));
    }
    assert_int_equal(page.compared, samples);
    assert_int_equal(page.tokens, result.tokens);
    print_message("%s: worst error %.3f of the tolerance\n", name, page.worst);
    assert_true(page.worst <= 1);
    assert_true(result.confidence > 0 && result.confidence <= 1);

    char text[4096];
    size_t length;
    assert_ok(ocr_session_text(session, 0, text, sizeof text - 1, &length, &err), &err);
    assert_in_range(length, 1, sizeof text - 1);
    text[length] = '\0';
    /* The golden is not stripped. */
    const char *blank = " \n", *whole = json_string_value(json_object_get(golden, "text"));
    whole += strspn(whole, blank);
    assert_memory_equal(whole, text, length);
    assert_int_equal(strspn(whole + length, blank), strlen(whole + length));

    free(block);
    ocr_model_close(model);
    free(tables);
    json_decref(golden);
}

/* "nano_…" was computed on the nano preset with seed 1, "micro_…" on micro with seed 2. */
static void check_golden(void **state) {
    const char *name = *state;
    check_case(strncmp(name, "nano", 4) == 0 ? CHECKPOINTS "/nano1" : CHECKPOINTS "/micro2", name);
}

static int start_pool(void **state) {
    OcrError err;
    (void)state;
    return ocr_pool_create(THREADS, &pool, &err);
}

static int stop_pool(void **state) {
    (void)state;
    ocr_pool_destroy(pool);
    return 0;
}

#define CASE(name)                                                                                 \
    { name, check_golden, NULL, NULL, (void *)name ".json" }

int main(void) {
    const struct CMUnitTest tests[] = {
        CASE("nano_alpha_tiny"),
        CASE("nano_page_small_tiny"),
        CASE("nano_page_small_small"),
        CASE("nano_exif6_base"),
        CASE("nano_palette_base"),
        CASE("nano_scan_wide_base"),
        CASE("nano_scan_wide_large"),
        CASE("nano_page_small_gundam"),
        CASE("nano_scan_wide_gundam"),
        CASE("nano_page_tall_grey_gundam"),
        CASE("nano_page_tall_grey_gundam-m"),
        /* Other dims, window, grid, rope base and element type. */
        CASE("micro_page_small_tiny"),
        CASE("micro_exif6_base"),
        CASE("micro_page_small_large"),
        CASE("micro_scan_wide_gundam"),
        CASE("micro_page_tall_grey_gundam-m"),
    };
    return cmocka_run_group_tests(tests, start_pool, stop_pool);
}
