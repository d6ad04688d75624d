/*
 * Sessions: slots do not disturb each other, results do not depend on threads or
 * batch mates, and everything that can end a page does.
 */
#include "support.h"

#include "engine.h"
#include "model/model.h"
#include "trace.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_PIXELS 100000000
#define THREADS 2

static OcrModel *model;
static void *tables;

/* A session with its pool and memory, and what its pages are made of. */
typedef struct Run {
    OcrPool *pool;
    OcrSession *session;
    void *block;
    OcrLimits limits;
} Run;

typedef struct Job {
    const char *image; /* of test/goldens/images */
    OcrRequest request;
    OcrBytes file;
    OcrImageInfo info;
    OcrPlan plan;
} Job;

static Job make_job(const char *image, OcrRequest request) {
    Job job = {.image = image, .request = request, .file = read_file(golden_path(image))};
    OcrError err;
    assert_ok(ocr_image_probe(job.file, 0, MAX_PIXELS, &job.info, &err), &err);
    assert_ok(ocr_plan_page(model, &job.info, &request, &job.plan, &err), &err);
    return job;
}

static Run make_run(const Job *jobs, int count, int slots, int threads) {
    Run run = {.limits = {.slots = slots, .threads = threads, .compute = OCR_COMPUTE_F32}};
    OcrError err;
    for (int i = 0; i < count; i++)
        ocr_limits_add(&run.limits, &jobs[i].plan, &jobs[i].request);
    assert_ok(ocr_pool_create(threads, &run.pool, &err), &err);
    size_t bytes = ocr_session_bytes(model, &run.limits);
    run.block = malloc(bytes);
    /* What the engine does not write must not matter. */
    memset(run.block, 0xFF, bytes);
    run.session = ocr_session_create(model, &run.limits, run.pool, run.block);
    return run;
}

static void end_run(Run *run) {
    free(run->block);
    ocr_pool_destroy(run->pool);
}

static OcrCode start(Run *run, int slot, const Job *job, OcrError *err) {
    void *scratch = malloc(ocr_start_bytes(&job->info, &job->plan));
    OcrInput input = {job->file, &job->info, &job->request, &job->plan};
    OcrCode code = ocr_session_start(run->session, slot, &input, scratch, err);
    free(scratch);
    return code;
}

static void finish(Run *run) {
    OcrError err;
    OcrStep step;
    while ((step = ocr_session_step(run->session, &err)) == OCR_STEP_MORE)
        ;
    if (step == OCR_STEP_FAILED)
        fail_msg("%s", err.message);
}

/* Ids and confidence of a page read alone. */
typedef struct Expected {
    int ids[64];
    int tokens;
    double confidence;
    OcrFinish finish;
} Expected;

static Expected result(const Run *run, int slot) {
    OcrPage page;
    Expected out = {0};
    assert_true(ocr_session_finished(run->session, slot));
    ocr_session_page(run->session, slot, &page);
    assert_in_range(page.tokens, 0, 64);
    memcpy(out.ids, page.ids, (size_t)page.tokens * sizeof(int));
    out.tokens = page.tokens;
    out.confidence = page.confidence;
    out.finish = page.finish;
    return out;
}

static void assert_same(Expected a, Expected b) {
    assert_int_equal(a.tokens, b.tokens);
    assert_memory_equal(a.ids, b.ids, sizeof a.ids);
    assert_int_equal(a.finish, b.finish);
    /* To the last bit: neither threads nor batch mates may show. */
    assert_memory_equal(&a.confidence, &b.confidence, sizeof a.confidence);
}

static Expected read_alone(const Job *job, int threads) {
    OcrError err;
    Run run = make_run(job, 1, 1, threads);
    assert_ok(start(&run, 0, job, &err), &err);
    finish(&run);
    Expected out = result(&run, 0);
    end_run(&run);
    return out;
}

