/*
 * bench_model - a page through the engine, stage by stage, beside what the machine can do.
 *
 *   bench_model [OPTION]... MODEL IMAGE
 *     --mode MODE        as in SQL; auto
 *     --threads N        all cores
 *     --pages LIST       pages that are decoded together, such as 1,4,8,16; 1
 *     --tokens N         that are decoded of each page; 32
 *     --context N        lengthen the prompt to N positions
 *     --repeat N         medians of N pages, after one that warms up; 3
 *     --level NAME       portable, avx2, avx512, avx512_vnni, avx512_bf16 or amx; the best one
 *     --exact            in single precision
 *     --json FILE        the same numbers for programs
 *
 * The limits, multiply-adds in registers and reading memory that no cache holds,
 * are measured in the same run, before and after; the larger ones count.
 */
#include "engine.h"

#include "limits.h"
#include "trace.h"
#include "vision/image.h"
#include "work.h"

#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_BATCHES 16
#define MAX_REPEAT 64
#define PROBE_BYTES ((size_t)1 << 30)
#define PROBE_SECONDS 0.5

typedef struct Options {
    const char *model, *image, *json;
    OcrMode mode;
    OcrCompute compute;
    int threads, tokens, context, repeat;
    int batches[MAX_BATCHES], batch_count;
    CpuLevel level;
} Options;

static Options options = {.tokens = 32, .repeat = 3, .batches = {1}, .batch_count = 1};

static OcrPool *pool;
static OcrModel *model;
static OcrBytes file;
static OcrImageInfo image;
static OcrError err;

static void check(OcrCode code) {
    if (code == OCR_OK)
        return;
    fprintf(stderr, "bench_model: %s\n", err.message);
    exit(1);
}

static void *allocate(void *owner, size_t bytes) {
    void *block = malloc(bytes);
    (void)owner;
    if (!block && bytes) {
        fprintf(stderr, "bench_model: no memory for %zu MB\n", bytes >> 20);
        exit(1);
    }
    return block;
}

/* ---- options ---- */

static void usage(void) {
    fprintf(stderr, "usage: bench_model [OPTION]... MODEL IMAGE (see the head of bench_model.c)\n");
    exit(2);
}

static void parse_batches(char *list) {
    options.batch_count = 0;
    for (char *item = strtok(list, ","); item; item = strtok(NULL, ",")) {
        int pages = atoi(item);
        if (pages < 1 || options.batch_count == MAX_BATCHES)
            usage();
        options.batches[options.batch_count++] = pages;
    }
    if (options.batch_count == 0)
        usage();
}

static CpuLevel parse_level(const char *name) {
    for (CpuLevel level = 0; level <= cpu_best_level(); level++)
        if (strcmp(cpu_level_name(level), name) == 0)
            return level;
    fprintf(stderr, "bench_model: this processor has no level \"%s\"\n", name);
    exit(2);
}

static void parse_options(int argc, char **argv) {
    static const struct option long_options[] = {
        {"mode", required_argument, NULL, 'm'},    {"threads", required_argument, NULL, 't'},
        {"pages", required_argument, NULL, 'p'},   {"tokens", required_argument, NULL, 'n'},
        {"context", required_argument, NULL, 'c'}, {"repeat", required_argument, NULL, 'r'},
        {"level", required_argument, NULL, 'l'},   {"exact", no_argument, NULL, 'x'},
        {"json", required_argument, NULL, 'j'},    {0}};
    int option;
    options.threads = (int)sysconf(_SC_NPROCESSORS_ONLN);
    options.level = cpu_best_level();
    while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
        switch (option) {
        case 'm':
            if (!ocr_mode_parse(optarg, &options.mode))
                usage();
            break;
        case 't':
            options.threads = atoi(optarg);
            break;
        case 'p':
            parse_batches(optarg);
            break;
        case 'n':
            options.tokens = atoi(optarg);
            break;
        case 'c':
            options.context = atoi(optarg);
            break;
        case 'r':
            options.repeat = atoi(optarg);
            break;
        case 'l':
            options.level = parse_level(optarg);
            break;
        case 'x':
            options.compute = OCR_COMPUTE_F32;
            break;
        case 'j':
            options.json = optarg;
            break;
        default:
            usage();
        }
    }
    if (argc - optind != 2 || options.tokens < 2 || options.repeat < 1 ||
        options.repeat > MAX_REPEAT)
        usage();
    options.model = argv[optind];
    options.image = argv[optind + 1];
}

