/*
 * weights.h - the tensors of a checkpoint as typed structures (spec 1.4).
 *
 * Matrices point into the mapping and are used as they lie, quantized or not. Small tensors
 * (norms, biases, relative positions, single vectors) are converted to f32 once
 * and checked to be finite. Every shape is compared with the configuration, and
 * a tensor that has no place in the architecture is refused.
 */
#ifndef OCR_WEIGHTS_H
#define OCR_WEIGHTS_H

#include "base/arena.h"
#include "kernels/matmul.h"
#include "model/config.h"
#include "model/safetensors.h"

typedef struct Norm {
    const float *weight; /* [width] */
    const float *bias;   /* [width]; NULL for RMS norms */
} Norm;

typedef struct Linear {
    Matrix w;
    const float *bias; /* [w.rows] or NULL */
} Linear;

typedef struct SamBlock {
    Norm norm1, norm2;
    Linear qkv;                 /* [3 * width][width]: q, k, v, each [head][head_dim] */
    Linear proj;                /* [width][width] */
    Linear lin1, lin2;          /* [mlp][width], [width][mlp] */
    const float *rel_h, *rel_w; /* [rel_length][head_dim] by row and by column distance */
    int rel_length;             /* 2 * window - 1, or 2 * grid - 1 in a global block */
} SamBlock;

typedef struct SamWeights {
    Linear patch;     /* [width][3 * patch * patch] */
    Matrix positions; /* [grid * grid][width] */
    SamBlock *blocks; /* [layers] */
    Matrix neck1x1;   /* neck.0: [c][width] */
    Norm neck_norm1;
    Matrix neck3x3; /* neck.2: [c][c * 9] */
    Norm neck_norm2;
    Matrix down[2]; /* net_2, net_3: [channels[i]][previous * 9], stride 2 */
} SamWeights;

typedef struct ClipBlock {
    Norm norm1, norm2;
    Linear qkv;      /* [3 * width][width] */
    Linear out;      /* [width][width] */
    Linear fc1, fc2; /* [mlp][width], [width][mlp] */
} ClipBlock;

typedef struct ClipWeights {
    const float *class_embedding; /* [width] */
    Matrix positions;             /* [1 + grid * grid][width], class token first */
    Norm pre_norm;
    ClipBlock *blocks; /* [layers] */
} ClipWeights;

typedef struct Mlp {
    Matrix gate, up; /* [ffn][hidden] */
    Matrix down;     /* [hidden][ffn] */
} Mlp;

typedef struct DecoderLayer {
    Norm input_norm, post_norm;
    Matrix q, k, v, o; /* [hidden][hidden] */
    Mlp mlp;           /* a dense layer's MLP, otherwise the shared experts */
    Matrix router;     /* [experts][hidden]; rows 0 in a dense layer */
    Mlp *experts;      /* [experts]; NULL in a dense layer */
} DecoderLayer;

typedef struct Weights {
    SamWeights sam;
    ClipWeights clip;
    Linear projector;       /* [hidden][2 * clip width] */
    const float *newline;   /* [hidden] */
    const float *separator; /* [hidden] */
    Matrix embedding;       /* [vocabulary][hidden] */
    DecoderLayer *layers;   /* [layers] */
    Norm final_norm;
    Matrix lm_head; /* [vocabulary][hidden] */
} Weights;

/*
 * Find and check every tensor. Over a measuring arena nothing is kept, but all
 * shapes are checked; over a real one *out is filled. OCR_MODEL_TENSOR and
 * OCR_MODEL_NOT_FINITE name the tensor.
 */
OcrCode weights_bind(Safetensors *files, const ModelConfig *config, Arena *arena, Weights *out,
                     OcrError *err);

/* Row `row` of a matrix that is not quantized, as f32. out: [columns] */
void matrix_row(const Matrix *matrix, int row, float *out);

#endif
