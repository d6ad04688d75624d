/*
 * engine.h - the door between PostgreSQL (src/pg) and the model.
 *
 * Image bytes go in, text comes out. src/pg includes this header and nothing
 * else of the engine; the engine includes nothing of PostgreSQL, never jumps,
 * prints or exits, and reports every failure through OcrError.
 *
 * Who owns what
 *   pool     OcrPool     threads; one for the process, from ocr_pool_create
 *   model    OcrModel    read-only mappings of the weights and small tables;
 *                        one for each folder in use
 *   session  OcrSession  pages in work; lives in one block that the caller
 *                        allocates and frees, and holds nothing else, so a
 *                        query that dies leaks nothing
 *
 * A page, from its bytes to its text
 *   ocr_image_probe      what is it, how large
 *   ocr_plan_page        which views, how many positions: does it fit?
 *   ocr_session_bytes    how much memory that needs; the caller allocates
 *   ocr_session_create   once, for any number of pages
 *   ocr_session_start    decode the image into the slot's views
 *   ocr_session_step     until no slot has work: encode, prefill, then one
 *                        token for every slot that is decoding
 *   ocr_session_text     and the slot is free for the next page
 *
 * A step is one layer over one view (before the first of them a turn of all
 * views, some milliseconds each), one layer over a stretch of the prompt, or
 * one token for all pages. Between steps the caller may do what it likes;
 * inside one, the interrupted() predicate is polled every few milliseconds and
 * makes the step return OCR_INTERRUPTED, after which the session is void.
 *
 * Threads: a model may be shared by sessions, a session or a pool may not be
 * used by two threads at once.
 */
#ifndef OCR_ENGINE_H
#define OCR_ENGINE_H

#include "base/status.h"
#include "base/types.h"

typedef struct OcrPool OcrPool;
typedef struct OcrModel OcrModel;
typedef struct OcrSession OcrSession;

/* ---- threads ---- */

/* threads: 1..256, the calling thread included. Workers block all signals. */
OcrCode ocr_pool_create(int threads, OcrPool **out, OcrError *err);
void ocr_pool_destroy(OcrPool *pool);
/* interrupted is called by the thread that calls the engine, never by a worker; NULL for none. */
void ocr_pool_watch(OcrPool *pool, bool (*interrupted)(void));

/* ---- processor ---- */

/* Instruction sets that there are kernels for, each with those before it. */
typedef enum OcrCpuLevel {
    OCR_CPU_PORTABLE,
    OCR_CPU_AVX2,
    OCR_CPU_AVX512,
    OCR_CPU_AVX512_VNNI,
    OCR_CPU_AVX512_BF16,
    OCR_CPU_AMX
} OcrCpuLevel;

/* The best that processor and system have; it is used unless there is a limit. */
OcrCpuLevel ocr_cpu_best(void);
/* Use none above this level, in all of the process. Not while a pool is working. */
void ocr_cpu_limit(OcrCpuLevel level);

/* ---- model ---- */

/*
 * Open a checkpoint folder: config.json, tokenizer.json, model.safetensors or
 * an index with shards. Everything that later code relies on is checked here,
 * and the errors name the file, field or tensor. Weights are mapped, not read.
 * allocate(owner, bytes) is called once for the model's tables (NULL makes the
 * call fail with OCR_OUT_OF_MEMORY); the block must outlive the model and is
 * freed by the caller after ocr_model_close.
 */
typedef struct OcrAllocator {
    void *(*allocate)(void *owner, size_t bytes);
    void *owner;
} OcrAllocator;

OcrCode ocr_model_open(const char *folder, OcrAllocator allocator, OcrModel **out, OcrError *err);
void ocr_model_close(OcrModel *model); /* unmaps the weights; NULL is allowed */

typedef struct OcrModelInfo {
    int64_t parameters;
    int64_t weight_bytes; /* of the mapped files */
    int64_t table_bytes;  /* private to this process */
    int context;          /* positions the model was made for */
    int hidden;           /* width of a vision token */
    int vocabulary;       /* ids 0..vocabulary-1 */
    int recommended_ngram_size;
    const char *weight_type; /* "bf16", "f16", "f32", "q8", "q4": of the decoder's matrices */
} OcrModelInfo;

void ocr_model_info(const OcrModel *model, OcrModelInfo *info);

/* The id of a token by its text, or -1. */
int ocr_model_find_token(const OcrModel *model, const char *text, size_t length);

/* ---- a smaller copy of a model ---- */

