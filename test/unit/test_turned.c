/*
 * Pages that lie on their side or their head: which are turned, how often, and what stands in the
 * end. That views are turned as a picture would be is test_views' affair.
 */
#include "support.h"

#include "engine.h"
#include "plan.h"
#include "reading.h"
#include "trace.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_PIXELS 100000000
#define SIDE 512 /* of a picture that is its only view */
#define MOST_TOKENS 700
#define FIRST_ID 300
#define SURE_TOKENS 12

static OcrModel *model;
static void *tables;
static OcrPool *pool;

typedef struct Page {
    OcrBytes file;
    OcrImageInfo info;
    OcrRequest request;
    OcrPlan plan;
} Page;

/* A PNM picture whose corners differ, turned clockwise by so many quarters. */
static OcrBytes make_picture(int width, int height, int quarters) {
    char *bytes = malloc((size_t)width * (size_t)height + 64);
    int across = quarters % 2 ? height : width, down = quarters % 2 ? width : height;
    int used = sprintf(bytes, "P5 %d %d 255\n", across, down);
    for (int row = 0; row < down; row++)
        for (int column = 0; column < across; column++) {
            int x = column, y = row;
            for (int size = across, q = quarters; q > 0; q--) { /* back to how it was */
                int before = y;
                y = size - 1 - x;
                x = before;
                size = width + height - size;
            }
            bytes[used++] = (char)(x * 200 / width + (y / 8 % 2 ? y * 50 / height : 0));
        }
    return (OcrBytes){(uint8_t *)bytes, (size_t)used};
}

static Page make_page(OcrBytes file, OcrRequest request) {
    Page page = {.file = file, .request = request};
    OcrError err;
    assert_ok(ocr_image_probe(file, 0, MAX_PIXELS, &page.info, &err), &err);
    assert_ok(ocr_plan_page(model, &page.info, &request, &page.plan, &err), &err);
    return page;
}

typedef struct Result {
    OcrPage page;
    int ids[MOST_TOKENS];
    float *vision; /* [vision_count] malloc'ed */
    size_t vision_count;
} Result;

static Result read_page(const Page *page, const Trace *trace) {
    OcrLimits limits = {.slots = 1, .threads = 2, .compute = OCR_COMPUTE_F32};
    OcrError err;
    OcrStep step;
    Result out = {0};
    ocr_limits_add(&limits, &page->plan, &page->request);
    size_t bytes = ocr_session_bytes(model, &limits);
    void *block = memset(malloc(bytes), 0xFF, bytes);
    void *scratch = malloc(ocr_start_bytes(&page->info, &page->plan));
    OcrSession *session = ocr_session_create(model, &limits, pool, block);
    ocr_session_trace(session, trace);
    OcrInput input = {page->file, &page->info, &page->request, &page->plan};
    assert_ok(ocr_session_start(session, 0, &input, scratch, &err), &err);
    while ((step = ocr_session_step(session, &err)) == OCR_STEP_MORE)
        ;
    assert_int_equal(step, OCR_STEP_DONE);
    ocr_session_page(session, 0, &out.page);
    assert_in_range(out.page.tokens, 0, MOST_TOKENS);
    memcpy(out.ids, out.page.ids, (size_t)out.page.tokens * sizeof(int));
    out.vision_count = (size_t)out.page.plan.image_slots * (size_t)model->config.decoder.hidden;
    out.vision = malloc(out.vision_count * sizeof(float));
    memcpy(out.vision, out.page.vision, out.vision_count * sizeof(float));
    free(scratch);
    free(block);
    return out;
}

/* The model sees how the page lies: logits that are certain in one reading, and in no other. */
typedef struct Sight {
    int right;    /* the reading, from 0, in which it lies right */
    int text;     /* length of the text that it has then */
    int loop;     /* where it begins to repeat itself else, 0: nowhere */
    int readings; /* begun */
    int tokens;   /* chosen, end marks included */
} Sight;

static void see(void *context, const char *name, int index, int first_row, const float *data,
                int rows, int columns) {
    Sight *sight = context;
    (void)first_row, (void)rows;
    sight->readings += strcmp(name, "vision_sequence") == 0;
    if (strcmp(name, "logits") != 0)
        return;
    bool certain = sight->readings - 1 == sight->right;
    bool looping = !certain && sight->loop > 0 && index >= sight->loop;
    int id = certain && index == sight->text ? 1 : looping ? FIRST_ID : FIRST_ID + index;
    float *logits = (float *)(uintptr_t)data;
    for (int i = 0; i < columns; i++)
        logits[i] = i != id ? 0 : certain || looping ? 1000 : 0.001f;
    sight->tokens++;
}

