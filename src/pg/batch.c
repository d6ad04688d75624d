#include "postgres.h"
#include "pg/compat.h"

#include "lib/ilist.h"
#include "utils/datum.h"
#include "utils/memutils.h"

#include "pg/batch.h"
#include "pg/encoding.h"
#include "pg/errors.h"
#include "pg/model_cache.h"
#include "pg/settings.h"
#include "pg/stats.h"
#include "pg/threads.h"

/*
 * With so many, the next page is asked for when one in work has ended. A stream may go on with any
 * number of pages without an image, whose results have to wait for the one in work.
 */
#define MAX_ENTRIES 1000

/* A page between next and done. */
typedef struct Entry {
    dlist_node node;
    MemoryContext context; /* holds this and the result */
    BatchPage page;
    bool ended;
} Entry;

typedef struct Batch {
    const BatchStream *stream;
    MemoryContext context; /* of all that follows */
    MemoryContext image;   /* of the waiting page */
    dlist_head entries;    /* in the stream's order */
    int entry_count;       /* in the list */
    bool exhausted;        /* the stream has no more */
    Entry *waiting;        /* asked for and not started, or NULL */
    PagePlan plan;         /* of the waiting page */
    const OcrModel *model;
    int slots;        /* that are wanted */
    OcrLimits limits; /* of the session, or the least that the first must have */
    void *block;      /* the session's, or NULL: there is none yet */
    OcrSession *session;
    Entry **in_slot; /* [slots] or NULL */
    int live;        /* slots with a page */
} Batch;

/* ---- results ---- */

/* Hand over what has its result and need not wait for others. */
static void deliver(Batch *batch) {
    dlist_mutable_iter iter;

    dlist_foreach_modify(iter, &batch->entries) {
        Entry *entry = dlist_container(Entry, node, iter.cur);
        MemoryContext old;

        if (!entry->ended && batch->stream->ordered)
            break;
        if (!entry->ended)
            continue;
        dlist_delete(&entry->node);
        batch->entry_count--;
        old = MemoryContextSwitchTo(entry->context);
        batch->stream->done(batch->stream->owner, &entry->page);
        MemoryContextSwitchTo(old);
        MemoryContextDelete(entry->context);
    }
}

static void end_page(Batch *batch, Entry *entry) {
    entry->ended = true;
    deliver(batch);
}

/* The page's own fault becomes its result; others are raised. */
static void end_with_fault(Batch *batch, Entry *entry, const OcrError *err) {
    BatchPage *page = &entry->page;

    if (err->code != OCR_INTERRUPTED)
        stats_count_error(error_sqlstate(err->code));
    if (!error_is_of_page(err->code))
        error_raise(err);
    page->code = err->code;
    page->sqlstate = error_sqlstate(err->code);
    page->message = MemoryContextStrdup(entry->context, error_line(err));
    end_page(batch, entry);
}

static void set_text(BatchPage *page, const char *utf8, size_t length) {
    if (utf8_fits_server(utf8, length)) {
        page->content = text_from_utf8(utf8, length);
    } else {
        page->sqlstate = ERRCODE_UNTRANSLATABLE_CHARACTER;
        page->message = message_untranslatable();
    }
}

static void end_with_text(Batch *batch, int slot) {
    Entry *entry = batch->in_slot[slot];
    MemoryContext old = MemoryContextSwitchTo(entry->context);
    size_t length;
    char *utf8 = session_text(batch->session, slot, &length);

    ocr_session_page(batch->session, slot, &entry->page.facts);
    entry->page.facts.ids = NULL;
    entry->page.facts.vision = NULL;
    stats_count_page(&entry->page.facts);
    set_text(&entry->page, utf8, length);
    pfree(utf8);
    MemoryContextSwitchTo(old);
    batch->in_slot[slot] = NULL;
    batch->live--;
    end_page(batch, entry);
}

/* ---- the next page ---- */

static Entry *create_entry(Batch *batch) {
    MemoryContext context =
        AllocSetContextCreate(batch->context, "deepseek_ocr result", ALLOCSET_SMALL_SIZES);
    Entry *entry = MemoryContextAllocZero(context, sizeof *entry);

    entry->context = context;
    return entry;
}

/* The list of tokens that the plan refers to must live as long as the page. */
static void keep_whitelist(OcrRequest *request, MemoryContext context) {
    size_t bytes = request->whitelist_count * sizeof(int);

    if (bytes > 0)
        request->whitelist = memcpy(MemoryContextAlloc(context, bytes), request->whitelist, bytes);
}

