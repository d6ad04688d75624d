/*
 * pnm.h - where a portable anymap ends, for who gets several in one stream.
 */
#ifndef OCR_PNM_H
#define OCR_PNM_H

#include "base/status.h"
#include "base/types.h"

/*
 * The whole length in bytes of the picture that begins so; 0 if its header is
 * not complete yet.
 */
OcrCode pnm_length(OcrBytes beginning, uint64_t *length, OcrError *err);

#endif
