/*
 * Any bytes as an image: count its pages, probe and decode the first and the
 * last, and for one length in eight, since they take most of the time, make the
 * views of mode base.
 */
#include "vision/image.h"
#include "vision/views.h"

#include <assert.h>
#include <stdlib.h>

#define MAX_PIXELS 40000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_page(OcrBytes file, int page, OcrPool *pool) {
    OcrImageInfo info;
    ViewPlan plan;
    OcrError err;
    if (image_probe(file, page, MAX_PIXELS, &info, &err) != OCR_OK)
        return;
    assert(info.width > 0 && info.height > 0 && info.width * info.height <= MAX_PIXELS);
    assert(info.orientation >= 1 && info.orientation <= 8);

    void *buffer = malloc(image_decode_bytes(&info));
    RgbImage image;
    OcrCode code = image_decode(file, &info, NULL, buffer, &image, &err);
    if (code == OCR_OK && file.size % 8 == 0 &&
        views_plan(OCR_MODE_BASE, image.width, image.height, &plan, &err) == OCR_OK) {
        void *scratch = malloc(views_scratch_bytes(&plan, image.width, image.height));
        uint8_t *views = malloc(views_bytes(&plan));
        views_make(&plan, &image, pool, scratch, views, &err);
        free(scratch);
        free(views);
    }
    free(buffer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static OcrPool *pool;
    OcrBytes file = {data, size};
    OcrError err;
    int pages;
    if (!pool && pool_create(1, &pool, &err) != OCR_OK)
        return 0;
    read_page(file, 0, pool);
    if (image_count(file, &pages, &err) == OCR_OK && pages > 1)
        read_page(file, pages - 1, pool);
    return 0;
}