static void slots_are_independent(void **state) {
    (void)state;
    Job jobs[] = {
        make_job("images/page_small.png",
                 (OcrRequest){.mode = OCR_MODE_TINY, .max_tokens = 9, .ngram_size = -1}),
        make_job("images/scan_wide.jpg",
                 (OcrRequest){.mode = OCR_MODE_GUNDAM, .max_tokens = 20, .ngram_size = 3}),
        make_job("images/palette.png", (OcrRequest){.mode = OCR_MODE_SMALL,
                                                    .max_tokens = 14,
                                                    .prompt = "Describe <image> it"}),
        make_job("images/alpha.png",
                 (OcrRequest){.mode = OCR_MODE_BASE, .max_tokens = 3, .ngram_size = 20}),
    };
    Expected alone[4];
    OcrError err;
    for (int i = 0; i < 4; i++)
        alone[i] = read_alone(&jobs[i], THREADS);

    /* Three slots for four pages, twice over: a slot is refilled as soon as it is free. */
    Run run = make_run(jobs, 4, 3, THREADS);
    int owner[3] = {-1, -1, -1}, next = 0, done = 0;
    while (done < 8) {
        for (int s = 0; s < 3; s++) {
            if (owner[s] >= 0 && ocr_session_finished(run.session, s)) {
                assert_same(result(&run, s), alone[owner[s]]);
                owner[s] = -1;
                done++;
            }
            if (owner[s] < 0 && next < 8) {
                owner[s] = next++ % 4;
                assert_ok(start(&run, s, &jobs[owner[s]], &err), &err);
            }
        }
        if (done < 8 && ocr_session_step(run.session, &err) == OCR_STEP_FAILED)
            fail_msg("%s", err.message);
    }
    assert_int_equal(ocr_session_step(run.session, &err), OCR_STEP_DONE);
    end_run(&run);
    for (int i = 0; i < 4; i++)
        free_bytes(jobs[i].file);
}

static void threads_do_not_show(void **state) {
    (void)state;
    Job job =
        make_job("images/page_small.png", (OcrRequest){.mode = OCR_MODE_SMALL, .max_tokens = 12});
    Expected one = read_alone(&job, 1);
    assert_same(read_alone(&job, 2), one);
    assert_same(read_alone(&job, 5), one);
    free_bytes(job.file);
}

static void encode_only_gives_rows(void **state) {
    (void)state;
    OcrError err;
    Job job =
        make_job("images/page_small.png", (OcrRequest){.mode = OCR_MODE_TINY, .encode_only = true});
    Run run = make_run(&job, 1, 1, 1);
    assert_int_equal(run.limits.positions, 0);
    assert_ok(start(&run, 0, &job, &err), &err);
    finish(&run);
    OcrPage page;
    ocr_session_page(run.session, 0, &page);
    assert_int_equal(page.plan.vision_tokens, 64);
    assert_int_equal(page.plan.image_slots, 73);
    OcrModelInfo info;
    ocr_model_info(model, &info);
    double sum = 0;
    for (int i = 0; i < 73 * info.hidden; i++)
        sum += fabs((double)page.vision[i]);
    assert_true(isfinite(sum) && sum > 0);
    end_run(&run);
    free_bytes(job.file);
}

static void prompts_are_checked(void **state) {
    (void)state;
    OcrError err;
    OcrBytes file = read_file(golden_path("images/page_small.png"));
    OcrImageInfo info;
    OcrPlan plan, bare, marked;
    assert_ok(ocr_image_probe(file, 0, MAX_PIXELS, &info, &err), &err);
    OcrRequest request = {.mode = OCR_MODE_TINY, .prompt = "<image><image>"};
    assert_fails(ocr_plan_page(model, &info, &request, &plan, &err), &err, OCR_PROMPT,
                 "more than once");
    request.prompt = "\xC3(";
    assert_fails(ocr_plan_page(model, &info, &request, &plan, &err), &err, OCR_PROMPT, "UTF-8");

    /* <image> is put in front with a newline, and white space at the ends does not count. */
    request.prompt = "Free OCR.";
    assert_ok(ocr_plan_page(model, &info, &request, &bare, &err), &err);
    request.prompt = " \t<image>\nFree OCR. \n";
    assert_ok(ocr_plan_page(model, &info, &request, &marked, &err), &err);
    assert_int_equal(bare.prompt_positions, marked.prompt_positions);
    request.prompt = "";
    assert_ok(ocr_plan_page(model, &info, &request, &bare, &err), &err);
    assert_int_equal(bare.prompt_positions, 1 + 73);

    /* 8192 positions: what is left over is for the text, and too long a prompt is refused. */
    assert_int_equal(marked.max_tokens, 8192 - marked.prompt_positions);
    char *longest = malloc(20001);
    memset(longest, '~', 20000);
    longest[20000] = '\0';
    request.prompt = longest;
    assert_fails(ocr_plan_page(model, &info, &request, &plan, &err), &err, OCR_CONTEXT, "8192");
    request.encode_only = true;
    assert_ok(ocr_plan_page(model, &info, &request, &plan, &err), &err);
    free(longest);
    free_bytes(file);
}

