/*
 * grounding.h - the layout markup of the model's text (spec 7).
 *
 * With a grounding prompt the model writes, before each piece of content,
 *     <|ref|>LABEL<|/ref|><|det|>[[x1, y1, x2, y2], ...]<|/det|>
 * with coordinates in 0..999 of the upright picture. Here that becomes blocks
 * with boxes in pixels, or markdown. The text is what a model said, so anything
 * may stand in it: what is not exactly such markup is text, and a list of boxes
 * is read by a parser of numbers and brackets, never evaluated.
 */
#ifndef OCR_GROUNDING_H
#define OCR_GROUNDING_H

#include "base/utf8.h"

#include <stdbool.h>
#include <stddef.h>

typedef struct GroundingBox {
    double model[4]; /* left, top, right, bottom as written, in 0..999 if the model is right */
    int pixels[4];   /* the same in the picture, truncated; not clipped to it */
} GroundingBox;

typedef struct GroundingBlock {
    Text markup;  /* from <|ref|> to <|/det|> */
    Text label;   /* "title", "table" or any other text */
    Text content; /* up to the next markup, stripped; empty where two follow each other */
    bool located; /* false: the list of boxes could not be read */
    int first_box, box_count; /* in Grounding.boxes */
} GroundingBlock;

/* Arrays of the caller. What does not fit is counted, but not written. */
typedef struct Grounding {
    GroundingBlock *blocks; /* [block_capacity] in the order of the text, which they point into */
    int block_capacity, block_count;
    GroundingBox *boxes; /* [box_capacity] */
    int box_capacity, box_count;
} Grounding;

/*
 * Find the blocks of a page's text; width and height are those of the upright
 * picture. Call with no capacity, then with arrays as large as the counts say.
 */
void grounding_parse(Text text, int width, int height, Grounding *out);

/*
 * Markdown: blocks labelled image become references to images/K.jpg, K counting
 * them from 0; other markup goes away; \coloneqq and \eqqcolon become := and =:.
 * out: [text.length], which is always enough, elsewhere than text. Returns the
 * bytes written. An end mark and white space at the ends of the text are dropped
 * first.
 */
size_t grounding_markdown(Text text, char *out);

#endif