static Result read_seeing(const Page *page, Sight *sight) {
    const Trace trace = {see, sight};
    return read_page(page, &trace);
}

static OcrRequest request_of(OcrMode mode, int tokens, double turn_confidence) {
    return (OcrRequest){.mode = mode, .max_tokens = tokens, .turn_confidence = turn_confidence};
}

static void a_page_is_turned_until_it_is_read_well(void **state) {
    (void)state;
    OcrBytes file = make_picture(1280, 640, 0);
    for (int right = 0; right < 4; right++) {
        OcrMode mode = right == 1 ? OCR_MODE_GUNDAM : OCR_MODE_TINY; /* with tiles and without */
        Page page = make_page(file, request_of(mode, 30, 0.8));
        Sight sight = {.right = right, .text = SURE_TOKENS};
        Result read = read_seeing(&page, &sight);
        assert_int_equal(sight.readings, right + 1);
        assert_int_equal(sight.tokens, 30 * right + SURE_TOKENS + 1);
        assert_int_equal(read.page.plan.turned, right);
        assert_int_equal(read.page.plan.columns, 1);
        assert_int_equal(read.page.plan.rows, right == 1 ? 2 : 1);
        assert_int_equal(read.page.finish, OCR_FINISH_STOP);
        assert_int_equal(read.page.tokens, SURE_TOKENS);
        assert_true(read.page.confidence > 0.99);
        for (int i = 0; i < SURE_TOKENS; i++)
            assert_int_equal(read.ids[i], FIRST_ID + i);
        free(read.vision);
    }
    free_bytes(file);
}

static void the_first_reading_stands_if_none_is_better(void **state) {
    (void)state;
    OcrBytes file = make_picture(SIDE, SIDE, 0);
    Page page = make_page(file, request_of(OCR_MODE_TINY, 250, 0.8));
    Sight sight = {.right = 4};
    Result read = read_seeing(&page, &sight);
    assert_int_equal(sight.readings, 4);
    assert_int_equal(sight.tokens, 250 + 3 * 200); /* turned in vain, it is given up soon */
    assert_int_equal(read.page.plan.turned, 0);
    assert_int_equal(read.page.finish, OCR_FINISH_LENGTH);
    assert_int_equal(read.page.tokens, 250);
    assert_int_equal(read.ids[249], FIRST_ID + 249);
    assert_true(read.page.confidence < 0.1);
    free(read.vision);

    /* Nor is it better to see, with certainty, a word or two. */
    page = make_page(file, request_of(OCR_MODE_TINY, 30, 0.8));
    sight = (Sight){.right = 2, .text = 9};
    read = read_seeing(&page, &sight);
    assert_int_equal(sight.readings, 4);
    assert_int_equal(sight.tokens, 3 * 30 + 9 + 1);
    assert_int_equal(read.page.plan.turned, 0);
    assert_int_equal(read.page.tokens, 30);
    free(read.vision);

    /* But a word is better than a text that was given up. */
    page.request.min_confidence = 0.4;
    sight = (Sight){.right = 2, .text = 1};
    read = read_seeing(&page, &sight);
    assert_int_equal(sight.readings, 3);
    assert_int_equal(read.page.plan.turned, 2);
    assert_int_equal(read.page.tokens, 1);
    free(read.vision);
    free_bytes(file);
}

typedef struct Blank {
    double probability; /* of the end mark, which comes first */
    int readings;
} Blank;

static void end_at_once(void *context, const char *name, int index, int first_row,
                        const float *data, int rows, int columns) {
    Blank *blank = context;
    double odds = blank->probability / (1 - blank->probability);
    float *logits = (float *)(uintptr_t)data;
    (void)index, (void)first_row, (void)rows;
    if (strcmp(name, "logits") != 0)
        return;
    blank->readings++;
    for (int i = 0; i < columns; i++)
        logits[i] = i != 1 ? 0 : (float)log(odds * (columns - 1));
}

