#include "postgres.h"
#include "pg/compat.h"

#include <signal.h>
#include <sys/wait.h>

#include "storage/fd.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "pg/pdf.h"
#include "pg/settings.h"
#include "pg/subprocess.h"

#define SIGNATURE "%PDF-"
#define SIGNATURE_RANGE 1024

/* A PNM's header is some 20 bytes, a comment in it included some 100. */
#define HEADER_BYTES 1024

/* Written to the temporary file at once, and read from the pipe before interrupts are looked at. */
#define PIECE_BYTES (1024 * 1024)

/* Address space of the program: for itself, and for each pixel of the largest page. */
#define PROGRAM_BYTES ((uint64)1 << 30)
#define PIXEL_BYTES 8

/* pdftoppm's exit status for pages that are not there, among other things. */
#define STATUS_NO_SUCH_PAGE 99

/* A shell that runs the program ends with this and the number of the signal that stopped it. */
#define STATUS_SIGNAL 128

/* Between the words of the command. */
#define BLANKS " \t\r\n"

/* After so many pages in a row that could not be drawn, the document ends. */
#define MAX_FAULTS 10

/*
 * How long a page that nobody will read is waited for, to say that it is there. A program that has
 * drawn its last page ends within milliseconds; one that is still at work after seconds draws
 * another.
 */
#define LOOK_AHEAD_MS 3000

struct Pdf {
    MemoryContext context; /* "deepseek_ocr PDF" */
    File file;             /* temporary, the PDF's bytes */
    size_t size;
    const char *command;        /* as it was when the PDF was opened; begins with a word */
    const char *program;        /* path of what that word names */
    int next;                   /* number of the next page */
    int last;                   /* INT_MAX: to the end */
    Subprocess *process;        /* NULL: to be started with page `next` */
    bool delivered;             /* the process has given a page */
    bool opened;                /* a process got as far as to draw a page, or to fail at one */
    int faults;                 /* pages in a row that failed, up to the last one */
    uint8_t head[HEADER_BYTES]; /* output that no page has got yet */
    size_t head_size;
};

/* How an attempt to get a page from the program ended. */
typedef enum Outcome {
    OUTCOME_PAGE,
    OUTCOME_FAULT,   /* of the page */
    OUTCOME_REFUSAL, /* the same, or the program can do nothing with the whole PDF */
    OUTCOME_END
} Outcome;

bool pdf_recognise(OcrBytes bytes) {
    size_t range = Min(bytes.size, SIGNATURE_RANGE), length = strlen(SIGNATURE);

    return memmem(bytes.data, range, SIGNATURE, length) != NULL;
}

/* ---- the command ---- */

bool pdf_command_is_valid(const char *command, const char **problem) {
    for (const char *sign = strchr(command, '%'); sign; sign = strchr(sign + 2, '%'))
        if (sign[1] == '\0' || strchr("rfl%", sign[1]) == NULL) {
            *problem = "After % there must be r (resolution), f (first page), l (last page) or %.";
            return false;
        }
    return true;
}

/* A word of the command with numbers in place of %r, %f and %l. */
static char *fill_in(const Pdf *pdf, const char *word, size_t length) {
    StringInfoData filled;

    initStringInfo(&filled);
    for (size_t i = 0; i < length; i++) {
        if (word[i] != '%') {
            appendStringInfoChar(&filled, word[i]);
            continue;
        }
        switch (word[++i]) {
        case 'r':
            appendStringInfo(&filled, "%d", setting_pdf_resolution);
            break;
        case 'f':
            appendStringInfo(&filled, "%d", pdf->next);
            break;
        case 'l':
            appendStringInfo(&filled, "%d", pdf->last);
            break;
        default:
            appendStringInfoChar(&filled, '%');
        }
    }
    return filled.data;
}

