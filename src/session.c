/*
 * session.c - pages in slots, advanced step by step (see engine.h for the door).
 *
 *   image file -> views            ocr_session_start
 *   views -> rows of the sequence  encode_step    one layer over one view
 *   rows -> KV cache               prefill_step   one layer over a stretch
 *   ids -> one more id             decode_step    all layers, all live slots
 *   not read well -> turned views  settle         and again from there
 *
 * A slot's page is encoded and prefilled without interruption; decoding then
 * advances it together with the other live slots. Encoder and decoder never work
 * at the same time, so their buffers share one region.
 */
#include "base/arena.h"
#include "base/numbers.h"
#include "base/utf8.h"
#include "decoder/confidence.h"
#include "decoder/decoder.h"
#include "decoder/ngram.h"
#include "kernels/rows.h"
#include "plan.h"
#include "trace.h"
#include "vision/encoder.h"
#include "vision/turn.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

_Static_assert(OCR_USEFUL_SLOTS == DECODER_TOKEN_ROWS, "slots that a step takes together");

/*
 * A page that was turned is given up after so many ids if they lack the confidence that is asked
 * for: those of one that lies wrong have .1 to .6, be it read to its end or not.
 */
#define TRIAL_TOKENS 200

typedef enum SlotState {
    SLOT_IDLE,
    SLOT_ENCODE,
    SLOT_PREFILL,
    SLOT_DECODE,
    SLOT_FINISHED
} SlotState;

/* What the model says of a page that lies as its plan has it. */
typedef struct Reading {
    OcrPlan plan;
    int *ids;              /* [limits.positions] prompt, then what was generated */
    int count;             /* ids known */
    int tokens;            /* generated, without EOS */
    Confidence confidence; /* of all generated ids, EOS included */
    OcrFinish finish;
} Reading;

typedef struct Slot {
    SlotState state;
    bool begun; /* the state's first step has been taken */
    bool encode_only;
    NgramRule ngram;
    Overruled overruled;
    uint8_t *views; /* [limits.view_bytes] */
    float *rows;    /* [limits.image_slots][hidden] */
    Reading read;   /* in work, or the result */
    Reading first;  /* of the page as it lay, put aside while it is read turned */
    float *logs;    /* [limits.positions] of what was generated, the probabilities' */
    int cached;     /* ids whose keys and values are in the cache */
    int layer;      /* of the stretch that is being prefilled */
    double image_ms, encode_ms, prefill_ms, decode_ms;
} Slot;

struct OcrSession {
    const OcrModel *model;
    OcrLimits limits;
    OcrPool *pool;
    Compute compute;
    Encoder encoder;
    Decoder decoder;
    Slot *slots;       /* [limits.slots] */
    DecoderRow *batch; /* [limits.slots] the rows of a decode step */
    bool is_void;      /* a step failed or was interrupted */
};

static double now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

/* ---- memory ---- */