/* A page without text is left alone if a twentieth of the doubt remains that a text is allowed. */
static void a_page_surely_blank_is_not_turned(void **state) {
    (void)state;
    OcrBytes file = make_picture(SIDE, SIDE, 0);
    Page page = make_page(file, request_of(OCR_MODE_TINY, 250, 0.8));
    for (int i = 0; i < 2; i++) {
        Blank blank = {.probability = i ? 0.985 : 0.995};
        const Trace trace = {end_at_once, &blank};
        Result read = read_page(&page, &trace);
        assert_int_equal(blank.readings, i ? 4 : 1);
        assert_int_equal(read.page.tokens, 0);
        assert_int_equal(read.page.finish, OCR_FINISH_STOP);
        assert_int_equal(read.page.plan.turned, 0);
        assert_true(fabs(read.page.confidence - blank.probability) < 0.001);
        free(read.vision);
    }
    free_bytes(file);
}

/* Repeats are all but certain, which makes nothing better. */
static void a_page_whose_text_is_a_loop_is_turned(void **state) {
    (void)state;
    OcrBytes file = make_picture(SIDE, SIDE, 0);
    Page page = make_page(file, request_of(OCR_MODE_TINY, 600, 0.5));
    Sight sight = {.right = 4, .loop = 5};
    Result read = read_seeing(&page, &sight);
    assert_int_equal(sight.readings, 4);
    assert_int_equal(read.page.finish, OCR_FINISH_LOOP);
    assert_int_equal(read.page.plan.turned, 0);
    assert_int_equal(read.page.tokens, 6);
    assert_true(read.page.confidence > 0.5);
    free(read.vision);

    sight = (Sight){.right = 1, .text = SURE_TOKENS, .loop = 5};
    read = read_seeing(&page, &sight);
    assert_int_equal(sight.readings, 2);
    assert_int_equal(read.page.plan.turned, 1);
    assert_int_equal(read.page.tokens, SURE_TOKENS);
    free(read.vision);
    free_bytes(file);
}

static void some_pages_are_never_turned(void **state) {
    (void)state;
    OcrBytes file = make_picture(SIDE, SIDE, 0);
    OcrRequest requests[] = {request_of(OCR_MODE_TINY, 20, 0), request_of(OCR_MODE_TINY, 20, -1),
                             request_of(OCR_MODE_TINY, 20, 0.8), request_of(OCR_MODE_TINY, 20, 1)};
    requests[2].phrase = "where";
    requests[3].encode_only = true;
    for (int i = 0; i < 4; i++) {
        Page page = make_page(file, requests[i]);
        Sight sight = {.right = 4};
        assert_true(page.plan.turn_confidence == 0);
        Result read = read_seeing(&page, &sight);
        assert_int_equal(sight.readings, 1);
        assert_int_equal(read.page.plan.turned, 0);
        free(read.vision);
    }
    free_bytes(file);
}

/*
 * With the weights' own probabilities: of the four ways in which a page can lie one is read best,
 * and that reading comes out, to the last bit, however the page lay.
 */
static void it_is_read_as_if_it_had_lain_so(void **state) {
    (void)state;
    OcrBytes files[4];
    Result lying[4];
    int best = 0;
    for (int q = 0; q < 4; q++) {
        files[q] = make_picture(SIDE, SIDE, q);
        Page page = make_page(files[q], request_of(OCR_MODE_TINY, 40, 0));
        lying[q] = read_page(&page, NULL);
        if (lying[q].page.confidence > lying[best].page.confidence)
            best = q;
    }
    for (int turns = 1; turns < 3; turns++) {
        Page page = make_page(files[(best + 4 - turns) % 4],
                              request_of(OCR_MODE_TINY, 40, lying[best].page.confidence));
        Result read = read_page(&page, NULL);
        assert_int_equal(read.page.plan.turned, turns);
        assert_memory_equal(read.vision, lying[best].vision, read.vision_count * sizeof(float));
        assert_int_equal(read.page.tokens, lying[best].page.tokens);
        assert_memory_equal(read.ids, lying[best].ids, sizeof read.ids);
        assert_true(read.page.confidence == lying[best].page.confidence);
        free(read.vision);
    }
    for (int q = 0; q < 4; q++) {
        free_bytes(files[q]);
        free(lying[q].vision);
    }
}

