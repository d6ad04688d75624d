/* A page of text is the input: blocks lie inside it, and markdown is no longer than it. */
#include "decoder/grounding.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition) {
    if (!condition)
        abort();
}

static void require_inside(Text part, Text text) {
    require(part.bytes >= text.bytes && part.bytes <= text.bytes + text.length);
    require(part.length <= (size_t)(text.bytes + text.length - part.bytes));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    Text text = {(const char *)data, size};
    Grounding grounding = {0};
    grounding_parse(text, 640, 480, &grounding);
    grounding.block_capacity = grounding.block_count;
    grounding.box_capacity = grounding.box_count;
    grounding.blocks = malloc(((size_t)grounding.block_count + 1) * sizeof *grounding.blocks);
    grounding.boxes = malloc(((size_t)grounding.box_count + 1) * sizeof *grounding.boxes);
    char *out = malloc(size + 1);
    if (grounding.blocks && grounding.boxes && out) {
        grounding_parse(text, 640, 480, &grounding);
        require(grounding.block_count == grounding.block_capacity);
        require(grounding.box_count == grounding.box_capacity);
        for (int i = 0; i < grounding.block_count; i++) {
            const GroundingBlock *block = &grounding.blocks[i];
            require_inside(block->markup, text);
            require_inside(block->label, block->markup);
            require_inside(block->content, text);
            require(block->first_box + block->box_count <= grounding.box_count);
            require(block->located || block->box_count == 0);
        }
        require(grounding_markdown(text, out) <= size);
    }
    free(grounding.blocks);
    free(grounding.boxes);
    free(out);
    return 0;
}