static OcrBytes read_file(const char *path) {
    FILE *in = fopen(path, "rb");
    if (!in || fseek(in, 0, SEEK_END)) {
        perror(path);
        exit(1);
    }
    size_t size = (size_t)ftell(in);
    uint8_t *data = allocate(NULL, size);
    rewind(in);
    if (fread(data, 1, size, in) != size) {
        perror(path);
        exit(1);
    }
    fclose(in);
    return (OcrBytes){data, size};
}

/* ---- measures ---- */

static int by_value(const void *a, const void *b) {
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

static double median(double *values, int count) {
    qsort(values, (size_t)count, sizeof *values, by_value);
    return values[count / 2];
}

typedef enum Stage {
    STAGE_IMAGE,
    STAGE_VIEWS,
    STAGE_SAM,
    STAGE_CLIP,
    STAGE_PROJECT,
    STAGE_PREFILL
} Stage;
#define STAGES 6
static const char *const stage_names[STAGES] = {"image file", "views",     "SAM",
                                                "CLIP",       "projector", "prefill"};

/* The towers of a view end one after the other, and the trace sees them end. */
typedef struct Towers {
    double since;
    double *seconds; /* [STAGES] */
} Towers;

static void tower_ended(void *context, const char *name, int index, int first_row,
                        const float *data, int rows, int columns) {
    static const struct {
        const char *event;
        Stage stage;
    } ends[] = {{"sam", STAGE_SAM}, {"clip_block", STAGE_CLIP}, {"proj", STAGE_PROJECT}};
    Towers *towers = context;
    (void)index, (void)first_row, (void)data, (void)rows, (void)columns;
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (strcmp(name, ends[i].event) == 0) {
            double now = now_s();
            towers->seconds[ends[i].stage] += now - towers->since;
            towers->since = now;
        }
}

static void run_to_end(OcrSession *session) {
    OcrStep step;
    do
        step = ocr_session_step(session, &err);
    while (step == OCR_STEP_MORE);
    if (step == OCR_STEP_FAILED)
        check(err.code);
}

typedef struct Request {
    OcrRequest request;
    OcrPlan plan;
    OcrLimits limits;
} Request;

/* A prompt with the page's number, so that pages read together do not choose the same experts. */
static const char *prompt_text(int page, int words) {
    static char text[1 << 20];
    int used = snprintf(text, sizeof text, "<image>\n%d. Free OCR. ", page);
    for (int i = 0; i < words && used < (int)sizeof text - 16; i++)
        used += snprintf(text + used, sizeof text - (size_t)used, "%d ", i % 10);
    return text;
}

static void plan_page(int page, Request *out) {
    out->request =
        (OcrRequest){.mode = options.mode, .ngram_size = -1, .max_tokens = options.tokens};
    int words = 0;
    for (;;) {
        out->request.prompt = prompt_text(page, words);
        check(ocr_plan_page(model, &image, &out->request, &out->plan, &err));
        int missing = options.context - options.tokens - out->plan.prompt_positions;
        if (missing <= 1)
            break;
        words += (missing + 1) / 2;
    }
    out->limits.threads = options.threads;
    out->limits.compute = options.compute;
    ocr_limits_add(&out->limits, &out->plan, &out->request);
}

static OcrSession *create_session(const OcrLimits *limits) {
    return ocr_session_create(model, limits, pool,
                              allocate(NULL, ocr_session_bytes(model, limits)));
}

/* ---- a page, up to its first token ---- */

static ViewPlan view_plan(const OcrPlan *plan) {
    return (ViewPlan){plan->mode, plan->global_size, plan->tile_size, plan->columns, plan->rows};
}

static void time_image(const Request *page, double *seconds) {
    ViewPlan plan = view_plan(&page->plan);
    void *pixels = allocate(NULL, image_decode_bytes(&image));
    void *scratch = allocate(NULL, views_scratch_bytes(&plan, image.width, image.height));
    uint8_t *views = allocate(NULL, views_bytes(&plan));
    RgbImage picture;
    double begin = now_s();
    check(image_decode(file, &image, NULL, pixels, &picture, &err));
    double decoded = now_s();
    check(views_make(&plan, &picture, pool, scratch, views, &err));
    seconds[STAGE_IMAGE] = decoded - begin;
    seconds[STAGE_VIEWS] = now_s() - decoded;
    free(pixels);
    free(scratch);
    free(views);
}

/* stages: [STAGES] medians, in seconds */
static void time_stages(Request *page, double *stages) {
    double samples[STAGES][MAX_REPEAT + 1];
    page->request.max_tokens = 1;
    page->limits.slots = 1;
    OcrSession *session = create_session(&page->limits);
    void *scratch = allocate(NULL, ocr_start_bytes(&image, &page->plan));
    for (int i = 0; i <= options.repeat; i++) {
        double seconds[STAGES] = {0};
        Towers towers = {.seconds = seconds};
        Trace trace = {tower_ended, &towers};
        OcrPlan plan = page->plan;
        OcrPage result;
        plan.max_tokens = 1;
        time_image(page, seconds);
        OcrInput input = {file, &image, &page->request, &plan};
        check(ocr_session_start(session, 0, &input, scratch, &err));
        ocr_session_trace(session, &trace);
        towers.since = now_s();
        run_to_end(session);
        ocr_session_page(session, 0, &result);
        seconds[STAGE_PREFILL] = result.prefill_ms * 1e-3;
        for (int s = 0; s < STAGES; s++)
            samples[s][i] = seconds[s];
    }
    for (int s = 0; s < STAGES; s++)
        stages[s] = median(samples[s] + 1, options.repeat);
    free(scratch);
}

/* ---- pages that are decoded together ---- */

/* Seconds of a step that advances all pages by a token. */
static double time_decode(int pages) {
    Request first = {0};
    plan_page(0, &first);
    first.limits.slots = pages;
    first.limits.positions += 16; /* page numbers of more digits */
    OcrSession *session = create_session(&first.limits);
    double samples[4096];
    int count = 0;
    for (int i = 0; i < pages; i++) {
        Request page = {0};
        plan_page(i, &page);
        void *scratch = allocate(NULL, ocr_start_bytes(&image, &page.plan));
        OcrInput input = {file, &image, &page.request, &page.plan};
        check(ocr_session_start(session, i, &input, scratch, &err));
        free(scratch);
    }
    /* Pages are encoded and prefilled one after the other before any of them is decoded. */
    OcrStep step;
    do {
        OcrPage page;
        double begin = now_s();
        step = ocr_session_step(session, &err);
        ocr_session_page(session, pages - 1, &page);
        bool all = page.tokens > 1;
        for (int i = 0; i < pages; i++)
            all &= !ocr_session_finished(session, i);
        if (all && count < (int)(sizeof samples / sizeof *samples))
            samples[count++] = now_s() - begin;
    } while (step == OCR_STEP_MORE);
    if (step == OCR_STEP_FAILED)
        check(err.code);
    if (count == 0) {
        fprintf(stderr, "bench_model: a page ended after its first token\n");
        exit(1);
    }
    return median(samples, count);
}

/* ---- report ---- */

typedef struct Limits {
    double gflops, read_gbs;
} Limits;

static void probe(bool quantized, Limits *limits) {
    static uint8_t *memory;
    if (!memory) {
        memory = allocate(NULL, PROBE_BYTES);
        memset(memory, 1, PROBE_BYTES);
    }
    double gflops = limit_gflops(pool, cpu_level(), quantized, PROBE_SECONDS);
    double read = limit_read_gbs(pool, memory, PROBE_BYTES, PROBE_SECONDS);
    limits->gflops = gflops > limits->gflops ? gflops : limits->gflops;
    limits->read_gbs = read > limits->read_gbs ? read : limits->read_gbs;
}

static json_t *report_stage(const char *name, double seconds, double operations, double limit) {
    json_t *row = json_pack("{s:s, s:f}", "stage", name, "ms", seconds * 1e3);
    printf("%-16s %10.2f ms", name, seconds * 1e3);
    if (operations > 0) {
        double rate = operations / seconds / 1e9;
        printf(" %10.0f GFLOP/s", rate);
        json_object_set_new(row, "gflops", json_real(rate));
        if (limit > 0)
            printf(" %5.0f %%", 100 * rate / limit);
    }
    printf("\n");
    return row;
}

static json_t *report_decode(int pages, double seconds, double bytes, double limit) {
    double rate = bytes / seconds / 1e9;
    printf("decode of %-6d %10.2f ms %10.1f GB/s    %5.0f %% %10.1f tokens/s\n", pages,
           seconds * 1e3, rate, 100 * rate / limit, pages / seconds);
    return json_pack("{s:s, s:i, s:f, s:f, s:f}", "stage", "decode", "pages", pages, "ms",
                     seconds * 1e3, "gbs", rate, "tokens_per_second", pages / seconds);
}

/* Megabytes of memory that is no mapped file. */
static long private_mb(void) {
    FILE *in = fopen("/proc/self/smaps_rollup", "r");
    char line[256];
    long kb = 0;
    while (in && fgets(line, sizeof line, in))
        if (sscanf(line, "Anonymous: %ld", &kb) == 1)
            break;
    if (in)
        fclose(in);
    return kb >> 10;
}

static json_t *report(void) {
    Request page = {0};
    double stages[STAGES], steps[MAX_BATCHES];
    Limits limits = {0};
    OcrModelInfo info;
    plan_page(0, &page);
    ocr_model_info(model, &info);
    bool quantized = is_quantized(model->weights.layers[0].q.type);
    probe(quantized, &limits);
    time_stages(&page, stages);
    long private = private_mb() - (long)(PROBE_BYTES >> 20);
    time_decode(options.batches[0]); /* maps the experts that its pages choose */
    for (int i = 0; i < options.batch_count; i++)
        steps[i] = time_decode(options.batches[i]);
    probe(quantized, &limits);

    Precision precision = options.compute == OCR_COMPUTE_F32 ? PRECISION_EXACT : PRECISION_FAST;
    int positions = page.plan.prompt_positions + options.tokens / 2;
    ViewPlan views = view_plan(&page.plan);
    PageWork work = work_of_page(model, &views, page.plan.prompt_positions);
    const double operations[STAGES] = {0, 0, work.sam, work.clip, work.project, work.prefill};
    printf("%s, %.0f million parameters, %s; mode %s, %d vision tokens, %d positions of prompt\n",
           options.model, (double)info.parameters / 1e6, info.weight_type,
           ocr_mode_name(page.plan.mode), page.plan.vision_tokens, page.plan.prompt_positions);
    printf("%d threads, %s: at most %.0f GFLOP/s, %.1f GB/s read\n\n", options.threads,
           cpu_level_name(cpu_level()), limits.gflops, limits.read_gbs);
    json_t *rows = json_array();
    for (int s = 0; s < STAGES; s++)
        json_array_append_new(
            rows, report_stage(stage_names[s], stages[s], operations[s], limits.gflops));
    json_array_append_new(
        rows, report_stage("SAM to projector",
                           stages[STAGE_SAM] + stages[STAGE_CLIP] + stages[STAGE_PROJECT],
                           work.sam + work.clip + work.project, limits.gflops));
    for (int i = 0; i < options.batch_count; i++)
        json_array_append_new(
            rows, report_decode(options.batches[i], steps[i],
                                work_token_bytes(model, options.batches[i], positions, precision),
                                limits.read_gbs));
    printf("\nprivate memory of a page %ld MB\n", private);
    return json_pack("{s:s, s:s, s:s, s:s, s:i, s:i, s:f, s:f, s:i, s:o}", "model", options.model,
                     "weights", info.weight_type, "mode", ocr_mode_name(page.plan.mode), "level",
                     cpu_level_name(cpu_level()), "threads", options.threads, "prompt",
                     page.plan.prompt_positions, "limit_gflops", limits.gflops, "limit_read_gbs",
                     limits.read_gbs, "private_mb", (int)private, "stages", rows);
}

int main(int argc, char **argv) {
    parse_options(argc, argv);
    cpu_force_level(options.level);
    check(ocr_pool_create(options.threads, &pool, &err));
    check(ocr_model_open(options.model, (OcrAllocator){allocate, NULL}, &model, &err));
    file = read_file(options.image);
    check(ocr_image_probe(file, 0, INT64_MAX, &image, &err));
    json_t *numbers = report();
    if (options.json && json_dump_file(numbers, options.json, JSON_INDENT(2)))
        fprintf(stderr, "bench_model: cannot write %s\n", options.json);
    json_decref(numbers);
    ocr_model_close(model);
    ocr_pool_destroy(pool);
    return 0;
}
