/*
 * batch.h - many pages read together.
 *
 * One session of the engine holds deepseek_ocr.batch_size pages at a time. Each
 * step gives every page in it one more token and reads each weight once for all
 * of them; a page that ends makes room for the next, which is asked for only
 * then. A page's text is the one that page_read gives.
 *
 * Faults of pages are results like others; whatever else goes wrong is raised:
 * cancel, memory, settings, the model. The callbacks may raise errors, run
 * queries and read pages themselves.
 */
#ifndef PG_BATCH_H
#define PG_BATCH_H

#include "pg/page.h"

typedef struct BatchPage {
    PageInput input; /* file.data NULL: no image, and no result */
    void *item;      /* the caller's own */
    /* What came out. */
    OcrCode code;        /* OCR_OK, or the page's own fault */
    int sqlstate;        /* 0 if the page was read; a text that the database's encoding cannot
                            hold is a fault too, with code OCR_OK */
    const char *message; /* of the fault, in the database's encoding */
    text *content;       /* NULL without image and with a fault */
    OcrPage facts;       /* of a page whose text ended; without its arrays */
} BatchPage;

/*
 * Read pages[0..count-1]; what comes out lies in the current memory context.
 * done, which may be NULL, is called when a page with an image has come to its
 * result, in the order in which they do.
 */
void batch_read(BatchPage *pages, int count, void (*done)(void *owner, int page), void *owner);

/* Pages that come one by one and are not kept. */
typedef struct BatchStream {
    /*
     * Fill in input and item, zeros till then, of the next page; false if there are no more. A
     * page that cannot be had has its fault in *err. The current memory context holds the image
     * and lives until it is decoded; kept lives until done returns.
     */
    bool (*next)(void *owner, BatchPage *page, MemoryContext kept, OcrError *err);
    /* A page has its result, which goes with the current memory context on return. */
    void (*done)(void *owner, const BatchPage *page);
    void *owner;
    bool ordered; /* done is called in the order of next, else as pages end */
} BatchStream;

void batch_stream(const BatchStream *stream);

#endif