/* The session in its block; measuring if the arena has no memory. */
static OcrSession *layout(const OcrModel *model, const OcrLimits *limits, Arena *arena) {
    OcrSession unkept;
    OcrSession *place = ARENA_TAKE(arena, OcrSession, 1), *session = place ? place : &unkept;
    const ModelConfig *config = &model->config;
    size_t slots = (size_t)limits->slots, threads = (size_t)limits->threads;
    memset(session, 0, sizeof *session);
    session->model = model;
    session->limits = *limits;
    session->slots = ARENA_TAKE(arena, Slot, slots);
    session->batch = ARENA_TAKE(arena, DecoderRow, slots);
    for (size_t i = 0; i < slots; i++) {
        Slot slot = {0};
        slot.views = ARENA_TAKE(arena, uint8_t, (size_t)limits->view_bytes);
        slot.rows =
            ARENA_TAKE(arena, float, (size_t)limits->image_slots *(size_t)config->decoder.hidden);
        slot.read.ids = ARENA_TAKE(arena, int, (size_t)limits->positions);
        slot.first.ids = ARENA_TAKE(arena, int, (size_t)limits->positions);
        slot.logs = ARENA_TAKE(arena, float, (size_t)limits->positions);
        if (session->slots)
            session->slots[i] = slot;
    }

    session->compute.precision =
        limits->compute == OCR_COMPUTE_F32 ? PRECISION_EXACT : PRECISION_FAST;
    WeightType cache_type = decoder_cache_type(&config->decoder, model->weights.layers[0].q.type,
                                               session->compute.precision);
    CacheShape cache =
        decoder_cache_shape(&config->decoder, limits->slots, limits->positions, cache_type);
    size_t encoder_floats = encoder_thread_floats(config, limits->view_size);
    size_t decoder_floats = cache_thread_floats(&cache);
    session->compute.matmul_scratch = arena_take(arena, 1, matmul_scratch_bytes(limits->threads));
    session->compute.thread_floats = compute_whole_lines(max_size(encoder_floats, decoder_floats));
    session->compute.thread_scratch =
        ARENA_TAKE(arena, float, threads * session->compute.thread_floats);

    if (limits->positions > 0)
        decoder_layout_cache(&session->decoder, &config->decoder, &cache, arena);
    /* Encoder and decoder never work at the same time: one region for the buffers of both. */
    Arena encoder = *arena, decoder = *arena;
    encoder_layout(&session->encoder, config, &model->weights, limits->view_size, &encoder);
    if (limits->positions > 0)
        decoder_layout(&session->decoder, &model->weights, &decoder);
    arena->used = encoder.used > decoder.used ? encoder.used : decoder.used;
    return place;
}

size_t ocr_session_bytes(const OcrModel *model, const OcrLimits *limits) {
    Arena arena = ARENA_MEASURE;
    layout(model, limits, &arena);
    return arena.used > SIZE_MAX - ARENA_ALIGNMENT ? SIZE_MAX : arena.used + ARENA_ALIGNMENT;
}

OcrSession *ocr_session_create(const OcrModel *model, const OcrLimits *limits, OcrPool *pool,
                               void *block) {
    unsigned char *base = block;
    Arena arena = {base + -(uintptr_t)base % ARENA_ALIGNMENT, 0};
    OcrSession *session = layout(model, limits, &arena);
    session->pool = session->compute.pool = pool;
    if (limits->positions > 0)
        decoder_init(&session->decoder);
    return session;
}

void ocr_session_trace(OcrSession *session, const Trace *trace) {
    session->compute.trace = trace;
}

/* ---- pages ---- */

static OcrCode load_views(OcrSession *session, Slot *slot, OcrBytes file, const OcrImageInfo *image,
                          void *scratch, OcrError *err) {
    ViewPlan plan = plan_views(&slot->read.plan);
    unsigned char *base = scratch;
    Arena arena = {base + -(uintptr_t)base % ARENA_ALIGNMENT, 0};
    void *pixels = arena_take(&arena, 1, image_decode_bytes(image));
    void *rest = arena_take(&arena, 1, views_scratch_bytes(&plan, image->width, image->height));
    RgbImage picture;
    OcrCode code = image_decode(file, image, pool_watched(session->pool), pixels, &picture, err);
    return code ? code : views_make(&plan, &picture, session->pool, rest, slot->views, err);
}

OcrCode ocr_session_start(OcrSession *session, int index, OcrBytes file, const OcrImageInfo *image,
                          const OcrRequest *request, const OcrPlan *plan, void *scratch,
                          OcrError *err) {
    Slot *slot = &session->slots[index];
    const ModelConfig *recommended = &session->model->config;
    double begin = now_ms();
    *slot = (Slot){.state = SLOT_IDLE,
                   .encode_only = request->encode_only,
                   .views = slot->views,
                   .rows = slot->rows,
                   .read = {.plan = *plan, .ids = slot->read.ids},
                   .first = {.ids = slot->first.ids},
                   .logs = slot->logs};
    slot->ngram =
        (NgramRule){request->ngram_size < 0 ? recommended->ngram_size : request->ngram_size,
                    request->ngram_window, request->whitelist, request->whitelist_count};
    slot->read.confidence = confidence_begin(
        request->min_confidence < 0 ? recommended->min_confidence : request->min_confidence);
    OcrCode code = load_views(session, slot, file, image, scratch, err);
    Prompt prompt = plan_prompt(request, plan);
    if (!code && !slot->encode_only)
        code = model_prompt(session->model, &prompt, slot->read.ids, session->limits.positions,
                            &slot->read.count, err);
    if (code)
        return code;
    slot->image_ms = now_ms() - begin;
    slot->state = SLOT_ENCODE;
    return OCR_OK;
}

