#include "postgres.h"
#include "pg/compat.h"

#include <limits.h>

#include "utils/varlena.h"

#include "pg/encoding.h"
#include "pg/model_folder.h"
#include "pg/pdf.h"
#include "pg/settings.h"
#include "pg/threads.h"

char *setting_model;
int setting_threads;
int setting_batch_size;
int setting_max_image_pixels;
int setting_max_document_pages;
int setting_max_session_memory;
int setting_max_batch_memory;
int setting_compute;
char *setting_pdf_command;
int setting_pdf_resolution;
int setting_pdf_timeout;

static int max_tokens;
static int ngram_size;
static int ngram_window;
static char *ngram_whitelist;
static double min_confidence;
static double turn_confidence;
static int cpu_level;

static const struct config_enum_entry compute_options[] = {
    {"auto", OCR_COMPUTE_AUTO, false}, {"f32", OCR_COMPUTE_F32, false}, {NULL, 0, false}};

#define CPU_LEVEL_AUTO (OCR_CPU_AMX + 1)

static const struct config_enum_entry cpu_level_options[] = {
    {"auto", CPU_LEVEL_AUTO, false},
    {"portable", OCR_CPU_PORTABLE, false},
    {"avx2", OCR_CPU_AVX2, false},
    {"avx512", OCR_CPU_AVX512, false},
    {"avx512_vnni", OCR_CPU_AVX512_VNNI, false},
    {"avx512_bf16", OCR_CPU_AVX512_BF16, false},
    {"amx", OCR_CPU_AMX, false},
    {NULL, 0, false}};

static const char *cpu_level_name(int level) {
    const struct config_enum_entry *option = cpu_level_options;

    while (option->val != level)
        option++;
    return option->name;
}

static bool check_cpu_level(int *value, void **extra, GucSource source) {
    if (*value == CPU_LEVEL_AUTO || *value <= (int)ocr_cpu_best())
        return true;
    GUC_check_errdetail("This processor has \"%s\" at most.", cpu_level_name(ocr_cpu_best()));
    return false;
}

static void assign_cpu_level(int value, void *extra) {
    threads_limit_cpu(value == CPU_LEVEL_AUTO ? OCR_CPU_AMX : (OcrCpuLevel)value);
}

/* Token texts separated by commas; double quotes around one that holds a comma or a blank. */
static bool split_whitelist(char *list, List **texts) {
    return SplitGUCList(list, ',', texts);
}

static bool check_whitelist(char **value, void **extra, GucSource source) {
    char *copy = pstrdup(*value);
    List *texts;
    bool valid = split_whitelist(copy, &texts);

    if (!valid)
        GUC_check_errdetail("List syntax is invalid.");
    list_free(texts);
    pfree(copy);
    return valid;
}

static bool check_model(char **value, void **extra, GucSource source) {
    if (model_name_is_valid(*value))
        return true;
    GUC_check_errdetail("A model is the name of a folder in the extension's model directory, "
                        "or the absolute path of a folder.");
    return false;
}

static bool check_pdf_command(char **value, void **extra, GucSource source) {
    const char *problem;

    if (pdf_command_is_valid(*value, &problem))
        return true;
    GUC_check_errdetail("%s", problem);
    return false;
}

static void define_int(const char *name, const char *description, const char *detail, int *variable,
                       int value, int low, int high, GucContext context, int flags) {
    DefineCustomIntVariable(name, description, detail, variable, value, low, high, context, flags,
                            NULL, NULL, NULL);
}

