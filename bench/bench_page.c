/*
 * bench_page - one page through the engine, without PostgreSQL: time by stage.
 *
 *   bench_page MODEL IMAGE [MODE [TOKENS [THREADS [auto|f32]]]]
 *
 * Each stage's wall time is taken around its steps. The first page pays for
 * mapping the weights; it is reported on its own, and the rest as medians.
 */
#include "engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define PAGES 4

static double now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static void check(OcrCode code, const OcrError *err) {
    if (code == OCR_OK)
        return;
    fprintf(stderr, "%s\n", err->message);
    exit(1);
}

static void *allocate(void *owner, size_t bytes) {
    (void)owner;
    return malloc(bytes);
}

static OcrBytes read_file(const char *path) {
    FILE *file = fopen(path, "rb");
    uint8_t *data = malloc(64 << 20);
    if (!file || !data) {
        perror(path);
        exit(1);
    }
    size_t size = fread(data, 1, 64 << 20, file);
    fclose(file);
    return (OcrBytes){data, size};
}

static int by_value(const void *a, const void *b) {
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

static double median(double *values, int count) {
    qsort(values, (size_t)count, sizeof *values, by_value);
    return values[count / 2];
}

/* Kilobytes of memory that is no mapped file. */
static long private_kb(void) {
    FILE *file = fopen("/proc/self/smaps_rollup", "r");
    char line[256];
    long kb = 0;
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "Anonymous: %ld", &kb) == 1)
            break;
    if (file)
        fclose(file);
    return kb;
}

int main(int argc, char **argv) {
    OcrError err;
    OcrPool *pool;
    OcrModel *model;
    OcrImageInfo image;
    OcrPlan plan;
    if (argc < 3) {
        fprintf(stderr, "usage: bench_page MODEL IMAGE [MODE [TOKENS [THREADS [auto|f32]]]]\n");
        return 2;
    }
    OcrRequest request = {.max_tokens = argc > 4 ? atoi(argv[4]) : 64, .ngram_size = -1};
    int threads = argc > 5 ? atoi(argv[5]) : (int)sysconf(_SC_NPROCESSORS_ONLN);
    if (argc > 3 && !ocr_mode_parse(argv[3], &request.mode)) {
        fprintf(stderr, "unknown mode \"%s\"\n", argv[3]);
        return 2;
    }

    double begin = now_ms();
    check(ocr_pool_create(threads, &pool, &err), &err);
    check(ocr_model_open(argv[1], (OcrAllocator){allocate, NULL}, &model, &err), &err);
    printf("open model      %9.1f ms\n", now_ms() - begin);
    OcrBytes file = read_file(argv[2]);
    check(ocr_image_probe(file, INT64_MAX, &image, &err), &err);
    check(ocr_plan_page(model, &image, &request, &plan, &err), &err);
    OcrLimits limits = {.slots = 1,
                        .threads = threads,
                        .compute = argc > 6 && strcmp(argv[6], "f32") == 0 ? OCR_COMPUTE_F32
                                                                           : OCR_COMPUTE_AUTO};
    ocr_limits_add(&limits, &plan, &request);
    printf("mode %s, %d positions, session %zu MiB\n", ocr_mode_name(plan.mode),
           plan.prompt_positions, ocr_session_bytes(model, &limits) >> 20);

    OcrSession *session =
        ocr_session_create(model, &limits, pool, malloc(ocr_session_bytes(model, &limits)));
    void *scratch = malloc(ocr_start_bytes(&image, &plan));
    double stages[4][PAGES], longest = 0;
    OcrPage page;
    for (int p = 0; p < PAGES; p++) {
        check(ocr_session_start(session, 0, file, &image, &request, &plan, scratch, &err), &err);
        OcrStep step = OCR_STEP_MORE;
        while (step == OCR_STEP_MORE) {
            double start = now_ms();
            step = ocr_session_step(session, &err);
            double taken = now_ms() - start;
            longest = taken > longest ? taken : longest;
        }
        if (step == OCR_STEP_FAILED)
            check(err.code, &err);
        ocr_session_page(session, 0, &page);
        stages[0][p] = page.image_ms;
        stages[1][p] = page.encode_ms;
        stages[2][p] = page.prefill_ms;
        stages[3][p] = page.decode_ms / (page.tokens > 1 ? page.tokens - 1 : 1);
    }
    static const char *const names[] = {"image", "encode", "prefill", "decode/token"};
    printf("%-14s %12s %12s\n", "", "first page", "median");
    for (int s = 0; s < 4; s++) {
        double first = stages[s][0];
        printf("%-14s %9.1f ms %9.1f ms\n", names[s], first, median(stages[s] + 1, PAGES - 1));
    }
    printf("decode %.1f tokens/s; longest step %.1f ms; private memory %ld MiB; %d tokens\n",
           1e3 / median(stages[3] + 1, PAGES - 1), longest, private_kb() >> 10, page.tokens);
    return 0;
}