/* Plan the page; one that cannot be read, or has no image, ends here. */
static void admit(Batch *batch, Entry *entry, OcrError *err) {
    OcrLimits alone;

    if (err->code == OCR_OK && entry->page.input.file.data == NULL) {
        end_page(batch, entry);
        return;
    }
    if (err->code == OCR_OK)
        page_admit(&entry->page.input, batch->model, &batch->plan, &alone, err);
    if (err->code != OCR_OK) {
        end_with_fault(batch, entry, err);
        return;
    }
    keep_whitelist(&batch->plan.request, entry->context);
    batch->waiting = entry;
}

static void ask_for_page(Batch *batch) {
    Entry *entry = create_entry(batch);
    OcrError err = {OCR_OK, ""};

    MemoryContextReset(batch->image);
    MemoryContextSwitchTo(batch->image);
    batch->exhausted =
        !batch->stream->next(batch->stream->owner, &entry->page, entry->context, &err);
    MemoryContextSwitchTo(batch->image);
    if (batch->exhausted) {
        MemoryContextDelete(entry->context);
    } else {
        dlist_push_tail(&batch->entries, &entry->node);
        batch->entry_count++;
        admit(batch, entry, &err);
    }
    MemoryContextSwitchTo(batch->context);
}

/* ---- the session ---- */

static bool session_holds_waiting(const Batch *batch) {
    OcrLimits limits = batch->limits;

    ocr_limits_add(&limits, &batch->plan.plan, &batch->plan.request);
    return batch->block != NULL && memcmp(&limits, &batch->limits, sizeof limits) == 0;
}

/*
 * With fewer slots if all would take more memory than is allowed, or than the system has. One page
 * is allowed what it was admitted with; without memory for it, that is an error.
 */
static void *allocate_block(const OcrModel *model, OcrLimits *limits) {
    size_t most = (size_t)setting_max_batch_memory * 1024;

    while (limits->slots > 1 && ocr_session_bytes(model, limits) > most)
        limits->slots--;
    for (; limits->slots > 1; limits->slots /= 2) {
        size_t bytes = ocr_session_bytes(model, limits);
        void *block = NULL;

        if (AllocHugeSizeIsValid(bytes))
            block = palloc_extended(bytes, MCXT_ALLOC_HUGE | MCXT_ALLOC_NO_OOM);
        if (block != NULL)
            return block;
    }
    return palloc_extended(ocr_session_bytes(model, limits), MCXT_ALLOC_HUGE);
}

/* A session that holds the waiting page, in place of one that is empty. */
static void create_session(Batch *batch) {
    if (batch->block != NULL)
        pfree(batch->block);
    batch->limits.slots = batch->slots;
    ocr_limits_add(&batch->limits, &batch->plan.plan, &batch->plan.request);
    batch->block = allocate_block(batch->model, &batch->limits);
    batch->session = ocr_session_create(batch->model, &batch->limits,
                                        threads_pool(batch->limits.threads), batch->block);
}

/* Is there a page that can be started now, if there is a slot for it? */
static bool has_page(Batch *batch) {
    while (batch->waiting == NULL && !batch->exhausted) {
        CHECK_FOR_INTERRUPTS();
        if (batch->live > 0 && batch->entry_count >= MAX_ENTRIES)
            return false;
        ask_for_page(batch);
    }
    if (batch->waiting == NULL)
        return false;
    if (session_holds_waiting(batch))
        return true;
    if (batch->live > 0)
        return false;
    create_session(batch);
    return true;
}

static int idle_slot(const Batch *batch) {
    int slot = 0;

    while (batch->in_slot[slot] != NULL)
        slot++;
    return slot;
}

static void start_waiting(Batch *batch) {
    const PagePlan *plan = &batch->plan;
    Entry *entry = batch->waiting;
    int slot = idle_slot(batch);
    OcrInput input = {plan->file, &plan->image, &plan->request, &plan->plan};
    void *scratch = palloc_extended(ocr_start_bytes(&plan->image, &plan->plan), MCXT_ALLOC_HUGE);
    OcrError err;

    batch->waiting = NULL;
    if (ocr_session_start(batch->session, slot, &input, scratch, &err) == OCR_OK) {
        batch->in_slot[slot] = entry;
        batch->live++;
    } else {
        end_with_fault(batch, entry, &err);
    }
    pfree(scratch);
    MemoryContextReset(batch->image);
}