/* ---- steps ---- */

static OcrCode encode_step(OcrSession *session, Slot *slot, OcrError *err) {
    size_t hidden = (size_t)session->model->config.decoder.hidden;
    if (!slot->begun) {
        ViewPlan plan = plan_views(&slot->read.plan);
        encoder_start(&session->encoder, &plan, slot->views, slot->rows);
        slot->begun = true;
    }
    if (encoder_step(&session->encoder, &session->compute) || pool_interrupted(session->pool))
        return OCR_OK;
    compute_trace(&session->compute, "vision_sequence", 0, slot->rows, slot->read.plan.image_slots,
                  (int)hidden);
    if (!all_finite(slot->rows, (size_t)slot->read.plan.image_slots * hidden))
        return ocr_fail(err, OCR_MODEL_NOT_FINITE,
                        "the encoder produced a value that is not finite: the weights are damaged");
    slot->state = slot->encode_only ? SLOT_FINISHED : SLOT_PREFILL;
    slot->begun = false;
    return OCR_OK;
}

/* The picture's first position in the prompt. */
static int picture_place(const OcrSession *session, const Reading *read) {
    int image_id = tokenizer_image_id(session->model->tokenizer), place = 0;
    while (read->ids[place] != image_id)
        place++;
    return place;
}

/* Embeddings of prompt positions first..: picture rows where the picture is, else the id's row. */
static void embed_prompt(OcrSession *session, const Slot *slot, int first, int rows) {
    const Matrix *embedding = &session->model->weights.embedding;
    size_t hidden = (size_t)embedding->columns;
    int picture = picture_place(session, &slot->read);
    for (int r = 0; r < rows; r++) {
        int place = first + r - picture;
        float *x = session->decoder.x + (size_t)r * hidden;
        if (place >= 0 && place < slot->read.plan.image_slots)
            memcpy(x, slot->rows + (size_t)place * hidden, hidden * sizeof *x);
        else
            matrix_row(embedding, slot->read.ids[first + r], x);
    }
}

static void finish(Slot *slot, OcrFinish why) {
    slot->read.finish = why;
    slot->state = SLOT_FINISHED;
}

/* Give up on the ids from `count` on. */
static void cut(Slot *slot, int count, OcrFinish why) {
    slot->read.count = max_int(count, slot->read.plan.prompt_positions);
    slot->read.tokens = slot->read.count - slot->read.plan.prompt_positions;
    finish(slot, why);
}

/* Give up on the ids of which the model is not sure. */
static void keep_sure(Slot *slot, const Confidence *confidence) {
    cut(slot, slot->read.plan.prompt_positions + confidence_sure(confidence), OCR_FINISH_UNSURE);
}

/* A text that has ended, without what was cut off: the repeats of a loop are all but certain. */
static void judge(Slot *slot) {
    Confidence text = {.floor = slot->read.confidence.floor};
    for (int i = 0; i < slot->read.tokens; i++)
        confidence_add(&text, (double)slot->logs[i]);
    if (confidence_is_low(&text))
        keep_sure(slot, &text);
}

/* Does the text repeat itself? Then it ends behind the first time. */
static bool end_loop(Slot *slot, bool overruled) {
    const int *generated = slot->read.ids + slot->read.plan.prompt_positions;
    int period = loop_period(generated, slot->read.tokens), tokens = slot->read.tokens;
    int first =
        overruled ? loop_overruled(&slot->overruled, &slot->ngram, slot->read.count - 1) : 0;
    if (period > 0) {
        while (tokens > period && generated[tokens - 1] == generated[tokens - 1 - period])
            tokens--;
        cut(slot, slot->read.plan.prompt_positions + tokens, OCR_FINISH_LOOP);
    } else if (first > 0) {
        cut(slot, first, OCR_FINISH_LOOP);
    }
    return period > 0 || first > 0;
}