typedef struct OcrQuantizer OcrQuantizer;

/* How a step went, of a quantizer or a session. */
typedef enum OcrStep { OCR_STEP_MORE, OCR_STEP_DONE, OCR_STEP_FAILED } OcrStep;

/*
 * Begin to write the checkpoint folder `target`, which must not exist, from
 * `source`. Nothing is seen under the name before the last step, and what is not
 * finished when the quantizer is closed is removed.
 */
OcrCode ocr_quantizer_open(const char *source, const char *target, OcrQuantType type,
                           OcrQuantizer **out, OcrError *err);
OcrStep ocr_quantizer_step(OcrQuantizer *quantizer, OcrError *err); /* some milliseconds */
void ocr_quantizer_progress(const OcrQuantizer *quantizer, int64_t *written, int64_t *total);
void ocr_quantizer_close(OcrQuantizer *quantizer); /* NULL is allowed */

/* ---- one page ---- */

/* How many pictures the file holds: at least 1, and 1 but for TIFF. */
OcrCode ocr_image_count(OcrBytes file, int *pages, OcrError *err);

/*
 * Format and size of a picture from the headers alone; page counts from 0.
 * max_pixels bounds width * height.
 */
OcrCode ocr_image_probe(OcrBytes file, int page, int64_t max_pixels, OcrImageInfo *info,
                        OcrError *err);

/*
 * For a stream of PNM pictures: the length in bytes of the one that begins so; 0
 * if that is not known yet because its header is not complete.
 */
OcrCode ocr_pnm_length(OcrBytes beginning, uint64_t *length, OcrError *err);

/* The prompt of a request that names none: plain text, no layout. */
#define OCR_DEFAULT_PROMPT "<image>\nFree OCR. "
/* Text with layout, see below. */
#define OCR_GROUNDING "<|grounding|>" /* in a prompt: asks for places */
#define OCR_DOCUMENT_PROMPT "<image>\n" OCR_GROUNDING "Convert the document to markdown. "

typedef struct OcrRequest {
    OcrMode mode;
    const char *prompt;   /* UTF-8, NUL-terminated; NULL: OCR_DEFAULT_PROMPT.
                             "<image>\n" is put in front where <image> is missing. */
    const char *phrase;   /* UTF-8, NUL-terminated: ask where this is seen, in place of a prompt;
                             what looks like a token in it is plain text. NULL: none */
    int max_tokens;       /* 0: as many as the context holds */
    bool encode_only;     /* stop after the vision tokens */
    int ngram_size;       /* -1: the model's recommendation; 0: no ban */
    int ngram_window;     /* ids, 0: the whole sequence with the prompt */
    const int *whitelist; /* [whitelist_count] ids never banned; must outlive the page */
    int whitelist_count;
    double min_confidence;  /* texts or ends of texts below it are given up, 0..1;
                               < 0: the model's recommendation */
    double turn_confidence; /* a page that is read with less is turned and read again, 0..1, 0:
                               never; < 0: the model's recommendation. Not with a phrase. Of
                               the doubt that a text is allowed, a page that looks blank is
                               allowed a twentieth */
} OcrRequest;

typedef struct OcrPlan {
    OcrMode mode;           /* never OCR_MODE_AUTO */
    int global_size;        /* side of the global view, pixels */
    int tile_size;          /* side of a tile, pixels */
    int columns, rows;      /* grid of tiles; 1 x 1: none */
    int vision_tokens;      /* as the paper counts them */
    int image_slots;        /* positions the picture takes, newlines included */
    int prompt_positions;   /* BOS, picture and prompt */
    int max_tokens;         /* that may follow */
    int turned;             /* quarters, clockwise, from how the picture lies: 0..3 */
    double turn_confidence; /* of the request; 0 where the page is not turned */
} OcrPlan;

OcrCode ocr_plan_page(const OcrModel *model, const OcrImageInfo *image, const OcrRequest *request,
                      OcrPlan *plan, OcrError *err);

/* ---- sessions ---- */

/* How numbers are computed. OCR_COMPUTE_F32 is the path that the goldens pin. */
typedef enum OcrCompute { OCR_COMPUTE_AUTO, OCR_COMPUTE_F32 } OcrCompute;

/*
 * A page comes out as in a session of its own, to the last bit. Weights are read once for
 * so many slots; those of a larger session take turns, and gain nothing.
 */
#define OCR_USEFUL_SLOTS 16

