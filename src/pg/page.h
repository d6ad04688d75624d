/*
 * page.h - one page through the engine, from bytes to its result.
 */
#ifndef PG_PAGE_H
#define PG_PAGE_H

#include "engine.h"

/* What is asked for: the SQL arguments. */
typedef struct PageInput {
    OcrBytes file;
    int page; /* of the file, from 1; 0: the first, with a NOTICE if there are more */
    OcrMode mode;
    const char *prompt; /* UTF-8; NULL: the default */
    const char *phrase; /* UTF-8; not NULL: ask where it is, in place of a prompt */
    bool encode_only;   /* stop after the vision tokens */
} PageInput;

/* What came out; valid until page_free, or until the calling memory context is reset. */
typedef struct PageResult {
    MemoryContext context; /* "deepseek_ocr page", holds the session's block */
    OcrSession *session;
    OcrImageInfo image;
    OcrPage page;
    int hidden; /* width of a row of page.vision */
} PageResult;

/*
 * Read a page. A fault of the page itself (error_is_of_page) is returned, with
 * *err filled and nothing to free; whatever else goes wrong is raised: cancel,
 * memory, settings, the model.
 */
OcrCode page_read(const PageInput *input, PageResult *result, OcrError *err);
void page_read_or_raise(const PageInput *input, PageResult *result);
void page_free(PageResult *result);

/* The text of a page that was read, in UTF-8, palloc'ed. */
char *page_text(const PageResult *result, size_t *length);
char *session_text(const OcrSession *session, int slot, size_t *length);

/* How a page would be read. */
typedef struct PagePlan {
    OcrBytes file; /* the image, see document_image */
    OcrImageInfo image;
    OcrRequest request;
    OcrPlan plan;
} PagePlan;

/* That, from the image's headers alone; a PDF's first page is drawn. Errors as page_read. */
OcrCode page_plan(const PageInput *input, PagePlan *out, OcrError *err);

/* OCR_IMAGE_TOO_LARGE if two blocks of that size together are more than a page may take. */
OcrCode page_check_memory(size_t bytes, size_t more, OcrError *err);

/*
 * The same with this model, for who runs a session: *alone are the limits of one with nothing
 * but this page. OCR_IMAGE_TOO_LARGE if that takes more memory than is allowed. Returns all
 * errors but those of drawing a PDF's page that are not its fault, such as a cancel.
 */
OcrCode page_admit(const PageInput *input, const OcrModel *model, PagePlan *out, OcrLimits *alone,
                   OcrError *err);

#endif
