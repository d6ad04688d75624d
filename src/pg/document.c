#include "postgres.h"
#include "pg/compat.h"

#include "pg/document.h"

struct Document {
    OcrBytes bytes;
    int next;       /* number of the next page */
    int last;       /* that is wanted and exists */
    OcrError fault; /* of the whole document, told as the first page's */
};

Document *document_open(OcrBytes bytes, int first, int last) {
    Document *document = palloc0(sizeof *document);
    int pages;

    document->bytes = bytes;
    document->next = first;
    document->fault.code = ocr_image_count(bytes, &pages, &document->fault);
    document->last = last == 0 || last > pages ? pages : last;
    return document;
}

bool document_next(Document *document, PageInput *input, int *number, OcrError *err) {
    *number = document->next;
    if (document->fault.code != OCR_OK) {
        *err = document->fault;
        document->fault.code = OCR_OK;
        document->last = 0;
        return true;
    }
    if (document->next > document->last)
        return false;
    err->code = OCR_OK;
    input->file = document->bytes;
    input->page = document->next++;
    return true;
}

void document_close(Document *document) {
    pfree(document);
}

static void tell_of_more_pages(void) {
    ereport(NOTICE, (errmsg("the document has more than one page; the first is read"),
                     errhint("Use ocr_pages() to read them all.")));
}

OcrCode document_image(const PageInput *input, OcrBytes *image, OcrError *err) {
    int pages;

    *image = input->file;
    if (input->page > 0)
        return OCR_OK;
    if (ocr_image_count(input->file, &pages, err) != OCR_OK)
        return err->code;
    if (pages > 1)
        tell_of_more_pages();
    return OCR_OK;
}
