/*
 * settings.h - the extension's settings, deepseek_ocr.*
 *
 * ocr() is declared IMMUTABLE: stored results must not depend on who asks.
 * Therefore each setting that can change a result, and each limit that protects
 * the server, can be set by superusers alone (or by those whom they GRANT it
 * to); deepseek_ocr.threads and deepseek_ocr.batch_size are everyone's, since
 * they change no result.
 */
#ifndef PG_SETTINGS_H
#define PG_SETTINGS_H

#include "engine.h"

#define SETTING_MAX_THREADS 256

extern char *setting_model;
extern int setting_threads; /* 0: one for each core */
extern int setting_batch_size;
extern int setting_max_image_pixels;
extern int setting_max_document_pages;
extern int setting_max_session_memory; /* kB */
extern int setting_max_batch_memory;   /* kB */
extern int setting_compute;            /* OcrCompute */
extern char *setting_pdf_command;      /* "": PDFs are not read */
extern int setting_pdf_resolution;     /* dots per inch */
extern int setting_pdf_timeout;        /* ms a page */

/* Define them all; once, from _PG_init. */
void settings_define(void);

/*
 * The part of a request that comes from settings: how long a text may get, what
 * is banned from being repeated, and how sure of it the model must be. The whitelist's ids are
 * palloc'ed.
 */
void settings_apply(const OcrModel *model, OcrRequest *request);

#endif