/* ---- all pages ---- */

static bool has_idle_slot(const Batch *batch) {
    return batch->block == NULL || batch->live < batch->limits.slots;
}

static void step(Batch *batch) {
    OcrError err;

    CHECK_FOR_INTERRUPTS();
    if (ocr_session_step(batch->session, &err) == OCR_STEP_FAILED) {
        if (err.code != OCR_INTERRUPTED)
            stats_count_error(error_sqlstate(err.code));
        error_raise(&err);
    }
    for (int slot = 0; slot < batch->limits.slots; slot++)
        if (batch->in_slot[slot] != NULL && ocr_session_finished(batch->session, slot))
            end_with_text(batch, slot);
}

static Batch *create_batch(const BatchStream *stream, int slots) {
    MemoryContext context =
        AllocSetContextCreate(CurrentMemoryContext, "deepseek_ocr batch", ALLOCSET_SMALL_SIZES);
    Batch *batch = MemoryContextAllocZero(context, sizeof *batch);

    batch->stream = stream;
    batch->context = context;
    batch->image = AllocSetContextCreate(context, "deepseek_ocr image", ALLOCSET_SMALL_SIZES);
    dlist_init(&batch->entries);
    batch->model = model_cache_get();
    model_cache_pin(context);
    batch->slots = slots;
    threads_pin(context); /* the stream may be a query that asks for others */
    batch->limits = (OcrLimits){.threads = threads_wanted(), .compute = setting_compute};
    batch->in_slot = MemoryContextAllocZero(context, slots * sizeof *batch->in_slot);
    return batch;
}

static void run(Batch *batch) {
    MemoryContext old = MemoryContextSwitchTo(batch->context);

    for (;;) {
        while (has_idle_slot(batch) && has_page(batch))
            start_waiting(batch);
        if (batch->live == 0)
            break;
        step(batch);
    }
    MemoryContextSwitchTo(old);
    MemoryContextDelete(batch->context);
}

void batch_stream(const BatchStream *stream) {
    run(create_batch(stream, setting_batch_size));
}

/* ---- pages in an array ---- */

typedef struct PageArray {
    BatchPage *pages;
    int count;
    int next;
    MemoryContext context; /* for results */
    void (*done)(void *owner, int page);
    void *owner;
} PageArray;

static bool next_of_array(void *owner, BatchPage *page, MemoryContext kept, OcrError *err) {
    PageArray *array = owner;

    if (array->next == array->count)
        return false;
    page->item = &array->pages[array->next++];
    page->input = ((BatchPage *)page->item)->input;
    return true;
}

static void done_in_array(void *owner, const BatchPage *page) {
    PageArray *array = owner;
    BatchPage *result = page->item;
    void *item = result->item;
    MemoryContext old = MemoryContextSwitchTo(array->context);

    *result = *page;
    result->item = item;
    if (page->message != NULL)
        result->message = pstrdup(page->message);
    if (page->content != NULL)
        result->content =
            (text *)DatumGetPointer(datumCopy(PointerGetDatum(page->content), false, -1));
    MemoryContextSwitchTo(old);
    if (array->done != NULL && page->input.file.data != NULL)
        array->done(array->owner, result - array->pages);
}

/* Make the first session large enough for all pages whose headers can be seen. */
static void widen_for_array(Batch *batch, const PageArray *array) {
    for (int i = 0; i < array->count; i++) {
        PageInput input = array->pages[i].input;
        OcrLimits alone;
        OcrError err;

        CHECK_FOR_INTERRUPTS();
        input.page = Max(input.page, 1); /* opens no document */
        if (input.file.data != NULL &&
            page_admit(&input, batch->model, &batch->plan, &alone, &err) == OCR_OK)
            ocr_limits_add(&batch->limits, &batch->plan.plan, &batch->plan.request);
    }
}

void batch_read(BatchPage *pages, int count, void (*done)(void *owner, int page), void *owner) {
    PageArray array = {.pages = pages,
                       .count = count,
                       .context = CurrentMemoryContext,
                       .done = done,
                       .owner = owner};
    BatchStream stream = {.next = next_of_array, .done = done_in_array, .owner = &array};
    Batch *batch = create_batch(&stream, Max(Min(setting_batch_size, count), 1));
    MemoryContext old = MemoryContextSwitchTo(batch->image);

    widen_for_array(batch, &array);
    MemoryContextSwitchTo(old);
    run(batch);
}
