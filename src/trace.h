/*
 * trace.h - the engine's private entry for tests: see the tensors on their way.
 *
 * Names: view (index: which, the global one last; no data), sam_embed, sam_block,
 * sam_neck, sam, clip_block, proj, vision_sequence, layer, logits.
 */
#ifndef OCR_TRACE_H
#define OCR_TRACE_H

#include "engine.h"
#include "kernels/compute.h"

/* trace must outlive the session; NULL ends it. */
void ocr_session_trace(OcrSession *session, const Trace *trace);

#endif