/* The words of the command, which blanks separate; NULL at the end. */
static char **command_words(const Pdf *pdf) {
    const char *word = pdf->command;
    char **words = palloc((strlen(word) / 2 + 2) * sizeof *words);
    int count = 0;

    while (*word) {
        size_t length = strcspn(word, BLANKS);

        words[count++] = fill_in(pdf, word, length);
        word += length + strspn(word + length, BLANKS);
    }
    words[count] = NULL;
    return words;
}

/* ---- the program ---- */

/* CPU time for all pages that are asked for, where their number is known. */
static uint64 cpu_seconds(const Pdf *pdf) {
    uint64 pages = (uint64)pdf->last - pdf->next + 1;

    return pdf->last == INT_MAX ? 0 : pages * (setting_pdf_timeout / 1000 + 1);
}

/* NULL if it is not there, which is a fault of PDF documents alone. */
static const char *find_program(const char *command, OcrError *err) {
    const char *word = pnstrdup(command, strcspn(command, BLANKS));
    const char *path = subprocess_find(word);

    if (path == NULL)
        ocr_fail(err, OCR_IMAGE_UNSUPPORTED,
                 "the program that draws PDF documents, \"%s\", is not there: install it (pdftoppm "
                 "is part of poppler-utils), or see the setting deepseek_ocr.pdf_command",
                 last_dir_separator(word) ? last_dir_separator(word) + 1 : word);
    return path;
}

static void start_process(Pdf *pdf) {
    MemoryContext caller = MemoryContextSwitchTo(pdf->context);
    SubprocessLimits limits = {
        .memory = PROGRAM_BYTES + (uint64)setting_max_image_pixels * PIXEL_BYTES + 2 * pdf->size,
        .cpu_seconds = cpu_seconds(pdf)};
    char **words = command_words(pdf);

    pdf->process = subprocess_start(pdf->program, words, FilePathName(pdf->file), limits);
    pdf->delivered = false;
    pdf->head_size = 0;
    MemoryContextSwitchTo(caller);
}

static void end_process(Pdf *pdf) {
    if (pdf->process != NULL)
        subprocess_end(pdf->process);
    pdf->process = NULL;
}

static OcrCode fail_late(const Pdf *pdf, OcrError *err) {
    return ocr_fail(err, OCR_IMAGE_TOO_LARGE,
                    "drawing page %d of the PDF took longer than the allowed %d ms", pdf->next,
                    setting_pdf_timeout);
}

static OcrCode fail_drawing(const Pdf *pdf, Outcome outcome, int status, OcrError *err) {
    const char *complaint = subprocess_complaint(pdf->process);
    bool whole = outcome == OUTCOME_REFUSAL && !pdf->opened;

    return ocr_fail(err, OCR_IMAGE_DAMAGED, "%s could not be drawn (exit status %d)%s%s",
                    whole ? "the PDF" : psprintf("page %d of the PDF", pdf->next), status,
                    complaint[0] ? "\n" : "", complaint);
}

/*
 * What the status means with which the program ended between two pages. With
 * success there are no more; so it is where a program that was asked for later
 * pages alone does not know them. Else something went wrong with this page: the
 * program may have crashed under a wrapper, or does not get further.
 */
static Outcome judge_status(const Pdf *pdf, int status) {
    if (status == 0)
        return OUTCOME_END;
    if (pdf->delivered || (status > STATUS_SIGNAL && status < STATUS_SIGNAL + NSIG))
        return OUTCOME_FAULT;
    return status == STATUS_NO_SUCH_PAGE && pdf->next > 1 ? OUTCOME_END : OUTCOME_REFUSAL;
}

/* What it means that the program's output has ended between two pages. */
static Outcome judge_end(Pdf *pdf, TimestampTz deadline, OcrError *err) {
    int status = subprocess_wait(pdf->process, deadline);
    Outcome outcome = OUTCOME_FAULT;

    if (WIFEXITED(status)) {
        outcome = judge_status(pdf, WEXITSTATUS(status));
        if (outcome != OUTCOME_END)
            fail_drawing(pdf, outcome, WEXITSTATUS(status), err);
    } else if (GetCurrentTimestamp() >= deadline)
        fail_late(pdf, err);
    else
        ocr_fail(err, OCR_IMAGE_DAMAGED,
                 "the program that drew page %d of the PDF was stopped by signal %d", pdf->next,
                 WTERMSIG(status));
    return outcome;
}

