#include "postgres.h"
#include "pg/compat.h"

#include "utils/memutils.h"

#include "pg/batch.h"
#include "pg/encoding.h"
#include "pg/errors.h"
#include "pg/model_cache.h"
#include "pg/settings.h"
#include "pg/stats.h"
#include "pg/threads.h"

#define NO_PAGE (-1)

typedef struct Batch {
    MemoryContext caller; /* for results */
    BatchPage *pages;
    PagePlan *plans; /* [count] of the pages that wait */
    int count;
    int next; /* pages before it are in work, or have their result */
    const OcrModel *model;
    OcrSession *session;
    int slots;
    int *page_of_slot; /* [slots] or NO_PAGE */
    int live;          /* slots with a page */
    void (*done)(void *owner, int page);
    void *owner;
} Batch;

static void tell(const Batch *batch, int page) {
    if (batch->done != NULL)
        batch->done(batch->owner, page);
}

static _Noreturn void raise_fault(const OcrError *err) {
    if (err->code != OCR_INTERRUPTED)
        stats_count_error(error_sqlstate(err->code));
    error_raise(err);
}

/* The page's own fault becomes its result; others are raised. */
static void record_fault(Batch *batch, int index, const OcrError *err) {
    BatchPage *page = &batch->pages[index];

    if (!error_is_of_page(err->code))
        raise_fault(err);
    stats_count_error(error_sqlstate(err->code));
    page->code = err->code;
    page->sqlstate = error_sqlstate(err->code);
    page->message = MemoryContextStrdup(batch->caller, message_from_utf8(err->message));
    tell(batch, index);
}

static void record_text(Batch *batch, int slot, BatchPage *page) {
    size_t length;
    char *utf8 = session_text(batch->session, slot, &length);
    MemoryContext work = MemoryContextSwitchTo(batch->caller);

    if (utf8_fits_server(utf8, length)) {
        page->content = text_from_utf8(utf8, length);
    } else {
        page->sqlstate = ERRCODE_UNTRANSLATABLE_CHARACTER;
        page->message = message_untranslatable();
    }
    MemoryContextSwitchTo(work);
    pfree(utf8);
}

static void record_page(Batch *batch, int slot) {
    int index = batch->page_of_slot[slot];
    BatchPage *page = &batch->pages[index];

    ocr_session_page(batch->session, slot, &page->facts);
    stats_count_page(&page->facts);
    page->facts.ids = NULL;
    page->facts.vision = NULL;
    record_text(batch, slot, page);
    batch->page_of_slot[slot] = NO_PAGE;
    batch->live--;
    tell(batch, index);
}

static bool waits(const BatchPage *page) {
    return page->input.file.data != NULL && page->code == OCR_OK;
}

/* Plan all pages: how many can be read, and how large a slot must be for any of them. */
static int plan_pages(Batch *batch, OcrLimits *limits) {
    int admitted = 0;
    OcrError err;

    for (int i = 0; i < batch->count; i++) {
        PagePlan *asked = &batch->plans[i];
        OcrLimits alone;

        CHECK_FOR_INTERRUPTS();
        if (!waits(&batch->pages[i]))
            continue;
        if (page_admit(&batch->pages[i].input, batch->model, asked, &alone, &err) != OCR_OK) {
            record_fault(batch, i, &err);
            continue;
        }
        if (admitted++ == 0)
            *limits = alone;
        else
            ocr_limits_add(limits, &asked->plan, &asked->request);
    }
    return admitted;
}

/* With fewer slots if the system has no memory for all; without it for one, that is an error. */
static void create_session(Batch *batch, OcrLimits *limits) {
    void *block = NULL;

    while (limits->slots > 1 && block == NULL) {
        size_t bytes = ocr_session_bytes(batch->model, limits);

        if (AllocHugeSizeIsValid(bytes))
            block = palloc_extended(bytes, MCXT_ALLOC_HUGE | MCXT_ALLOC_NO_OOM);
        if (block == NULL)
            limits->slots /= 2;
    }
    if (block == NULL)
        block = palloc_extended(ocr_session_bytes(batch->model, limits), MCXT_ALLOC_HUGE);
    batch->session = ocr_session_create(batch->model, limits, threads_pool(limits->threads), block);
    batch->slots = limits->slots;
    batch->page_of_slot = palloc(batch->slots * sizeof(int));
    for (int slot = 0; slot < batch->slots; slot++)
        batch->page_of_slot[slot] = NO_PAGE;
}

/* Decode the next page's image into the slot, and the one after it if the image is bad. */
static void fill_slot(Batch *batch, int slot) {
    while (batch->page_of_slot[slot] == NO_PAGE && batch->next < batch->count) {
        int index = batch->next++;
        BatchPage *page = &batch->pages[index];
        PagePlan *asked = &batch->plans[index];
        OcrError err;
        void *scratch;

        CHECK_FOR_INTERRUPTS();
        if (!waits(page))
            continue;
        scratch = palloc_extended(ocr_start_bytes(&asked->image, &asked->plan), MCXT_ALLOC_HUGE);
        if (ocr_session_start(batch->session, slot, asked->file, &asked->image, &asked->request,
                              &asked->plan, scratch, &err) == OCR_OK) {
            batch->page_of_slot[slot] = index;
            batch->live++;
        } else {
            record_fault(batch, index, &err);
        }
        pfree(scratch);
    }
}

static void fill_slots(Batch *batch) {
    for (int slot = 0; slot < batch->slots; slot++)
        fill_slot(batch, slot);
}

static void empty_slots(Batch *batch) {
    for (int slot = 0; slot < batch->slots; slot++)
        if (batch->page_of_slot[slot] != NO_PAGE && ocr_session_finished(batch->session, slot))
            record_page(batch, slot);
}

static void run(Batch *batch) {
    OcrError err;

    fill_slots(batch);
    while (batch->live > 0) {
        CHECK_FOR_INTERRUPTS();
        if (ocr_session_step(batch->session, &err) == OCR_STEP_FAILED)
            raise_fault(&err);
        empty_slots(batch);
        fill_slots(batch);
    }
}

static void clear_results(BatchPage *pages, int count) {
    for (int i = 0; i < count; i++)
        pages[i] = (BatchPage){.input = pages[i].input};
}

void batch_read(BatchPage *pages, int count, void (*done)(void *owner, int page), void *owner) {
    MemoryContext work =
        AllocSetContextCreate(CurrentMemoryContext, "deepseek_ocr batch", ALLOCSET_SMALL_SIZES);
    Batch batch = {.caller = MemoryContextSwitchTo(work),
                   .pages = pages,
                   .count = count,
                   .model = model_cache_get(),
                   .done = done,
                   .owner = owner};
    OcrLimits limits;
    int admitted;

    clear_results(pages, count);
    batch.plans = palloc_extended(count * sizeof(PagePlan), MCXT_ALLOC_HUGE);
    admitted = plan_pages(&batch, &limits);
    if (admitted > 0) {
        limits.slots = Min(setting_batch_size, admitted);
        create_session(&batch, &limits);
        run(&batch);
    }
    MemoryContextSwitchTo(batch.caller);
    MemoryContextDelete(work);
}
