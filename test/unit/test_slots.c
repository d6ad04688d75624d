/*
 * Pages that are read together give what each gives alone, to the last bit: in any number
 * of slots, refilled while others are decoded, for every kind of weights and arithmetic,
 * at every CPU level.
 */
#include "support.h"

#include "base/numbers.h"
#include "engine.h"
#include "kernels/cpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NANO CHECKPOINTS "/nano1"
#define MAX_PIXELS 100000000
#define MOST_TOKENS 12
#define PAGES 6
#define MOST_SLOTS 40

static char folder[] = "/tmp/test_slots.XXXXXX";
static char small[sizeof folder + 8]; /* nano in 8 bits */
static OcrPool *pool;

/* Pages of different pictures, sizes, prompts and lengths. */
typedef struct Page {
    OcrRequest request;
    OcrBytes file;
    OcrImageInfo info;
    OcrPlan plan;
} Page;

typedef struct Reading {
    int ids[MOST_TOKENS];
    int tokens;
    OcrFinish finish;
    double confidence;
} Reading;

static Page pages[PAGES];

static void make_pages(const OcrModel *model) {
    static const char *const images[] = {"images/page_small.png", "images/palette.png",
                                         "images/alpha.png", "images/exif6.jpg"};
    static const char *const prompts[] = {NULL, "Describe <image> it", "Parse the figure."};
    OcrError err;
    for (int i = 0; i < PAGES; i++) {
        Page *page = &pages[i];
        page->request = (OcrRequest){.mode = i == 4 ? OCR_MODE_SMALL : OCR_MODE_TINY,
                                     .prompt = prompts[i % 3],
                                     .max_tokens = 1 + i * 5 % MOST_TOKENS,
                                     .turn_confidence = i == 1, /* turned, and in vain */
                                     .ngram_size = i % 2 ? 3 : 0};
        page->file = read_file(golden_path(images[i % 4]));
        assert_ok(ocr_image_probe(page->file, 0, MAX_PIXELS, &page->info, &err), &err);
        assert_ok(ocr_plan_page(model, &page->info, &page->request, &page->plan, &err), &err);
    }
}

static void free_pages(void) {
    for (int i = 0; i < PAGES; i++)
        free_bytes(pages[i].file);
}

static Reading reading(const OcrSession *session, int slot) {
    Reading out = {0};
    OcrPage page;
    ocr_session_page(session, slot, &page);
    assert_in_range(page.tokens, 0, MOST_TOKENS);
    memcpy(out.ids, page.ids, (size_t)page.tokens * sizeof *page.ids);
    out.tokens = page.tokens;
    out.finish = page.finish;
    out.confidence = page.confidence;
    return out;
}

static void put_page(OcrSession *session, int slot, const Page *page) {
    OcrError err;
    void *scratch = malloc(ocr_start_bytes(&page->info, &page->plan));
    OcrInput input = {page->file, &page->info, &page->request, &page->plan};
    assert_ok(ocr_session_start(session, slot, &input, scratch, &err), &err);
    free(scratch);
}

/* out[count]: page i % PAGES of each i, every slot refilled as soon as its page has ended. */
static void read_pages(const OcrModel *model, OcrCompute compute, int slots, int count,
                       Reading *out) {
    OcrLimits limits = {.slots = slots, .threads = 2, .compute = compute};
    OcrError err;
    for (int i = 0; i < PAGES; i++)
        ocr_limits_add(&limits, &pages[i].plan, &pages[i].request);
    size_t bytes = ocr_session_bytes(model, &limits);
    void *block = malloc(bytes);
    memset(block, 0xFF, bytes); /* what is not written must not matter */
    OcrSession *session = ocr_session_create(model, &limits, pool, block);
    int owner[MOST_SLOTS], next = 0, done = 0;
    memset(owner, -1, sizeof owner);
    while (done < count) {
        for (int s = 0; s < slots; s++) {
            if (owner[s] >= 0 && ocr_session_finished(session, s)) {
                out[owner[s]] = reading(session, s);
                owner[s] = -1;
                done++;
            }
            if (owner[s] < 0 && next < count) {
                put_page(session, s, &pages[next % PAGES]);
                owner[s] = next++;
            }
        }
        if (ocr_session_step(session, &err) == OCR_STEP_FAILED)
            fail_msg("%s", err.message);
    }
    free(block);
}

static void compare(const char *path, OcrCompute compute, const int *slots, int cases) {
    OcrError err;
    OcrModel *model;
    void *tables = NULL;
    Reading alone[PAGES], together[MOST_SLOTS + 3];
    assert_ok(ocr_model_open(path, (OcrAllocator){keep_block, &tables}, &model, &err), &err);
    make_pages(model);
    read_pages(model, compute, 1, PAGES, alone);
    for (int i = 0; i < cases; i++) {
        int count = slots[i] + 3;
        read_pages(model, compute, slots[i], count, together);
        for (int p = 0; p < count; p++)
            assert_memory_equal(&together[p], &alone[p % PAGES], sizeof(Reading));
    }
    /* And pages do differ: nothing above is equal for nothing. */
    assert_memory_not_equal(alone[1].ids, alone[3].ids, sizeof alone[1].ids);
    free_pages();
    ocr_model_close(model);
    free(tables);
}

/* The sanitizers make every page slow: what they look for is in the first cases. */
#ifdef __SANITIZE_ADDRESS__
#define CASES(all) 1
#else
#define CASES(all) all
#endif

static void exact(void **state) {
    (void)state;
    compare(NANO, OCR_COMPUTE_F32, (int[]){4, 8, 16}, CASES(3));
}

static void rounded(void **state) {
    (void)state;
    compare(NANO, OCR_COMPUTE_AUTO, (int[]){4, 8, 16}, CASES(3));
}

/* More slots than a step takes together: the last ones are no other rows than the first. */
static void quantized(void **state) {
    (void)state;
    compare(small, OCR_COMPUTE_AUTO, (int[]){17, 4, 8, 16, 40}, CASES(5));
}

#ifndef __SANITIZE_ADDRESS__
static void quantized_at_lower_levels(void **state) {
    (void)state;
    for (int level = CPU_PORTABLE; level < (int)cpu_best_level(); level++) {
        cpu_force_level((CpuLevel)level);
        compare(small, OCR_COMPUTE_AUTO, (int[]){7}, 1);
    }
    cpu_force_level(cpu_best_level());
}
#endif

static int set_up(void **state) {
    OcrError err;
    OcrQuantizer *quantizer;
    OcrStep step;
    (void)state;
    if (!mkdtemp(folder) || ocr_pool_create(2, &pool, &err) != OCR_OK)
        return -1;
    snprintf(small, sizeof small, "%s/q8", folder);
    if (ocr_quantizer_open(NANO, small, OCR_QUANT_Q8, &quantizer, &err) != OCR_OK)
        return -1;
    while ((step = ocr_quantizer_step(quantizer, &err)) == OCR_STEP_MORE)
        ;
    ocr_quantizer_close(quantizer);
    return step == OCR_STEP_DONE ? 0 : -1;
}

static int clean_up(void **state) {
    char command[sizeof folder + 16];
    (void)state;
    ocr_pool_destroy(pool);
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exact),
        cmocka_unit_test(rounded),
        cmocka_unit_test(quantized),
#ifndef __SANITIZE_ADDRESS__
        cmocka_unit_test(quantized_at_lower_levels),
#endif
    };
    return cmocka_run_group_tests(tests, set_up, clean_up);
}
