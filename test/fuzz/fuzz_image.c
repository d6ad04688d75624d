/*
 * Any bytes as an image: probe, decode, and for one length in eight, since they
 * take most of the time, make the views of mode base.
 */
#include "vision/image.h"
#include "vision/views.h"

#include <assert.h>
#include <stdlib.h>

#define MAX_PIXELS 40000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static OcrPool *pool;
    OcrBytes file = {data, size};
    OcrImageInfo info;
    ViewPlan plan;
    OcrError err;
    if (!pool && pool_create(1, &pool, &err) != OCR_OK)
        return 0;
    if (image_probe(file, 0, MAX_PIXELS, &info, &err) != OCR_OK)
        return 0;
    assert(info.width > 0 && info.height > 0 && info.width * info.height <= MAX_PIXELS);
    assert(info.orientation >= 1 && info.orientation <= 8);

    void *buffer = malloc(image_decode_bytes(&info));
    RgbImage image;
    OcrCode code = image_decode(file, &info, NULL, buffer, &image, &err);
    if (code == OCR_OK && size % 8 == 0 &&
        views_plan(OCR_MODE_BASE, image.width, image.height, &plan, &err) == OCR_OK) {
        void *scratch = malloc(views_scratch_bytes(&plan, image.width, image.height));
        uint8_t *views = malloc(views_bytes(&plan));
        views_make(&plan, &image, pool, scratch, views, &err);
        free(scratch);
        free(views);
    }
    free(buffer);
    return 0;
}
