/*
 * pdf.h - the pages of a PDF, drawn by a program outside the backend.
 *
 * A PDF library is no guest for a database process. The program that
 * deepseek_ocr.pdf_command names, pdftoppm as a rule, gets the PDF and writes
 * one PNM after the other; the pipe holds it up until a page is wanted, so that
 * one page is in memory at a time and the PDF is parsed once.
 */
#ifndef PG_PDF_H
#define PG_PDF_H

#include "engine.h"

typedef struct Pdf Pdf;

/* Is "%PDF-" in the first 1024 bytes? */
bool pdf_recognise(OcrBytes bytes);

/*
 * Pages first.. (from 1) to last, or to the end if last is 0. The PDF lives in
 * the current memory context, and its program ends with that.
 * OCR_IMAGE_UNSUPPORTED if there is no command.
 */
OcrCode pdf_open(OcrBytes bytes, int first, int last, Pdf **out, OcrError *err);

/*
 * The next page; false if there are no more. *number is its place, from 1. With
 * err->code OCR_OK *image is a PNM, palloc'ed; else err says what is wrong with
 * the page, and the next one may still be good.
 */
bool pdf_next(Pdf *pdf, OcrBytes *image, int *number, OcrError *err);

/*
 * Is there probably a page behind the one that pdf_next has just given? One that cannot be
 * drawn is a page, too, and so is one that is not drawn within seconds: it is not
 * waited for. Nothing but pdf_close may follow.
 */
bool pdf_has_next(Pdf *pdf);

void pdf_close(Pdf *pdf);

/* May deepseek_ocr.pdf_command be this? If not, *problem says why. */
bool pdf_command_is_valid(const char *command, const char **problem);

#endif
