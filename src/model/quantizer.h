/*
 * quantizer.h - write a smaller copy of a checkpoint folder.
 *
 * The copy is a checkpoint folder like any other, with one safetensors file. A
 * quantized matrix keeps its name and gets a companion with its scales:
 *
 *   X.weight        I8 [rows, columns]  or  U8 [rows, bytes of a row]
 *   X.weight_scale  BF16 [rows, blocks]          (layout: kernels/quant.h)
 *
 * What is quantized
 *   q8   every matrix of both towers and of the decoder in 8 bits
 *   q4   the decoder's layers and the output matrix in 4 bits, the rest as q8
 * What keeps its type: norms, biases and position tables (small), convolutions
 * (every token of a page passes through their few weights), embeddings (a row at
 * a time is read of them, which saves nothing), and the routers (a changed choice
 * of experts moves a token more than any rounding).
 *
 * The work is done in steps of a few milliseconds. It goes to TARGET.partial,
 * which becomes TARGET by one rename once everything is on disk: a crash never
 * leaves half a model under the name, and the next attempt takes the remains over,
 * unless files lie there that no attempt makes.
 */
#ifndef OCR_QUANTIZER_H
#define OCR_QUANTIZER_H

#include "base/status.h"
#include "base/types.h"

typedef struct OcrQuantizer OcrQuantizer;

/*
 * source: a checkpoint folder. target: a path that does not exist, in a folder that
 * does. OCR_TARGET if it cannot be written or someone else is writing it.
 */
OcrCode quantizer_open(const char *source, const char *target, OcrQuantType type,
                       OcrQuantizer **out, OcrError *err);

/* One piece of the work; *done once the target is in place. */
OcrCode quantizer_step(OcrQuantizer *quantizer, bool *done, OcrError *err);

/* Bytes written so far and in all. */
void quantizer_progress(const OcrQuantizer *quantizer, int64_t *written, int64_t *total);

/* Frees everything; what is not done is removed from disk. NULL is allowed. */
void quantizer_close(OcrQuantizer *quantizer);

#endif