void settings_define(void) {
    DefineCustomStringVariable("deepseek_ocr.model", "The model that reads pages.",
                               "The name of a folder in the extension's model directory, or the "
                               "absolute path of a folder.",
                               &setting_model, "default", PGC_SUSET, GUC_SUPERUSER_ONLY,
                               check_model, NULL, NULL);
    define_int("deepseek_ocr.threads", "Threads that read a page.",
               "0 means one for each core, divided among the workers of a parallel query.",
               &setting_threads, 0, 0, SETTING_MAX_THREADS, PGC_USERSET, 0);
    define_int("deepseek_ocr.batch_size", "Pages that are read together.",
               "Each takes memory of its own; see deepseek_ocr.max_batch_memory.",
               &setting_batch_size, 8, 1, OCR_USEFUL_SLOTS, PGC_USERSET, 0);
    define_int("deepseek_ocr.max_tokens", "Longest text of a page, in the model's tokens.",
               "0 means as many as the model's context holds.", &max_tokens, 0, 0, INT_MAX,
               PGC_SUSET, 0);
    define_int("deepseek_ocr.no_repeat_ngram_size",
               "Length of the token sequences that may not occur twice in a page.",
               "-1 means what the model recommends, 0 that anything may be repeated.", &ngram_size,
               -1, -1, INT_MAX, PGC_SUSET, 0);
    define_int(
        "deepseek_ocr.no_repeat_ngram_window", "How many tokens back the ban on repetition looks.",
        "0 means the whole page and its prompt.", &ngram_window, 0, 0, INT_MAX, PGC_SUSET, 0);
    DefineCustomStringVariable("deepseek_ocr.no_repeat_ngram_whitelist",
                               "Tokens that the ban on repetition never touches.",
                               "Texts of tokens, separated by commas, such as '<td>, </td>'.",
                               &ngram_whitelist, "", PGC_SUSET, GUC_LIST_INPUT, check_whitelist,
                               NULL, NULL);
    DefineCustomRealVariable("deepseek_ocr.min_confidence",
                             "Mean probability of the tokens below which a text is given up.",
                             "Below 0 means what the model recommends, 0 that any text is kept.",
                             &min_confidence, -1, -1, 1, PGC_SUSET, 0, NULL, NULL, NULL);
    DefineCustomRealVariable(
        "deepseek_ocr.turn_confidence",
        "Mean probability of the tokens below which a page is turned and read again.",
        "Below 0 means what the model recommends, 0 that pages are read as they lie.",
        &turn_confidence, -1, -1, 1, PGC_SUSET, 0, NULL, NULL, NULL);
    define_int("deepseek_ocr.max_image_pixels", "Largest image that is read, width times height.",
               NULL, &setting_max_image_pixels, 100000000, 1, INT_MAX, PGC_SUSET, 0);
    define_int("deepseek_ocr.max_document_pages",
               "Most pages of a document that are read by one call.", NULL,
               &setting_max_document_pages, 10000, 1, INT_MAX, PGC_SUSET, 0);
    define_int("deepseek_ocr.max_session_memory",
               "Most memory that reading one page may take, the model's weights aside.", NULL,
               &setting_max_session_memory, 2 * 1024 * 1024, 1024, INT_MAX, PGC_SUSET, GUC_UNIT_KB);
    define_int("deepseek_ocr.max_batch_memory",
               "Most memory that pages read together may take, the model's weights aside.",
               "Where it is too little for deepseek_ocr.batch_size pages, fewer are read together.",
               &setting_max_batch_memory, 8 * 1024 * 1024, 1024, INT_MAX, PGC_SUSET, GUC_UNIT_KB);
    DefineCustomEnumVariable("deepseek_ocr.compute", "How the model's numbers are computed.",
                             "auto takes the fastest way, f32 the most exact one.",
                             &setting_compute, OCR_COMPUTE_AUTO, compute_options, PGC_SUSET, 0,
                             NULL, NULL, NULL);
    DefineCustomEnumVariable(
        "deepseek_ocr.cpu_level", "Instructions that reading a page may use at most.",
        "auto means all that the processor has; for tests and comparisons.", &cpu_level,
        CPU_LEVEL_AUTO, cpu_level_options, PGC_SUSET, 0, check_cpu_level, assign_cpu_level, NULL);
    DefineCustomStringVariable(
        "deepseek_ocr.pdf_command", "The program that draws the pages of PDF documents.",
        "Words separated by blanks, with %r for the resolution, %f and %l for the first and last "
        "page; it reads the PDF from standard input and writes PNM images to standard output. "
        "Empty: PDF documents are not read.",
        &setting_pdf_command, "pdftoppm -cropbox -r %r -f %f -l %l -", PGC_SUSET,
        GUC_SUPERUSER_ONLY, check_pdf_command, NULL, NULL);
    define_int("deepseek_ocr.pdf_resolution",
               "Resolution at which pages of PDF documents are drawn.", "In dots per inch.",
               &setting_pdf_resolution, 200, 36, 600, PGC_SUSET, 0);
    define_int("deepseek_ocr.pdf_timeout",
               "Most time that drawing a page of a PDF document may take.", NULL,
               &setting_pdf_timeout, 60000, 1, INT_MAX, PGC_SUSET, GUC_UNIT_MS);
    MarkGUCPrefixReserved("deepseek_ocr");
}

static void whitelist_ids(const OcrModel *model, OcrRequest *request) {
    List *texts;
    ListCell *cell;
    int *ids;

    if (!split_whitelist(pstrdup(ngram_whitelist), &texts))
        elog(ERROR, "invalid list syntax in deepseek_ocr.no_repeat_ngram_whitelist");
    ids = palloc(list_length(texts) * sizeof(int));
    request->whitelist = ids;
    foreach (cell, texts) {
        const char *token = utf8_from_server(lfirst(cell));
        int id = ocr_model_find_token(model, token, strlen(token));

        if (id < 0)
            ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                            errmsg("the model has no token \"%s\"", (char *)lfirst(cell)),
                            errhint("Check the setting deepseek_ocr.no_repeat_ngram_whitelist.")));
        ids[request->whitelist_count++] = id;
    }
}

void settings_apply(const OcrModel *model, OcrRequest *request) {
    request->max_tokens = max_tokens;
    request->ngram_size = ngram_size;
    request->ngram_window = ngram_window;
    request->min_confidence = min_confidence;
    request->turn_confidence = turn_confidence;
    if (ngram_whitelist[0] != '\0')
        whitelist_ids(model, request);
}