/* The largest page that a session can hold, in each of its slots. Start from {0}. */
typedef struct OcrLimits {
    int slots;
    int view_size;  /* pixels */
    int view_bytes; /* of all views of one page */
    int image_slots;
    int positions; /* prompt and text; 0 for sessions that only encode */
    int threads;   /* of the pool that will be used */
    OcrCompute compute;
} OcrLimits;

/* Widen limits so that the page fits. */
void ocr_limits_add(OcrLimits *limits, const OcrPlan *plan, const OcrRequest *request);

/* Bytes of the session's block; SIZE_MAX if it cannot be counted. */
size_t ocr_session_bytes(const OcrModel *model, const OcrLimits *limits);

/* block: ocr_session_bytes of any alignment; it is all that the session uses. */
OcrSession *ocr_session_create(const OcrModel *model, const OcrLimits *limits, OcrPool *pool,
                               void *block);

/* Bytes of scratch that ocr_session_start needs; free to go when it returns. */
size_t ocr_start_bytes(const OcrImageInfo *image, const OcrPlan *plan);

/* Likewise, with what the library of the image's format allocates meanwhile. */
size_t ocr_decoding_bytes(const OcrImageInfo *image, const OcrPlan *plan);

/* A page to be read: what was probed, asked for and planned. */
typedef struct OcrInput {
    OcrBytes file;
    const OcrImageInfo *image;
    const OcrRequest *request;
    const OcrPlan *plan;
} OcrInput;

/*
 * Decode the image and put the page into an idle slot (0..slots-1). Nothing of the
 * input is needed afterwards but the request's whitelist. A failure leaves the slot idle.
 */
OcrCode ocr_session_start(OcrSession *session, int slot, const OcrInput *input, void *scratch,
                          OcrError *err);

/*
 * One bounded piece of work. DONE: no slot has work left. A failure of the
 * model's numbers (OCR_MODEL_NOT_FINITE) or an interrupt voids the session.
 */
OcrStep ocr_session_step(OcrSession *session, OcrError *err);

/* Has this slot's page come to its end? */
bool ocr_session_finished(const OcrSession *session, int slot);

typedef struct OcrPage {
    OcrPlan plan;
    OcrFinish finish;
    int tokens;          /* generated, end mark excluded */
    const int *ids;      /* [tokens] */
    double confidence;   /* geometric mean of the probabilities of all that was generated, the end
                            mark and what was cut off included; 1 of none */
    const float *vision; /* [plan.image_slots][hidden], the decoder's input; undefined after
                            turns in vain */
    double image_ms, encode_ms, prefill_ms, decode_ms; /* wall time; of a step for
                                                          several pages, its share */
} OcrPage;

/*
 * The result of a finished slot; pointers are valid until the slot is started again. Of a page that
 * was turned and read again it is that reading's, or else the first one's; the times are those of
 * all.
 */
void ocr_session_page(const OcrSession *session, int slot, OcrPage *page);

/*
 * The page's text as valid UTF-8, stripped of white space at both ends; NUL
 * becomes U+FFFD. *length is its length in bytes; at most capacity are written of
 * them, without terminator: call with 0 first, then allocate. OCR_OUT_OF_MEMORY
 * if the text cannot be put together.
 */
OcrCode ocr_session_text(const OcrSession *session, int slot, char *out, size_t capacity,
                         size_t *length, OcrError *err);

/* ---- layout ---- */

/*
 * The regions of a page's text, which they point into; turned is its plan's. Writes at most
 * capacity of them and returns how many there are: call with 0 first, then allocate.
 */
int ocr_text_regions(OcrText text, const OcrImageInfo *image, int turned, OcrRegion *regions,
                     int capacity);

/*
 * The text as markdown, stripped, in out [text.length], which lies elsewhere than
 * the text. Pictures on the page become references to images/K.jpg, K being 0 for
 * the first block that is labelled image, 1 for the second and so on.
 */
OcrText ocr_text_markdown(OcrText text, char *out);

/* Drawing regions into the picture: bytes of a block for it. Some pictures are too long for a JPEG.
 */
OcrCode ocr_annotation_bytes(const OcrImageInfo *image, size_t *bytes, OcrError *err);

/* Decode, draw, and write a JPEG, upright, as large as the picture; *jpeg lies in the block. */
OcrCode ocr_annotate_picture(const OcrAnnotation *annotation, OcrPool *pool, void *block,
                             OcrBytes *jpeg, OcrError *err);

#endif