/* Does the page, turned as it is, lie no better than before? */
static bool is_vain(const Slot *slot) {
    return slot->read.plan.turned > 0 && slot->read.tokens == TRIAL_TOKENS &&
           confidence_mean(&slot->read.confidence) < slot->read.plan.turn_confidence;
}

/* Has the text come to its end with the latest id, whether the model knows it or not? */
static void end_text(Slot *slot, bool overruled, bool doubtful) {
    if (end_loop(slot, overruled))
        return;
    if (doubtful)
        keep_sure(slot, &slot->read.confidence);
    else if (is_vain(slot))
        finish(slot, OCR_FINISH_UNSURE);
    else if (slot->read.tokens == slot->read.plan.max_tokens)
        finish(slot, OCR_FINISH_LENGTH);
}

/*
 * The greedy choice from this slot's logits (spec 4.4, 4.5), and whether it ends the page.
 * False if they are not finite.
 */
static bool choose(Slot *slot, float *logits, int vocabulary) {
    int best = argmax(logits, vocabulary);
    float total = log_sum_exp(logits, vocabulary);
    if (!isfinite(total))
        return false;
    ngram_ban(&slot->ngram, slot->read.ids, slot->read.count, logits, vocabulary);
    bool overruled = logits[best] == -INFINITY;
    if (overruled)
        best = argmax(logits, vocabulary);
    float log_probability = logits[best] - total;
    bool doubtful = confidence_add(&slot->read.confidence, (double)log_probability);
    if (best == EOS_ID) {
        finish(slot, OCR_FINISH_STOP);
    } else {
        slot->read.ids[slot->read.count++] = best;
        slot->logs[slot->read.tokens++] = log_probability;
        end_text(slot, overruled, doubtful);
    }
    if (slot->state == SLOT_FINISHED)
        judge(slot);
    return true;
}

/* ---- pages that lie on their side or their head ---- */

/* The prompt of the first reading, with as many ids of the picture as the page has now. */
static void copy_prompt(const OcrSession *session, Slot *slot) {
    const Reading *first = &slot->first;
    int picture = picture_place(session, first), now = slot->read.plan.image_slots;
    int behind = picture + first->plan.image_slots;
    memcpy(slot->read.ids, first->ids, (size_t)picture * sizeof(int));
    for (int i = 0; i < now; i++)
        slot->read.ids[picture + i] = first->ids[picture];
    memcpy(slot->read.ids + picture + now, first->ids + behind,
           (size_t)(first->plan.prompt_positions - behind) * sizeof(int));
}

/* Turn the page by a quarter and begin anew. */
static void turn(OcrSession *session, Slot *slot) {
    double begin = now_ms();
    ViewPlan views = plan_views(&slot->read.plan);
    views_turn(&views, session->pool, slot->views);
    OcrPlan plan = plan_turned(&slot->read.plan);
    slot->read = (Reading){.plan = plan,
                           .ids = slot->read.ids,
                           .count = plan.prompt_positions,
                           .confidence = {.floor = slot->read.confidence.floor}};
    copy_prompt(session, slot);
    slot->overruled = (Overruled){0};
    slot->cached = 0;
    slot->state = SLOT_ENCODE;
    slot->image_ms += now_ms() - begin;
}

static void put_aside(Slot *slot) {
    int *ids = slot->first.ids;
    slot->first = slot->read;
    slot->read.ids = ids;
}

static void take_back(Slot *slot) {
    int *ids = slot->read.ids;
    slot->read = slot->first;
    slot->first.ids = ids;
}

/* A page that has no text when it is turned lies no better so: a score becomes a picture. */
static bool is_read_well(const Reading *read) {
    return confidence_mean(&read->confidence) >= read->plan.turn_confidence &&
           (read->plan.turned == 0 || read->tokens > 0);
}

/*
 * A page has been read. If it was not read well it may not lie as it should: it is turned, by a
 * quarter each time, until it is. If it never is, the first reading stands.
 */
static void settle(OcrSession *session, Slot *slot) {
    int turned = slot->read.plan.turned;
    if (is_read_well(&slot->read))
        return;
    if (turned == 3) {
        take_back(slot);
        return;
    }
    if (turned == 0)
        put_aside(slot);
    turn(session, slot);
}