/* The question's ids as an ordinary prompt has them, and what stands in the phrase. */
static void phrases_are_quoted(void **state) {
    (void)state;
    enum { SLOTS = 5, ROOM = 64 };
    static const char *const phrases[] = {"total", "<image>", "a<|/ref|> <image>\n<td>", "表"};
    int asked[ROOM], ids[ROOM], asked_count, count;
    char text[256];
    OcrError err;
    Prompt plain = {.text = "<image>\nLocate <|ref|>total<|/ref|> in the image. ",
                    .image_slots = SLOTS};
    assert_ok(model_prompt(model, &plain, asked, ROOM, &asked_count, &err), &err);
    for (int i = 0; i < 4; i++) {
        Prompt prompt = {.phrase = phrases[i], .image_slots = SLOTS};
        assert_ok(model_prompt(model, &prompt, ids, ROOM, &count, &err), &err);
        assert_in_range(count, 1 + SLOTS, ROOM);
        if (i == 0) {
            assert_int_equal(count, asked_count);
            assert_memory_equal(ids, asked, (size_t)count * sizeof *ids);
        }
        int images = 0, ends = 0;
        for (int k = 0; k < count; k++) {
            images += ids[k] == ocr_model_find_token(model, "<image>", 7);
            ends += ids[k] == ocr_model_find_token(model, "<|/ref|>", 8);
        }
        assert_int_equal(images, SLOTS);
        assert_int_equal(ends, 1);
        size_t length = tokenizer_decode(model->tokenizer, ids + 1 + SLOTS, count - 1 - SLOTS, text,
                                         sizeof text - 1);
        char expected[256];
        snprintf(expected, sizeof expected, "\nLocate <|ref|>%s<|/ref|> in the image.", phrases[i]);
        text[length] = '\0';
        assert_string_equal(text, expected);
    }
    Prompt broken = {.phrase = "\xC3(", .image_slots = SLOTS};
    assert_fails(model_prompt(model, &broken, ids, ROOM, &count, &err), &err, OCR_PROMPT, "UTF-8");
}

static int calls_left;

static bool count_down(void) {
    return --calls_left < 0;
}

/* Interrupted after any number of looks at the predicate: always an error, never a crash or a hang.
 */
static void interrupts_void_the_session(void **state) {
    (void)state;
    OcrError err;
    uint64_t random = 7;
    Job job =
        make_job("images/page_small.png", (OcrRequest){.mode = OCR_MODE_TINY, .max_tokens = 4});
    Run run = make_run(&job, 1, 1, THREADS);
    calls_left = 1 << 30;
    ocr_pool_watch(run.pool, count_down);
    assert_ok(start(&run, 0, &job, &err), &err);
    finish(&run);
    int looks = (1 << 30) - calls_left;
    assert_true(looks > 100);
    for (int i = 0; i < 40; i++) {
        run.session = ocr_session_create(model, &run.limits, run.pool, run.block);
        /* How often the predicate is asked depends on who takes which chunk. */
        calls_left = random_between(&random, 0, looks / 2);
        ocr_pool_watch(run.pool, count_down);
        OcrCode code = start(&run, 0, &job, &err);
        if (code == OCR_OK) {
            OcrStep step;
            while ((step = ocr_session_step(run.session, &err)) == OCR_STEP_MORE)
                ;
            assert_int_equal(step, OCR_STEP_FAILED);
        }
        assert_int_equal(err.code, OCR_INTERRUPTED);
        ocr_pool_watch(run.pool, NULL);
        if (code == OCR_OK) {
            assert_int_equal(ocr_session_step(run.session, &err), OCR_STEP_FAILED);
            assert_int_equal(err.code, OCR_INTERRUPTED);
        }
    }
    /* And the same memory serves the next page. */
    run.session = ocr_session_create(model, &run.limits, run.pool, run.block);
    assert_ok(start(&run, 0, &job, &err), &err);
    finish(&run);
    Expected after = result(&run, 0);
    end_run(&run);
    assert_same(after, read_alone(&job, THREADS));
    free_bytes(job.file);
}

/* A page is admitted by all the memory that decoding its image takes, whoever allocates it. */
static void the_memory_of_libraries_counts(void **state) {
    (void)state;
    Job job = make_job("images/page_small.png", (OcrRequest){.mode = OCR_MODE_TINY});
    size_t ours = ocr_start_bytes(&job.info, &job.plan);
    assert_int_equal(ocr_decoding_bytes(&job.info, &job.plan), ours);
    job.info.library_bytes = 1000;
    assert_int_equal(ocr_start_bytes(&job.info, &job.plan), ours);
    assert_int_equal(ocr_decoding_bytes(&job.info, &job.plan), ours + 1000);
    job.info.library_bytes = SIZE_MAX - 1000;
    assert_true(ocr_decoding_bytes(&job.info, &job.plan) == SIZE_MAX);
    free_bytes(job.file);
}