static OcrCode fail_cut(const Pdf *pdf, OcrError *err) {
    return ocr_fail(err, OCR_IMAGE_DAMAGED, "the drawing of page %d of the PDF ends too early",
                    pdf->next);
}

/* Read until the next page's header is there; *length is then what the page takes, else 0. */
static Outcome read_header(Pdf *pdf, TimestampTz deadline, uint64_t *length, OcrError *err) {
    *length = 0;
    for (;;) {
        ssize_t got;

        if (ocr_pnm_length((OcrBytes){pdf->head, pdf->head_size}, length, err) != OCR_OK)
            return OUTCOME_FAULT;
        if (*length > 0)
            return OUTCOME_PAGE;
        got = pdf->head_size == HEADER_BYTES
                  ? 0
                  : subprocess_read(pdf->process, pdf->head + pdf->head_size,
                                    HEADER_BYTES - pdf->head_size, deadline);
        if (got == 0 && pdf->head_size == 0)
            return judge_end(pdf, deadline, err);
        if (got <= 0) {
            if (got == 0)
                fail_cut(pdf, err);
            else
                fail_late(pdf, err);
            return OUTCOME_FAULT;
        }
        pdf->head_size += got;
    }
}

/*
 * No page is larger than an image may be. One pixel is what pdftoppm makes of a
 * page for which it has no memory.
 */
static OcrCode check_size(const Pdf *pdf, OcrError *err) {
    OcrBytes head = {pdf->head, pdf->head_size};
    OcrImageInfo info;

    if (ocr_image_probe(head, 0, setting_max_image_pixels, &info, err) != OCR_OK)
        return err->code;
    if (info.width == 1 && info.height == 1)
        return ocr_fail(err, OCR_IMAGE_TOO_LARGE, "page %d of the PDF is too large to be drawn",
                        pdf->next);
    return OCR_OK;
}

/* The page's bytes: those at the head, and the rest from the pipe. */
static OcrCode read_body(Pdf *pdf, TimestampTz deadline, size_t length, uint8_t *page,
                         OcrError *err) {
    size_t have = Min(pdf->head_size, length);

    memcpy(page, pdf->head, have);
    pdf->head_size -= have;
    memmove(pdf->head, pdf->head + have, pdf->head_size);
    while (have < length) {
        ssize_t got =
            subprocess_read(pdf->process, page + have, Min(length - have, PIECE_BYTES), deadline);

        CHECK_FOR_INTERRUPTS();
        if (got < 0)
            return fail_late(pdf, err);
        if (got == 0)
            return fail_cut(pdf, err);
        have += got;
    }
    return OCR_OK;
}

static TimestampTz in_milliseconds(int milliseconds) {
    return TimestampTzPlusMilliseconds(GetCurrentTimestamp(), milliseconds);
}

static Outcome read_page(Pdf *pdf, OcrBytes *image, OcrError *err) {
    TimestampTz deadline = in_milliseconds(setting_pdf_timeout);
    uint64_t length;
    Outcome outcome = read_header(pdf, deadline, &length, err);
    uint8_t *page;

    if (outcome != OUTCOME_PAGE)
        return outcome;
    if (check_size(pdf, err) != OCR_OK)
        return OUTCOME_FAULT;
    page = palloc_extended(length, MCXT_ALLOC_HUGE);
    if (read_body(pdf, deadline, length, page, err) != OCR_OK) {
        pfree(page);
        return OUTCOME_FAULT;
    }
    *image = (OcrBytes){page, length};
    return OUTCOME_PAGE;
}

/* ---- the PDF ---- */