/* Around the picture's ids the prompt stays as it is, however many they are. */
static void a_prompt_goes_on_behind_another_grid(void **state) {
    (void)state;
    enum { IMAGE_ID = 5, BEFORE = 3, BEHIND = 2, MOST_IDS = 1000 };
    static int ids[MOST_IDS], again[MOST_IDS];
    OcrBytes file = make_picture(1280, 640, 0);
    Page page = make_page(file, request_of(OCR_MODE_GUNDAM, 5, 1));
    int slots = page.plan.image_slots;
    page.plan.prompt_positions = BEFORE + slots + BEHIND;
    assert_in_range(page.plan.prompt_positions, 0, MOST_IDS);
    for (int i = 0; i < page.plan.prompt_positions; i++)
        ids[i] = i >= BEFORE && i < BEFORE + slots ? IMAGE_ID : 100 + i;
    Reading as_it_lay = {.plan = page.plan, .ids = ids}, read = {.plan = page.plan, .ids = again};
    for (int turned = 1; turned < 4; turned++) {
        memset(again, 0xFF, sizeof again);
        reading_turn(&read, &as_it_lay, IMAGE_ID);
        int now = read.plan.image_slots;
        assert_int_equal(read.plan.turned, turned);
        assert_int_equal(now - slots, turned % 2 ? 10 : 0);
        assert_int_equal(read.count, BEFORE + now + BEHIND);
        assert_memory_equal(again, ids, BEFORE * sizeof(int));
        for (int i = 0; i < now; i++)
            assert_int_equal(again[BEFORE + i], IMAGE_ID);
        assert_memory_equal(again + BEFORE + now, ids + BEFORE + slots, BEHIND * sizeof(int));
        assert_int_equal(again[BEFORE + now + BEHIND], -1);
    }
    free_bytes(file);
}

/* A grid that lies across takes other positions; however the page lies, they suffice. */
static void there_is_room_for_each_way_to_lie(void **state) {
    (void)state;
    OcrBytes file = make_picture(100, 900, 0); /* 1 x 9 tiles, with a newline for each of 90 rows */
    Page fixed = make_page(file, request_of(OCR_MODE_GUNDAM, 0, 0));
    Page turned = make_page(file, request_of(OCR_MODE_GUNDAM, 0, 0.5));
    OcrBytes across = make_picture(900, 100, 0);
    Page wide = make_page(across, request_of(OCR_MODE_GUNDAM, 0, 0.5));
    assert_int_equal(fixed.plan.prompt_positions, turned.plan.prompt_positions);
    assert_int_equal(turned.plan.prompt_positions - wide.plan.prompt_positions, 80);
    assert_int_equal(turned.plan.max_tokens, fixed.plan.max_tokens);
    assert_int_equal(wide.plan.max_tokens, fixed.plan.max_tokens);
    OcrPlan once = plan_turned(&wide.plan);
    assert_int_equal(once.prompt_positions, fixed.plan.prompt_positions);
    OcrLimits limits = {.slots = 1, .threads = 1};
    ocr_limits_add(&limits, &wide.plan, &wide.request);
    assert_int_equal(limits.positions, once.prompt_positions + once.max_tokens);
    assert_int_equal(limits.image_slots, once.image_slots);
    free_bytes(file);
    free_bytes(across);
}

/* Boxes are those of the picture as it lies. */
static void boxes_are_turned_back(void **state) {
    (void)state;
    static const char text[] = "<|ref|>text<|/ref|><|det|>[[0, 0, 333, 666]]<|/det|>";
    const OcrImageInfo image = {.width = 300, .height = 600};
    static const OcrBox expected[] = {
        {0, 0, 100, 400}, {0, 400, 200, 600}, {200, 200, 300, 600}, {100, 0, 300, 200}};
    for (int turned = 0; turned < 4; turned++) {
        OcrRegion region;
        assert_int_equal(
            ocr_text_regions((OcrText){text, sizeof text - 1}, &image, turned, &region, 1), 1);
        assert_memory_equal(&region.box, &expected[turned], sizeof region.box);
    }
}

static int begin(void **state) {
    OcrError err;
    (void)state;
    return ocr_pool_create(2, &pool, &err) ||
           ocr_model_open(CHECKPOINTS "/nano1", (OcrAllocator){keep_block, &tables}, &model, &err);
}

static int end(void **state) {
    (void)state;
    ocr_model_close(model);
    free(tables);
    ocr_pool_destroy(pool);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_page_is_turned_until_it_is_read_well),
        cmocka_unit_test(the_first_reading_stands_if_none_is_better),
        cmocka_unit_test(a_page_surely_blank_is_not_turned),
        cmocka_unit_test(a_page_whose_text_is_a_loop_is_turned),
        cmocka_unit_test(some_pages_are_never_turned),
        cmocka_unit_test(a_prompt_goes_on_behind_another_grid),
        cmocka_unit_test(it_is_read_as_if_it_had_lain_so),
        cmocka_unit_test(there_is_room_for_each_way_to_lie),
        cmocka_unit_test(boxes_are_turned_back),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
