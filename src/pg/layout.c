/*
 * layout.c - the SQL functions about a page's structure: markdown, blocks and boxes.
 *
 * The model is asked with the released prompts and answers with text in which
 * each part of the page is announced (spec 7). The engine takes that apart; nothing
 * of it is evaluated. Boxes are in pixels of the picture as people see it, y
 * growing downwards, also where the page had to be turned to be read.
 */
#include "postgres.h"
#include "pg/compat.h"

#include "utils/builtins.h"
#include "utils/geo_decls.h"
#include "utils/memutils.h"
#include "utils/tuplestore.h"

#include "pg/arguments.h"
#include "pg/encoding.h"
#include "pg/errors.h"
#include "pg/page.h"
#include "pg/threads.h"

/* What the model said of a page; palloc'ed. */
typedef struct Layout {
    OcrText text;       /* UTF-8 */
    OcrRegion *regions; /* [count] pointing into text */
    int count;
} Layout;

/* The image with its mode, and the prompt that asks for layout; false if there is no image. */
static bool get_document(FunctionCallInfo fcinfo, PageInput *input) {
    if (!input_from_arguments(fcinfo, 1, input))
        return false;
    input->prompt = OCR_DOCUMENT_PROMPT;
    return true;
}

static Layout read_layout(const PageInput *input) {
    PageResult read;
    Layout layout;
    int turned;

    page_read_or_raise(input, &read);
    turned = read.page.plan.turned;
    layout.text.bytes = page_text(&read, &layout.text.length);
    layout.count = ocr_text_regions(layout.text, &read.image, turned, NULL, 0);
    layout.regions = palloc(layout.count * sizeof(OcrRegion));
    ocr_text_regions(layout.text, &read.image, turned, layout.regions, layout.count);
    page_free(&read);
    return layout;
}

PG_FUNCTION_INFO_V1(ocr_markdown);
Datum ocr_markdown(PG_FUNCTION_ARGS) {
    PageInput input;
    Layout layout;
    OcrText markdown;

    if (!get_document(fcinfo, &input))
        PG_RETURN_NULL();
    layout = read_layout(&input);
    markdown = ocr_text_markdown(layout.text, palloc(layout.text.length + 1));
    PG_RETURN_TEXT_P(text_from_utf8(markdown.bytes, markdown.length));
}

static BOX *box_value(const OcrBox *box) {
    BOX *value = palloc(sizeof *value);

    *value = (BOX){.high = {box->right, box->bottom}, .low = {box->left, box->top}};
    return value;
}

static Datum text_value(OcrText part) {
    return part.bytes ? PointerGetDatum(text_from_utf8(part.bytes, part.length)) : (Datum)0;
}

PG_FUNCTION_INFO_V1(ocr_layout);
Datum ocr_layout(PG_FUNCTION_ARGS) {
    ReturnSetInfo *result = (ReturnSetInfo *)fcinfo->resultinfo;
    PageInput input;
    Layout layout;

    InitMaterializedSRF(fcinfo, 0);
    if (!get_document(fcinfo, &input))
        return (Datum)0;
    layout = read_layout(&input);
    for (int i = 0; i < layout.count; i++) {
        const OcrRegion *region = &layout.regions[i];
        Datum values[] = {Int32GetDatum(region->block), text_value(region->label),
                          BoxPGetDatum(box_value(&region->box)), text_value(region->text)};
        bool nulls[] = {false, region->label.bytes == NULL, !region->has_box,
                        region->text.bytes == NULL};

        tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
    }
    return (Datum)0;
}

/* The phrase that argument 1 holds. */
static const char *get_phrase(FunctionCallInfo fcinfo) {
    const char *phrase = text_to_cstring(PG_GETARG_TEXT_PP(1));

    if (phrase[0] == '\0')
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the phrase is empty"),
                        errhint("Say what is to be found in the image.")));
    return utf8_from_server(phrase);
}

/* The boxes of a reading, [*count]. */
static BOX **read_boxes(const PageInput *input, uint64 *count) {
    Layout layout = read_layout(input);
    BOX **boxes = palloc(layout.count * sizeof(BOX *));

    for (int i = 0; i < layout.count; i++)
        if (layout.regions[i].has_box)
            boxes[(*count)++] = box_value(&layout.regions[i].box);
    return boxes;
}

/* One box a call; all are found in the first. */
PG_FUNCTION_INFO_V1(ocr_locate);
Datum ocr_locate(PG_FUNCTION_ARGS) {
    FuncCallContext *call;

    if (SRF_IS_FIRSTCALL()) {
        PageInput input;
        MemoryContext caller;

        call = SRF_FIRSTCALL_INIT();
        caller = MemoryContextSwitchTo(call->multi_call_memory_ctx);
        if (!PG_ARGISNULL(1) && input_from_arguments(fcinfo, 2, &input)) {
            input.phrase = get_phrase(fcinfo);
            call->user_fctx = read_boxes(&input, &call->max_calls);
        }
        MemoryContextSwitchTo(caller);
    }
    call = SRF_PERCALL_SETUP();
    if (call->call_cntr < call->max_calls) {
        BOX *box = ((BOX **)call->user_fctx)[call->call_cntr];

        SRF_RETURN_NEXT(call, BoxPGetDatum(box));
    }
    SRF_RETURN_DONE(call);
}

/*
 * The image's size, and memory for drawing into it: refused, if at all, before the
 * page is read. *input becomes the image itself where it was a document.
 */
static OcrCode plan_annotation(PageInput *input, OcrImageInfo *image, size_t *bytes,
                               OcrError *err) {
    PagePlan asked;
    OcrCode code = page_plan(input, &asked, err);

    if (code != OCR_OK)
        return code;
    *image = asked.image;
    input->file = asked.file;
    input->page = image->page + 1;
    code = ocr_annotation_bytes(image, bytes, err);
    return code == OCR_OK ? page_check_memory(*bytes, image->library_bytes, err) : code;
}

static bytea *bytea_of(OcrBytes bytes) {
    bytea *value = palloc(bytes.size + VARHDRSZ);

    SET_VARSIZE(value, bytes.size + VARHDRSZ);
    memcpy(VARDATA(value), bytes.data, bytes.size);
    return value;
}

PG_FUNCTION_INFO_V1(ocr_annotate);
Datum ocr_annotate(PG_FUNCTION_ARGS) {
    PageInput input;
    OcrImageInfo image;
    Layout layout;
    OcrAnnotation annotation;
    OcrBytes jpeg;
    OcrError err;
    size_t bytes;
    MemoryContext context;
    bytea *result;

    if (!get_document(fcinfo, &input))
        PG_RETURN_NULL();
    if (plan_annotation(&input, &image, &bytes, &err) != OCR_OK)
        error_raise(&err);
    layout = read_layout(&input);
    annotation = (OcrAnnotation){input.file, &image, layout.regions, layout.count};
    context =
        AllocSetContextCreate(CurrentMemoryContext, "deepseek_ocr picture", ALLOCSET_SMALL_SIZES);
    if (ocr_annotate_picture(&annotation, threads_pool(threads_wanted()),
                             MemoryContextAllocHuge(context, bytes), &jpeg, &err) != OCR_OK)
        error_raise(&err);
    result = bytea_of(jpeg);
    MemoryContextDelete(context);
    PG_RETURN_BYTEA_P(result);
}