static void write_file(Pdf *pdf, OcrBytes bytes) {
    for (size_t done = 0; done < bytes.size;) {
        int piece = (int)Min(bytes.size - done, PIECE_BYTES);

        CHECK_FOR_INTERRUPTS();
        errno = 0;
        if (FileWrite(pdf->file, unconstify(char *, (const char *)bytes.data) + done, piece,
                      (off_t)done, PG_WAIT_EXTENSION) != piece) {
            if (errno == 0)
                errno = ENOSPC;
            ereport(ERROR,
                    (errcode_for_file_access(), errmsg("could not write a temporary file: %m")));
        }
        done += piece;
    }
}

OcrCode pdf_open(OcrBytes bytes, int first, int last, Pdf **out, OcrError *err) {
    const char *command = setting_pdf_command + strspn(setting_pdf_command, BLANKS);
    const char *program;
    MemoryContext context;
    Pdf *pdf;

    if (command[0] == '\0')
        return ocr_fail(err, OCR_IMAGE_UNSUPPORTED,
                        "PDF documents are not read here: deepseek_ocr.pdf_command is empty");
    program = find_program(command, err);
    if (program == NULL)
        return err->code;
    context = AllocSetContextCreate(CurrentMemoryContext, "deepseek_ocr PDF", ALLOCSET_SMALL_SIZES);
    pdf = *out = MemoryContextAllocZero(context, sizeof *pdf);
    pdf->context = context;
    pdf->size = bytes.size;
    pdf->command = MemoryContextStrdup(context, command);
    pdf->program = MemoryContextStrdup(context, program);
    pdf->next = first;
    pdf->last = last > 0 ? last : INT_MAX;
    pdf->file = OpenTemporaryFile(false);
    write_file(pdf, bytes);
    return OCR_OK;
}

/* Another page that failed: begin anew with the next one, unless it looks hopeless. */
static void give_up_after(Pdf *pdf, OcrError *err) {
    OcrError fault = *err;
    int line = (int)strcspn(fault.message, "\n"); /* what follows are the program's words */

    if (++pdf->faults < MAX_FAULTS)
        return;
    ocr_fail(err, fault.code, "%.*s; after %d such pages in a row the rest is not tried%s", line,
             fault.message, MAX_FAULTS, fault.message + line);
    pdf->last = 0;
}

/*
 * The next page from the program. Where it was refused at its first start, and
 * is so again, the PDF is to blame, or the program; the first page's error has told.
 */
static Outcome draw_page(Pdf *pdf, OcrBytes *image, OcrError *err) {
    Outcome outcome;

    if (pdf->process == NULL)
        start_process(pdf);
    outcome = read_page(pdf, image, err);
    if (outcome == OUTCOME_REFUSAL && !pdf->opened && pdf->faults > 0)
        return OUTCOME_END;
    pdf->opened |= outcome != OUTCOME_REFUSAL;
    return outcome;
}

bool pdf_next(Pdf *pdf, OcrBytes *image, int *number, OcrError *err) {
    Outcome outcome;

    if (pdf->next > pdf->last)
        return false;
    outcome = draw_page(pdf, image, err);
    if (outcome == OUTCOME_END) {
        pdf->last = 0;
        return false;
    }
    if (outcome == OUTCOME_PAGE) {
        err->code = OCR_OK;
        pdf->delivered = true;
        pdf->faults = 0;
    } else {
        end_process(pdf);
        give_up_after(pdf, err);
    }
    *number = pdf->next++;
    return true;
}

bool pdf_has_next(Pdf *pdf) {
    TimestampTz deadline = in_milliseconds(Min(LOOK_AHEAD_MS, setting_pdf_timeout));
    uint64_t length;
    OcrError err;

    if (pdf->next > pdf->last)
        return false;
    return read_header(pdf, deadline, &length, &err) != OUTCOME_END;
}

void pdf_close(Pdf *pdf) {
    end_process(pdf);
    FileClose(pdf->file);
    MemoryContextDelete(pdf->context);
}
