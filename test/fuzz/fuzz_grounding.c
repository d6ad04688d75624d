/* A page of text is the input: regions lie inside it, and markdown is no longer than it. */
#include "decoder/grounding.h"

#include <stdint.h>
#include <stdlib.h>

#define WIDTH 640
#define HEIGHT 480

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition) {
    if (!condition)
        abort();
}

static void require_inside(OcrText part, OcrText text) {
    require(part.bytes >= text.bytes && part.bytes <= text.bytes + text.length);
    require(part.length <= (size_t)(text.bytes + text.length - part.bytes));
}

static void check_region(const OcrRegion *region, const OcrRegion *before, OcrText text) {
    bool first = !before || before->block != region->block;
    require(region->block == (before ? before->block : 0) + first);
    require(first == (region->text.bytes != NULL));
    if (first)
        require_inside(region->text, text);
    if (region->label.bytes)
        require_inside(region->label, text);
    else
        require(region->block == 1 && !region->has_box && region->text.length > 0);
    if (region->has_box) {
        require(0 <= region->box.left && region->box.left <= region->box.right);
        require(0 <= region->box.top && region->box.top <= region->box.bottom);
        require(region->box.right <= WIDTH && region->box.bottom <= HEIGHT);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    OcrText text = {(const char *)data, size};
    int count = grounding_parse(text, WIDTH, HEIGHT, NULL, 0);
    OcrRegion *regions = malloc(((size_t)count + 1) * sizeof *regions);
    char *out = malloc(size + 1);
    if (regions && out) {
        require(grounding_parse(text, WIDTH, HEIGHT, regions, count) == count);
        for (int i = 0; i < count; i++)
            check_region(&regions[i], i > 0 ? &regions[i - 1] : NULL, text);
        require(grounding_markdown(text, out) <= size);
    }
    free(regions);
    free(out);
    return 0;
}