/* ---- decoding ---- */

typedef struct ChooseTask {
    OcrSession *session;
    const DecoderRow *rows; /* [chunks] whose logits the decoder has */
    bool damaged[DECODER_TOKEN_ROWS];
} ChooseTask;

static void choose_task(void *context, int i, int thread) {
    ChooseTask *task = context;
    OcrSession *session = task->session;
    int vocabulary = session->decoder.config->vocabulary;
    float *logits = session->decoder.logits + (size_t)i * (size_t)vocabulary;
    (void)thread;
    task->damaged[i] = !choose(&session->slots[task->rows[i].slot], logits, vocabulary);
}

static OcrCode choose_all(OcrSession *session, const DecoderRow *rows, int count, OcrError *err) {
    ChooseTask task = {.session = session, .rows = rows};
    int vocabulary = session->decoder.config->vocabulary;
    for (int i = 0; i < count; i++)
        compute_trace(&session->compute, "logits", session->slots[rows[i].slot].read.tokens,
                      session->decoder.logits + (size_t)i * (size_t)vocabulary, 1, vocabulary);
    pool_run(session->pool, count, choose_task, &task);
    for (int i = 0; i < count; i++)
        if (task.damaged[i])
            return ocr_fail(
                err, OCR_MODEL_NOT_FINITE,
                "the decoder produced a value that is not finite: the weights are damaged");
    for (int i = 0; i < count; i++)
        if (session->slots[rows[i].slot].state == SLOT_FINISHED)
            settle(session, &session->slots[rows[i].slot]);
    return OCR_OK;
}

static OcrCode prefill_step(OcrSession *session, Slot *slot, OcrError *err) {
    Decoder *decoder = &session->decoder;
    int rest = slot->read.plan.prompt_positions - slot->cached;
    if (!slot->begun) {
        int rows = rest < DECODER_PROMPT_ROWS ? rest : DECODER_PROMPT_ROWS;
        decoder_begin_stretch(decoder, (int)(slot - session->slots), slot->cached, rows);
        embed_prompt(session, slot, slot->cached, rows);
        slot->begun = true;
        slot->layer = 0;
    }
    decoder_layer(decoder, slot->layer++, &session->compute);
    if (slot->layer < decoder->config->layers || pool_interrupted(session->pool))
        return OCR_OK;
    slot->begun = false;
    slot->cached += decoder->rows;
    if (slot->cached < slot->read.plan.prompt_positions)
        return OCR_OK;
    decoder_logits(decoder, 1, &session->compute);
    if (pool_interrupted(session->pool))
        return OCR_OK;
    slot->state = SLOT_DECODE;
    return choose_all(session, &(DecoderRow){(int)(slot - session->slots), slot->cached}, 1, err);
}

/* One token for each of count slots, up to DECODER_TOKEN_ROWS. */
static OcrCode decode_step(OcrSession *session, const DecoderRow *rows, int count, OcrError *err) {
    Decoder *decoder = &session->decoder;
    decoder_begin_tokens(decoder, rows, count);
    for (int i = 0; i < count; i++)
        matrix_row(&session->model->weights.embedding,
                   session->slots[rows[i].slot].read.ids[rows[i].position],
                   decoder->x + (size_t)i * (size_t)decoder->config->hidden);
    for (int layer = 0; layer < decoder->config->layers; layer++)
        decoder_layer(decoder, layer, &session->compute);
    decoder_logits(decoder, count, &session->compute);
    if (pool_interrupted(session->pool))
        return OCR_OK;
    for (int i = 0; i < count; i++)
        session->slots[rows[i].slot].cached++;
    return choose_all(session, rows, count, err);
}

static Slot *find_slot(OcrSession *session, SlotState state) {
    for (int i = 0; i < session->limits.slots; i++)
        if (session->slots[i].state == state && session->slots[i].begun)
            return &session->slots[i];
    for (int i = 0; i < session->limits.slots; i++)
        if (session->slots[i].state == state)
            return &session->slots[i];
    return NULL;
}

