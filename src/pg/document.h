/*
 * document.h - a document's pages, one after the other.
 *
 * A document is an image, a TIFF of several pages, or a PDF. Its pages are visited in
 * order, none is kept, and one that cannot be read does not hide the next:
 *
 *     Document *document = document_open(bytes, 1, 0);
 *     while (document_next(document, &input, &number, &err))
 *         if (err.code == OCR_OK) ... page_read(&input, ...) ...
 *     document_close(document);
 */
#ifndef PG_DOCUMENT_H
#define PG_DOCUMENT_H

#include "pg/page.h"

typedef struct Document Document;

/*
 * Pages first.. (from 1) to last, or to the end if last is 0; a document may
 * have fewer. Behind deepseek_ocr.max_document_pages of them, one more is an
 * error, and the last. The bytes must outlive the document, which lives in the current
 * memory context; when that is reset, the document is closed.
 */
Document *document_open(OcrBytes bytes, int first, int last);

/*
 * The next page; false if there are no more. *number is its place, from 1. With
 * err->code OCR_OK input's file and page are set, and nothing else of it; else
 * err says what is wrong with this page, or, once, with the whole document.
 * input->file is valid as long as the document's bytes and the memory context
 * that is the current one now.
 */
bool document_next(Document *document, PageInput *input, int *number, OcrError *err);

void document_close(Document *document);

/*
 * The image that a page's input means, for page_read and its like: input's file,
 * or where no page of it was chosen its first one, with a NOTICE if there are more.
 */
OcrCode document_image(const PageInput *input, OcrBytes *image, OcrError *err);

#endif
