/*
 * engine.c - the door's short ways: threads, processor, models, pictures, layout.
 *
 * Each is a call to the layer below that does the work. Pages go through plan.c and
 * session.c.
 */
#include "engine.h"

#include "base/numbers.h"
#include "base/utf8.h"
#include "decoder/grounding.h"
#include "kernels/cpu.h"
#include "kernels/pool.h"
#include "model/model.h"
#include "model/quantizer.h"
#include "vision/annotate.h"
#include "vision/image.h"
#include "vision/pnm.h"

#include <string.h>

/* ---- threads and processor ---- */

OcrCode ocr_pool_create(int threads, OcrPool **out, OcrError *err) {
    return pool_create(threads, out, err);
}

void ocr_pool_destroy(OcrPool *pool) {
    pool_destroy(pool);
}

void ocr_pool_watch(OcrPool *pool, bool (*interrupted)(void)) {
    pool_watch(pool, interrupted);
}

_Static_assert((int)OCR_CPU_PORTABLE == CPU_PORTABLE && (int)OCR_CPU_AMX == CPU_AMX,
               "the levels of kernels/cpu.h");

OcrCpuLevel ocr_cpu_best(void) {
    return (OcrCpuLevel)cpu_best_level();
}

void ocr_cpu_limit(OcrCpuLevel level) {
    cpu_force_level((CpuLevel)level);
}

/* ---- models ---- */

OcrCode ocr_model_open(const char *folder, OcrAllocator allocator, OcrModel **out, OcrError *err) {
    return model_open(folder, allocator.allocate, allocator.owner, out, err);
}

void ocr_model_close(OcrModel *model) {
    model_close(model);
}

void ocr_model_info(const OcrModel *model, OcrModelInfo *info) {
    static const char *const type_names[] = {[WEIGHT_F32] = "f32",
                                             [WEIGHT_BF16] = "bf16",
                                             [WEIGHT_F16] = "f16",
                                             [WEIGHT_Q8] = "q8",
                                             [WEIGHT_Q4] = "q4"};
    memset(info, 0, sizeof *info);
    info->parameters = model->parameters;
    for (int i = 0; i < model->map_count; i++)
        info->weight_bytes += (int64_t)model->maps[i].size;
    info->table_bytes = (int64_t)model->table_bytes;
    info->context = model->config.decoder.context;
    info->hidden = model->config.decoder.hidden;
    info->vocabulary = model->config.decoder.vocabulary;
    info->recommended_ngram_size = model->config.ngram_size;
    info->weight_type = type_names[model->weights.layers[0].q.type];
}

int ocr_model_find_token(const OcrModel *model, const char *text, size_t length) {
    return tokenizer_find(model->tokenizer, text, length);
}

OcrCode ocr_quantizer_open(const char *source, const char *target, OcrQuantType type,
                           OcrQuantizer **out, OcrError *err) {
    return quantizer_open(source, target, type, out, err);
}

OcrStep ocr_quantizer_step(OcrQuantizer *quantizer, OcrError *err) {
    bool done;
    OcrCode code = quantizer_step(quantizer, &done, err);
    return code ? OCR_STEP_FAILED : done ? OCR_STEP_DONE : OCR_STEP_MORE;
}

void ocr_quantizer_progress(const OcrQuantizer *quantizer, int64_t *written, int64_t *total) {
    quantizer_progress(quantizer, written, total);
}

void ocr_quantizer_close(OcrQuantizer *quantizer) {
    quantizer_close(quantizer);
}

/* ---- pictures ---- */

OcrCode ocr_image_count(OcrBytes file, int *pages, OcrError *err) {
    return image_count(file, pages, err);
}

OcrCode ocr_image_probe(OcrBytes file, int page, int64_t max_pixels, OcrImageInfo *info,
                        OcrError *err) {
    return image_probe(file, page, max_pixels, info, err);
}

OcrCode ocr_pnm_length(OcrBytes beginning, uint64_t *length, OcrError *err) {
    return pnm_length(beginning, length, err);
}

/* ---- layout ---- */

/* A box of a picture that was turned clockwise by a quarter, before it was; width: as it is now. */
static OcrBox turn_back(OcrBox box, int width) {
    return (OcrBox){box.top, width - box.right, box.bottom, width - box.left};
}

int ocr_text_regions(OcrText text, const OcrImageInfo *image, int turned, OcrRegion *regions,
                     int capacity) {
    bool across = turned % 2 == 1;
    int width = across ? image->height : image->width;
    int height = across ? image->width : image->height;
    int count = grounding_parse(text, width, height, regions, capacity);
    for (int i = 0; i < min_int(count, capacity); i++)
        for (int quarter = turned; quarter > 0; quarter--)
            regions[i].box =
                turn_back(regions[i].box, quarter % 2 == 1 ? image->height : image->width);
    return count;
}

OcrText ocr_text_markdown(OcrText text, char *out) {
    return text_strip((OcrText){out, grounding_markdown(text, out)});
}

OcrCode ocr_annotation_bytes(const OcrImageInfo *image, size_t *bytes, OcrError *err) {
    return annotate_bytes(image, bytes, err);
}

OcrCode ocr_annotate_picture(const OcrAnnotation *annotation, OcrPool *pool, void *block,
                             OcrBytes *jpeg, OcrError *err) {
    return annotate_picture(annotation, pool_watched(pool), block, jpeg, err);
}
