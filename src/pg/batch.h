/*
 * batch.h - many pages read together.
 *
 * One session of the engine holds deepseek_ocr.batch_size pages at a time. Each
 * step gives every page in it one more token and reads each weight once for all
 * of them; a page that ends makes room for the next. A page's text is the one
 * that page_read gives.
 */
#ifndef PG_BATCH_H
#define PG_BATCH_H

#include "pg/page.h"

typedef struct BatchPage {
    PageInput input; /* file.data NULL: no image, and no result */
    /* What came out; strings and text lie in the memory context of the call. */
    OcrCode code;        /* OCR_OK, or the page's own fault */
    int sqlstate;        /* 0 if the page was read; a text that the database's encoding cannot
                            hold is a fault too, with code OCR_OK */
    const char *message; /* of the fault, in the database's encoding */
    text *content;       /* NULL without image and with a fault */
    OcrPage facts;       /* of a page whose text ended; without its arrays */
} BatchPage;

/*
 * Read pages[0..count-1]. Faults of pages are recorded in them; whatever else goes wrong is
 * raised: cancel, memory, settings, the model. done, which may be NULL, is called when a page
 * with an image has come to its result, in the order in which they do; it may raise an error, but
 * not read pages.
 */
void batch_read(BatchPage *pages, int count, void (*done)(void *owner, int page), void *owner);

#endif