/* Prompts before pictures: a page in work is brought to decoding before the next one begins. */
static OcrCode run_step(OcrSession *session, bool *idle, OcrError *err) {
    double begin = now_ms();
    OcrCode code;
    Slot *slot = find_slot(session, SLOT_PREFILL);
    if (slot) {
        code = prefill_step(session, slot, err);
        slot->prefill_ms += now_ms() - begin;
        return code;
    }
    slot = find_slot(session, SLOT_ENCODE);
    if (slot) {
        code = encode_step(session, slot, err);
        slot->encode_ms += now_ms() - begin;
        return code;
    }
    /* More slots than are advanced together are advanced in turns. */
    int live = 0;
    for (int i = 0; i < session->limits.slots; i++)
        if (session->slots[i].state == SLOT_DECODE)
            session->batch[live++] = (DecoderRow){i, session->slots[i].cached};
    *idle = live == 0;
    if (live == 0)
        return OCR_OK;
    code = OCR_OK;
    for (int first = 0; first < live && !code; first += DECODER_TOKEN_ROWS)
        code = decode_step(session, session->batch + first,
                           min_int(DECODER_TOKEN_ROWS, live - first), err);
    double share = (now_ms() - begin) / live;
    for (int i = 0; i < live; i++)
        session->slots[session->batch[i].slot].decode_ms += share;
    return code;
}

OcrStep ocr_session_step(OcrSession *session, OcrError *err) {
    bool idle = false;
    OcrCode code = OCR_INTERRUPTED;
    if (!session->is_void)
        code = run_step(session, &idle, err);
    if (!code && pool_interrupted(session->pool))
        code = OCR_INTERRUPTED;
    if (code) {
        session->is_void = true;
        if (code == OCR_INTERRUPTED)
            ocr_fail(err, OCR_INTERRUPTED, "interrupted");
        return OCR_STEP_FAILED;
    }
    return idle ? OCR_STEP_DONE : OCR_STEP_MORE;
}

/* ---- results ---- */

bool ocr_session_finished(const OcrSession *session, int slot) {
    return session->slots[slot].state == SLOT_FINISHED;
}

void ocr_session_page(const OcrSession *session, int index, OcrPage *page) {
    const Slot *slot = &session->slots[index];
    *page = (OcrPage){.plan = slot->read.plan,
                      .finish = slot->read.finish,
                      .tokens = slot->read.tokens,
                      .ids = slot->read.ids + slot->read.plan.prompt_positions,
                      .confidence = confidence_mean(&slot->read.confidence),
                      .vision = slot->rows,
                      .image_ms = slot->image_ms,
                      .encode_ms = slot->encode_ms,
                      .prefill_ms = slot->prefill_ms,
                      .decode_ms = slot->decode_ms};
}

/* Copy with NUL replaced by U+FFFD; counts beyond capacity too. */
static size_t copy_without_nul(OcrText text, char *out, size_t capacity) {
    static const char replacement[] = "\xEF\xBF\xBD";
    size_t used = 0;
    for (size_t i = 0; i < text.length; i++) {
        const char *from = text.bytes[i] ? &text.bytes[i] : replacement;
        size_t n = text.bytes[i] ? 1 : sizeof replacement - 1;
        if (used + n <= capacity)
            memcpy(out + used, from, n);
        used += n;
    }
    return used;
}

OcrCode ocr_session_text(const OcrSession *session, int index, char *out, size_t capacity,
                         size_t *length, OcrError *err) {
    const Slot *slot = &session->slots[index];
    const Tokenizer *tokenizer = session->model->tokenizer;
    const int *ids = slot->read.ids + slot->read.plan.prompt_positions;
    size_t decoded = tokenizer_decode(tokenizer, ids, slot->read.tokens, NULL, 0);
    char *bytes = malloc(decoded + 1);
    if (!bytes)
        return ocr_fail(err, OCR_OUT_OF_MEMORY, "no memory for a text of %zu bytes", decoded);
    tokenizer_decode(tokenizer, ids, slot->read.tokens, bytes, decoded);
    *length = copy_without_nul(text_strip((OcrText){bytes, decoded}), out, capacity);
    free(bytes);
    return OCR_OK;
}
