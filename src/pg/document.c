#include "postgres.h"
#include "pg/compat.h"

#include "pg/document.h"
#include "pg/pdf.h"

struct Document {
    OcrBytes bytes;
    int next;       /* number of the next page */
    int last;       /* that is wanted and exists */
    Pdf *pdf;       /* or NULL: an image */
    OcrError fault; /* of the whole document, told once as its first page's */
};

static OcrCode open_pdf(Document *document, int first, int last) {
    return pdf_open(document->bytes, first, last, &document->pdf, &document->fault);
}

Document *document_open(OcrBytes bytes, int first, int last) {
    Document *document = palloc0(sizeof *document);
    int pages;
    OcrCode code = ocr_image_count(bytes, &pages, &document->fault);

    document->bytes = bytes;
    document->next = first;
    document->last = last == 0 ? pages : Min(last, pages);
    if (code == OCR_IMAGE_FORMAT && pdf_recognise(bytes))
        code = open_pdf(document, first, last);
    document->fault.code = code;
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
    if (document->pdf != NULL) {
        input->page = 1;
        return pdf_next(document->pdf, &input->file, number, err);
    }
    if (document->next > document->last)
        return false;
    err->code = OCR_OK;
    input->file = document->bytes;
    input->page = document->next++;
    return true;
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

/* A page that cannot be drawn is a page, too. */
static bool has_another_page(Pdf *pdf) {
    OcrBytes image;
    OcrError err;
    int number;

    if (!pdf_next(pdf, &image, &number, &err))
        return false;
    if (err.code == OCR_OK)
        pfree(unconstify(uint8_t *, image.data));
    return true;
}

static OcrCode first_page_of_pdf(OcrBytes bytes, OcrBytes *image, OcrError *err) {
    Pdf *pdf;
    int number;

    if (pdf_open(bytes, 1, 2, &pdf, err) != OCR_OK)
        return err->code;
    if (!pdf_next(pdf, image, &number, err))
        ocr_fail(err, OCR_IMAGE_EMPTY, "the PDF has no pages");
    else if (err->code == OCR_OK && has_another_page(pdf))
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
