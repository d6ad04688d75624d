/*
 * grounding.h - the layout markup of the model's text (spec 7).
 *
 * With a grounding prompt the model writes, before each piece of content,
 *     <|ref|>LABEL<|/ref|><|det|>[[x1, y1, x2, y2], ...]<|/det|>
 * with coordinates in 0..999 of the picture as it was read. Here that becomes regions
 * with boxes in pixels, or markdown. The text is what a model said, so anything
 * may stand in it: what is not exactly such markup is text, and a list of boxes
 * is read by a parser of numbers and brackets, never evaluated.
 */
#ifndef OCR_GROUNDING_H
#define OCR_GROUNDING_H

#include "base/types.h"

/*
 * The regions of a page's text, into which they point; width and height are those
 * of the picture as it was read. Writes at most capacity regions and returns how many
 * there are. A markup whose list cannot be read has no box.
 */
int grounding_parse(OcrText text, int width, int height, OcrRegion *regions, int capacity);

/*
 * Markdown: markup labelled image becomes a reference to images/K.jpg, K counting
 * it from 0; other markup goes away; \coloneqq and \eqqcolon become := and =:.
 * out: [text.length], which is always enough, elsewhere than text. Returns the
 * bytes written. An end mark and white space at the ends of the text are dropped
 * first.
 */
size_t grounding_markdown(OcrText text, char *out);

#endif
