#include "postgres.h"
#include "pg/compat.h"

#include "utils/memutils.h"

#include "pg/document.h"
#include "pg/errors.h"
#include "pg/model_cache.h"
#include "pg/page.h"
#include "pg/settings.h"
#include "pg/stats.h"
#include "pg/threads.h"

static OcrCode prepare(const PageInput *input, const OcrModel *model, PagePlan *out,
                       OcrError *err) {
    OcrCode code = document_image(input, &out->file, err);

    if (code == OCR_OK)
        code = ocr_image_probe(out->file, Max(input->page, 1) - 1, setting_max_image_pixels,
                               &out->image, err);
    if (code != OCR_OK)
        return code;
    out->request = (OcrRequest){.mode = input->mode,
                                .prompt = input->prompt,
                                .phrase = input->phrase,
                                .encode_only = input->encode_only};
    settings_apply(model, &out->request);
    return ocr_plan_page(model, &out->image, &out->request, &out->plan, err);
}

OcrCode page_check_memory(size_t bytes, size_t more, OcrError *err) {
    size_t limit = (size_t)setting_max_session_memory * 1024;

    if (bytes <= limit && more <= limit - bytes)
        return OCR_OK;
    return ocr_fail(err, OCR_IMAGE_TOO_LARGE,
                    "the page takes %zu MB of memory, more than the allowed %zu MB",
                    (bytes >> 20) + (more >> 20) + 1, limit >> 20);
}

OcrCode page_admit(const PageInput *input, const OcrModel *model, PagePlan *out, OcrLimits *alone,
                   OcrError *err) {
    OcrCode code = prepare(input, model, out, err);

    if (code != OCR_OK)
        return code;
    /* With one thread: anyone sets how many there are, and that must not decide what is read. */
    *alone = (OcrLimits){.slots = 1, .threads = 1, .compute = setting_compute};
    ocr_limits_add(alone, &out->plan, &out->request);
    /* The session and what decoding the image takes are alive together. */
    code = page_check_memory(ocr_session_bytes(model, alone),
                             ocr_decoding_bytes(&out->image, &out->plan), err);
    alone->threads = threads_wanted();
    return code;
}

static OcrCode start(const PageInput *input, const OcrModel *model, PageResult *result,
                     OcrError *err) {
    PagePlan asked;
    OcrLimits limits;
    void *block, *scratch;
    OcrCode code = page_admit(input, model, &asked, &limits, err);

    if (code != OCR_OK)
        return code;
    result->image = asked.image;
    block = MemoryContextAllocHuge(result->context, ocr_session_bytes(model, &limits));
    result->session = ocr_session_create(model, &limits, threads_pool(limits.threads), block);
    scratch = MemoryContextAllocHuge(result->context, ocr_start_bytes(&asked.image, &asked.plan));
    code = ocr_session_start(result->session, 0,
                             &(OcrInput){asked.file, &asked.image, &asked.request, &asked.plan},
                             scratch, err);
    pfree(scratch);
    return code;
}

static OcrCode run(OcrSession *session, OcrError *err) {
    for (;;) {
        switch (ocr_session_step(session, err)) {
        case OCR_STEP_MORE:
            CHECK_FOR_INTERRUPTS();
            break;
        case OCR_STEP_DONE:
            return OCR_OK;
        case OCR_STEP_FAILED:
            return err->code;
        }
    }
}

/* Lets the faults of a page pass, raises the others. */
static OcrCode page_faults_only(OcrCode code, const OcrError *err) {
    if (code != OCR_OK && !error_is_of_page(code))
        error_raise(err);
    return code;
}

OcrCode page_read(const PageInput *input, PageResult *result, OcrError *err) {
    const OcrModel *model = model_cache_get();
    OcrModelInfo info;
    OcrCode code;

    result->context =
        AllocSetContextCreate(CurrentMemoryContext, "deepseek_ocr page", ALLOCSET_SMALL_SIZES);
    code = start(input, model, result, err);
    if (code == OCR_OK)
        code = run(result->session, err);
    if (code != OCR_OK && code != OCR_INTERRUPTED)
        stats_count_error(error_sqlstate(code));
    if (page_faults_only(code, err) != OCR_OK) {
        page_free(result);
        return code;
    }
    ocr_session_page(result->session, 0, &result->page);
    if (!input->encode_only)
        stats_count_page(&result->page);
    ocr_model_info(model, &info);
    result->hidden = info.hidden;
    return OCR_OK;
}

void page_read_or_raise(const PageInput *input, PageResult *result) {
    OcrError err;

    if (page_read(input, result, &err) != OCR_OK)
        error_raise(&err);
}

void page_free(PageResult *result) {
    MemoryContextDelete(result->context);
}

/* Up to capacity bytes of the text; returns how many it has. */
static size_t copy_text(const OcrSession *session, int slot, char *out, size_t capacity) {
    OcrError err;
    size_t length;

    if (ocr_session_text(session, slot, out, capacity, &length, &err) != OCR_OK)
        error_raise(&err);
    return length;
}

char *session_text(const OcrSession *session, int slot, size_t *length) {
    char *utf8;

    *length = copy_text(session, slot, NULL, 0);
    utf8 = palloc_extended(*length + 1, MCXT_ALLOC_HUGE);
    copy_text(session, slot, utf8, *length);
    utf8[*length] = '\0';
    return utf8;
}

char *page_text(const PageResult *result, size_t *length) {
    return session_text(result->session, 0, length);
}

OcrCode page_plan(const PageInput *input, PagePlan *out, OcrError *err) {
    return page_faults_only(prepare(input, model_cache_get(), out, err), err);
}
