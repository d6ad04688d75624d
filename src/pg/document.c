#include "postgres.h"
#include "pg/compat.h"

#include "pg/document.h"
#include "pg/pdf.h"
#include "pg/settings.h"

struct Document {
    OcrBytes bytes;
    int next;       /* number of an image's next page */
    int last;       /* page that is wanted and, in an image, exists; 0 ends the document */
    int limit;      /* last page that may be read */
    Pdf *pdf;       /* or NULL: an image */
    OcrError fault; /* of the whole document, told once as its first page's */
};

static OcrCode open_pdf(Document *document, int first, int last) {
    document->last = last == 0 ? INT_MAX : last;
    if (document->last > document->limit)
        document->last = document->limit + 1; /* tells whether there is one too many */
    return pdf_open(document->bytes, first, document->last, &document->pdf, &document->fault);
}

Document *document_open(OcrBytes bytes, int first, int last) {
    Document *document = palloc0(sizeof *document);
    int pages;
    OcrCode code = ocr_image_count(bytes, &pages, &document->fault);

    document->bytes = bytes;
    document->next = first;
    document->last = last == 0 ? pages : Min(last, pages);
    document->limit = (int)Min((int64)first - 1 + setting_max_document_pages, INT_MAX);
    if (code == OCR_IMAGE_FORMAT && pdf_recognise(bytes))
        code = open_pdf(document, first, last);
    document->fault.code = code;
    return document;
}

static bool next_of_image(Document *document, PageInput *input, int *number, OcrError *err) {
    if (document->next > document->last)
        return false;
    err->code = OCR_OK;
    input->file = document->bytes;
    input->page = *number = document->next++;
    return true;
}

static bool next_of_pdf(Document *document, PageInput *input, int *number, OcrError *err) {
    input->page = 1;
    return document->last > 0 && pdf_next(document->pdf, &input->file, number, err);
}

bool document_next(Document *document, PageInput *input, int *number, OcrError *err) {
    bool found;

    if (document->fault.code != OCR_OK) {
        *number = document->next;
        *err = document->fault;
        document->fault.code = OCR_OK;
        document->last = 0;
        return true;
    }
    found = document->pdf != NULL ? next_of_pdf(document, input, number, err)
                                  : next_of_image(document, input, number, err);
    if (found && *number > document->limit) {
        ocr_fail(err, OCR_IMAGE_TOO_LARGE,
                 "page %d of the document and those behind it are not read: %d are allowed",
                 *number, setting_max_document_pages);
        document->last = 0;
    }
    return found;
}

void document_close(Document *document) {
    if (document->pdf != NULL)
        pdf_close(document->pdf);
    pfree(document);
}

static void tell_of_more_pages(void) {
    ereport(NOTICE, (errmsg("the document has more than one page; the first is read"),
                     errhint("Use ocr_pages() to read them all.")));
}

static OcrCode first_page_of_pdf(OcrBytes bytes, OcrBytes *image, OcrError *err) {
    Pdf *pdf;
    int number;

    if (pdf_open(bytes, 1, 2, &pdf, err) != OCR_OK)
        return err->code;
    if (!pdf_next(pdf, image, &number, err))
        ocr_fail(err, OCR_IMAGE_EMPTY, "the PDF has no pages");
    else if (err->code == OCR_OK && pdf_has_next(pdf))
        tell_of_more_pages();
    pdf_close(pdf);
    return err->code;
}

OcrCode document_image(const PageInput *input, OcrBytes *image, OcrError *err) {
    OcrCode code;
    int pages;

    *image = input->file;
    if (input->page > 0)
        return OCR_OK;
    code = ocr_image_count(input->file, &pages, err);
    if (code == OCR_IMAGE_FORMAT && pdf_recognise(input->file))
        return first_page_of_pdf(input->file, image, err);
    if (code == OCR_OK && pages > 1)
        tell_of_more_pages();
    return code;
}
