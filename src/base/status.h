/*
 * status.h - how every fallible function of the engine reports.
 *
 * A function that can fail returns an OcrCode and, when it is not OCR_OK, has
 * filled the caller's OcrError with one sentence for a person. Nothing below
 * src/pg prints, jumps or exits; src/pg/errors.c alone turns codes into
 * SQLSTATEs.
 */
#ifndef OCR_STATUS_H
#define OCR_STATUS_H

typedef enum OcrCode {
    OCR_OK = 0,
    OCR_INTERRUPTED,       /* the caller's interrupted() said so; the session is void */
    OCR_OUT_OF_MEMORY,     /* the system has no memory left */
    OCR_SYSTEM,            /* a thread could not be started, and the like */
    OCR_IMAGE_EMPTY,       /* no bytes, or a picture without pixels */
    OCR_IMAGE_FORMAT,      /* not an image of a known format */
    OCR_IMAGE_UNSUPPORTED, /* a known format in a variant that is not read */
    OCR_IMAGE_DAMAGED,     /* truncated or inconsistent */
    OCR_IMAGE_TOO_LARGE,   /* more pixels, memory, pages or time than the caller allows */
    OCR_IMAGE_ASPECT,      /* so narrow that a side vanishes in the model's view */
    OCR_PROMPT,            /* not UTF-8, or more than one <image> */
    OCR_CONTEXT,           /* prompt and image do not fit the model's context */
    OCR_MODEL_MISSING,     /* folder or file does not exist */
    OCR_MODEL_UNREADABLE,  /* exists, but the system refuses to read it */
    OCR_MODEL_CONFIG,      /* config.json is malformed or of another architecture */
    OCR_MODEL_FORMAT,      /* a safetensors file or its index is malformed */
    OCR_MODEL_TENSOR,      /* a tensor is missing, unexpected or of the wrong shape or type */
    OCR_MODEL_TOKENIZER,   /* tokenizer.json is malformed or lacks an id */
    OCR_MODEL_NOT_FINITE,  /* the weights hold or produce NaN or infinity */
    OCR_TARGET             /* a folder that is to be written exists, or cannot be written */
} OcrCode;

#define OCR_MESSAGE_SIZE 512

typedef struct OcrError {
    OcrCode code;
    /* UTF-8; "" when OCR_OK. A second line, if there is one, is what another program said. */
    char message[OCR_MESSAGE_SIZE];
} OcrError;

/*
 * Fill err and return its code, so that a failure reads
 *     return ocr_fail(err, OCR_IMAGE_EMPTY, "the image has no bytes");
 * A message that does not fit is cut at a character boundary.
 */
OcrCode ocr_fail(OcrError *err, OcrCode code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