static void a_bad_image_leaves_the_slot_idle(void **state) {
    (void)state;
    OcrError err;
    Job job =
        make_job("images/scan_wide.jpg", (OcrRequest){.mode = OCR_MODE_TINY, .max_tokens = 2});
    Run run = make_run(&job, 1, 1, 1);
    size_t whole = job.file.size;
    job.file.size = whole / 2;
    assert_fails(start(&run, 0, &job, &err), &err, OCR_IMAGE_DAMAGED, "");
    assert_int_equal(ocr_session_step(run.session, &err), OCR_STEP_DONE);
    job.file.size = whole;
    assert_ok(start(&run, 0, &job, &err), &err);
    finish(&run);
    assert_int_equal(result(&run, 0).finish, OCR_FINISH_LENGTH);
    end_run(&run);
    free_bytes(job.file);
}

/* The job in the run's first slot, its logits changed on the way. */
static OcrPage read_traced(Run *run, const Job *job, const Trace *trace) {
    OcrError err;
    OcrPage page;
    ocr_session_trace(run->session, trace);
    assert_ok(start(run, 0, job, &err), &err);
    finish(run);
    ocr_session_trace(run->session, NULL);
    ocr_session_page(run->session, 0, &page);
    return page;
}

static void assert_ends(OcrPage page, OcrFinish finish, int tokens) {
    assert_int_equal(page.finish, finish);
    assert_int_equal(page.tokens, tokens);
}

static void assert_no_text(const Run *run) {
    OcrError err;
    size_t length;
    assert_ok(ocr_session_text(run->session, 0, NULL, 0, &length, &err), &err);
    assert_int_equal(length, 0);
}

/* Logits as the trace sees them, made to repeat one id. */
static void repeat_id(void *context, const char *name, int index, int first_row, const float *data,
                      int rows, int columns) {
    int id = *(int *)context;
    (void)index, (void)first_row, (void)rows;
    if (strcmp(name, "logits") == 0 && id < columns)
        ((float *)(uintptr_t)data)[id] = 1000;
}

static void loops_end_and_are_cut(void **state) {
    (void)state;
    int id = 300;
    Job job =
        make_job("images/page_small.png", (OcrRequest){.mode = OCR_MODE_TINY, .max_tokens = 4000});
    Run run = make_run(&job, 1, 1, THREADS);
    const Trace trace = {repeat_id, &id};
    OcrPage page = read_traced(&run, &job, &trace);
    assert_ends(page, OCR_FINISH_LOOP, 1);
    assert_int_equal(page.ids[0], id);

    /* The ban breaks the loop again and again; the text ends where it first had to. */
    job.request.ngram_size = 20;
    page = read_traced(&run, &job, &trace);
    assert_int_equal(page.finish, OCR_FINISH_LOOP);
    assert_in_range(page.tokens, 1, 2);

    /* The end mark ends at once, and is no part of the text. */
    id = 1;
    page = read_traced(&run, &job, &trace);
    assert_ends(page, OCR_FINISH_STOP, 0);
    assert_true(page.confidence > 0.99);
    assert_no_text(&run);
    end_run(&run);
    free_bytes(job.file);
}

/*
 * Logits as the trace sees them: from the id `from` to the id `to` all equal but one, which is a
 * little ahead, and no more probable than any other; elsewhere one is certain. In doubt each id is
 * another one, and behind it always the same, but for the end mark.
 */
typedef struct Doubts {
    int id, from, to;
} Doubts;

static void make_doubtful(void *context, const char *name, int index, int first_row,
                          const float *data, int rows, int columns) {
    const Doubts *doubts = context;
    (void)first_row, (void)rows;
    if (strcmp(name, "logits") != 0)
        return;
    bool certain = index < doubts->from || index >= doubts->to;
    int id = doubts->id == EOS_ID || index >= doubts->to ? doubts->id : doubts->id + index;
    float *logits = (float *)(uintptr_t)data;
    for (int i = 0; i < columns; i++)
        logits[i] = i != id ? 0 : certain ? 1000 : 0.001f;
}

static OcrPage read_doubtful(Run *run, const Job *job, Doubts doubts) {
    const Trace trace = {make_doubtful, &doubts};
    return read_traced(run, job, &trace);
}

