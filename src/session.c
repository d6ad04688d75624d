/*
 * session.c - pages in slots, advanced step by step (see engine.h for the door).
 *
 *   image file -> views            ocr_session_start
 *   views -> rows of the sequence  encode_step    one layer over one view
 *   rows -> KV cache               prefill_step   one layer over a stretch
 *   ids -> one more id             decode_step    all layers, all live slots
 *   not read well -> turned views  turn_views     and again from there
 *
 * A slot's page is encoded and prefilled without interruption; decoding then
 * advances it together with the other live slots. Encoder and decoder never work
 * at the same time, so their buffers share one region.
 */
#include "base/arena.h"
#include "base/numbers.h"
#include "base/utf8.h"
#include "decoder/decoder.h"
#include "kernels/rows.h"
#include "plan.h"
#include "reading.h"
#include "trace.h"
#include "vision/encoder.h"
#include "vision/turn.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

_Static_assert(OCR_USEFUL_SLOTS == DECODER_TOKEN_ROWS, "slots that a step takes together");

typedef enum SlotState {
    SLOT_IDLE,
    SLOT_ENCODE,
    SLOT_PREFILL,
    SLOT_DECODE,
    SLOT_FINISHED
} SlotState;

typedef struct Slot {
    SlotState state;
    bool begun; /* the state's first step has been taken */
    bool encode_only;
    uint8_t *views;    /* [limits.view_bytes] */
    float *rows;       /* [limits.image_slots][hidden] */
    Reading read;      /* in work, or the result */
    Reading as_it_lay; /* of the page as it lay, put aside while it is read turned */
    int cached;        /* ids whose keys and values are in the cache */
    int layer;         /* of the stretch that is being prefilled */
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
        slot.as_it_lay.ids = ARENA_TAKE(arena, int, (size_t)limits->positions);
        slot.read.logs = slot.as_it_lay.logs = ARENA_TAKE(arena, float, (size_t)limits->positions);
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

static OcrCode load_views(OcrSession *session, Slot *slot, const OcrInput *input, void *scratch,
                          OcrError *err) {
    const OcrImageInfo *image = input->image;
    ViewPlan plan = plan_views(&slot->read.plan);
    unsigned char *base = scratch;
    Arena arena = {base + -(uintptr_t)base % ARENA_ALIGNMENT, 0};
    void *pixels = arena_take(&arena, 1, image_decode_bytes(image));
    void *rest = arena_take(&arena, 1, views_scratch_bytes(&plan, image->width, image->height));
    RgbImage picture;
    OcrCode code =
        image_decode(input->file, image, pool_watched(session->pool), pixels, &picture, err);
    return code ? code : views_make(&plan, &picture, session->pool, rest, slot->views, err);
}

OcrCode ocr_session_start(OcrSession *session, int index, const OcrInput *input, void *scratch,
                          OcrError *err) {
    Slot *slot = &session->slots[index];
    const OcrRequest *request = input->request;
    const ModelConfig *recommended = &session->model->config;
    double begin = now_ms();
    *slot = (Slot){.state = SLOT_IDLE,
                   .encode_only = request->encode_only,
                   .views = slot->views,
                   .rows = slot->rows,
                   .read = {.plan = *input->plan, .ids = slot->read.ids, .logs = slot->read.logs},
                   .as_it_lay = {.ids = slot->as_it_lay.ids}};
    slot->read.ban =
        (NgramRule){request->ngram_size < 0 ? recommended->ngram_size : request->ngram_size,
                    request->ngram_window, request->whitelist, request->whitelist_count};
    slot->read.confidence = confidence_begin(
        request->min_confidence < 0 ? recommended->min_confidence : request->min_confidence);
    OcrCode code = load_views(session, slot, input, scratch, err);
    Prompt prompt = plan_prompt(request, input->plan);
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

/* Have the views lie as the plan wants them: a quarter further than for the last reading. */
static void turn_views(OcrSession *session, Slot *slot) {
    ViewPlan plan = plan_views(&slot->read.plan), before = plan;
    before.columns = plan.rows;
    before.rows = plan.columns;
    views_turn(&before, session->pool, slot->views);
}

static OcrCode encode_step(OcrSession *session, Slot *slot, OcrError *err) {
    size_t hidden = (size_t)session->model->config.decoder.hidden;
    if (!slot->begun) {
        ViewPlan plan = plan_views(&slot->read.plan);
        if (slot->read.plan.turned > 0)
            turn_views(session, slot);
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

/* Embeddings of prompt positions first..: picture rows where the picture is, else the id's row. */
static void embed_prompt(OcrSession *session, const Slot *slot, int first, int rows) {
    const Matrix *embedding = &session->model->weights.embedding;
    size_t hidden = (size_t)embedding->columns;
    int picture = reading_picture(&slot->read, tokenizer_image_id(session->model->tokenizer));
    for (int r = 0; r < rows; r++) {
        int place = first + r - picture;
        float *x = session->decoder.x + (size_t)r * hidden;
        if (place >= 0 && place < slot->read.plan.image_slots)
            memcpy(x, slot->rows + (size_t)place * hidden, hidden * sizeof *x);
        else
            matrix_row(embedding, slot->read.ids[first + r], x);
    }
}

/* ---- pages that lie on their side or their head ---- */

static void put_aside(Slot *slot) {
    int *ids = slot->as_it_lay.ids;
    slot->as_it_lay = slot->read;
    slot->read.ids = ids;
}

static void take_back(Slot *slot) {
    int *ids = slot->read.ids;
    slot->read = slot->as_it_lay;
    slot->as_it_lay.ids = ids;
}

/*
 * A page has been read. If it was not read well it is turned, by a quarter each time, until it is.
 * If it never is, the first reading stands.
 */
static void settle(const OcrSession *session, Slot *slot) {
    int turned = slot->read.plan.turned;
    slot->state = SLOT_FINISHED;
    if (reading_is_good(&slot->read, &slot->as_it_lay))
        return;
    if (turned == 3) {
        take_back(slot);
        return;
    }
    if (turned == 0)
        put_aside(slot);
    reading_turn(&slot->read, &slot->as_it_lay, tokenizer_image_id(session->model->tokenizer));
    slot->cached = 0;
    slot->state = SLOT_ENCODE;
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
    task->damaged[i] =
        !reading_choose(&session->slots[task->rows[i].slot].read, logits, vocabulary);
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
        if (session->slots[rows[i].slot].read.ended)
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