#define FIRST_ID 300

static void texts_below_the_wanted_confidence_are_given_up(void **state) {
    (void)state;
    const Doubts always = {FIRST_ID, 0, 4000}, later = {FIRST_ID, 40, 4000};
    OcrRequest request = {.mode = OCR_MODE_TINY, .max_tokens = 60};
    Job job = make_job("images/page_small.png", request);
    request.max_tokens = 1000;
    Job longer = make_job("images/page_small.png", request);
    Run run = make_run(&longer, 1, 1, THREADS);
    OcrPage page = read_doubtful(&run, &job, always);
    assert_ends(page, OCR_FINISH_LENGTH, 60);

    /* At its end: 60 ids of one in a vocabulary. */
    double one = page.confidence;
    job.request.min_confidence = one * 1.01;
    page = read_doubtful(&run, &job, always);
    assert_ends(page, OCR_FINISH_UNSURE, 0);
    assert_true(page.confidence == one);
    assert_no_text(&run);
    job.request.min_confidence = one * 0.99;
    assert_ends(read_doubtful(&run, &job, always), OCR_FINISH_LENGTH, 60);

    /* Long before it, and what came before the doubt is kept. */
    longer.request.min_confidence = 0.4;
    page = read_doubtful(&run, &longer, later);
    assert_ends(page, OCR_FINISH_UNSURE, 40);
    assert_int_equal(page.ids[39], FIRST_ID + 39);
    assert_true(page.confidence > 20 * one); /* so it ended soon */

    /* Repeats that are cut off make nothing better. */
    longer.request.min_confidence = one * 2;
    assert_ends(read_doubtful(&run, &longer, (Doubts){FIRST_ID, 0, 70}), OCR_FINISH_UNSURE, 0);
    longer.request.min_confidence = 0;
    assert_ends(read_doubtful(&run, &longer, (Doubts){FIRST_ID, 0, 70}), OCR_FINISH_LOOP, 71);

    /* A page without text is none that is given up, however unsure the model is of it. */
    longer.request.min_confidence = 0.9;
    assert_ends(read_doubtful(&run, &longer, (Doubts){EOS_ID, 0, 4000}), OCR_FINISH_STOP, 0);
    end_run(&run);
    free_bytes(job.file);
    free_bytes(longer.file);
}

static void spoil(void *context, const char *name, int index, int first_row, const float *data,
                  int rows, int columns) {
    (void)index, (void)first_row, (void)rows, (void)columns;
    if (strcmp(name, context) == 0)
        ((float *)(uintptr_t)data)[0] = NAN;
}

static void numbers_that_are_not_finite_are_reported(void **state) {
    (void)state;
    static const char *const places[] = {"sam_embed", "clip_block", "layer", "logits"};
    Job job =
        make_job("images/page_small.png", (OcrRequest){.mode = OCR_MODE_TINY, .max_tokens = 2});
    for (int i = 0; i < 4; i++) {
        OcrError err;
        Run run = make_run(&job, 1, 1, 1);
        Trace trace = {spoil, (void *)(uintptr_t)places[i]};
        ocr_session_trace(run.session, &trace);
        assert_ok(start(&run, 0, &job, &err), &err);
        OcrStep step;
        while ((step = ocr_session_step(run.session, &err)) == OCR_STEP_MORE)
            ;
        assert_int_equal(step, OCR_STEP_FAILED);
        assert_int_equal(err.code, OCR_MODEL_NOT_FINITE);
        end_run(&run);
    }
    free_bytes(job.file);
}

static int open_model(void **state) {
    OcrError err;
    (void)state;
    return ocr_model_open(CHECKPOINTS "/nano1", (OcrAllocator){keep_block, &tables}, &model, &err);
}

static int close_model(void **state) {
    (void)state;
    ocr_model_close(model);
    free(tables);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slots_are_independent),
        cmocka_unit_test(threads_do_not_show),
        cmocka_unit_test(encode_only_gives_rows),
        cmocka_unit_test(prompts_are_checked),
        cmocka_unit_test(phrases_are_quoted),
        cmocka_unit_test(interrupts_void_the_session),
        cmocka_unit_test(the_memory_of_libraries_counts),
        cmocka_unit_test(a_bad_image_leaves_the_slot_idle),
        cmocka_unit_test(loops_end_and_are_cut),
        cmocka_unit_test(texts_below_the_wanted_confidence_are_given_up),
        cmocka_unit_test(numbers_that_are_not_finite_are_reported),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
