/*
 * config.h - config.json of a checkpoint folder, as plain numbers (spec 1.2, 1.3).
 *
 * Accepts exactly DeepSeek-OCR and scaled-down models of the same
 * architecture; anything else is refused by the name of the field that differs.
 */
#ifndef OCR_CONFIG_H
#define OCR_CONFIG_H

#include "base/status.h"
#include "base/types.h"

#define CONFIG_MAX_LAYERS 256
#define CONFIG_MAX_AUTO_RULES 16

typedef struct SamConfig {
    int layers, width, heads, mlp_width;
    int patch, grid, window;        /* patch in pixels; grid and window in patches */
    int neck_channels;              /* after the neck's 1x1 convolution */
    int channels[2];                /* after the two stride-2 convolutions */
    bool global[CONFIG_MAX_LAYERS]; /* [layers] attention over the whole grid */
} SamConfig;

typedef struct ClipConfig {
    int layers, width, heads, mlp_width;
    int grid; /* side of the position table */
} ClipConfig;

typedef struct DecoderConfig {
    int layers, hidden, heads, vocabulary;
    int dense_layers; /* the first ones have a plain MLP of dense_width */
    int dense_width;
    int experts, experts_per_token, expert_width;
    int shared_width; /* of the shared experts together */
    int context;      /* positions */
    float norm_epsilon;
    double rope_theta;
    bool normalise_weights; /* norm_topk_prob */
    float routed_scale;     /* routed_scaling_factor */
} DecoderConfig;

/*
 * Pictures whose larger side is at most max_side pixels are read in mode, unless that shows
 * them more than max_zoom times as large as they are, cuts them into more than max_columns x
 * max_rows tiles, or the prompt asks for places and plain is set. 0: any.
 */
typedef struct AutoRule {
    int max_side;
    OcrMode mode;
    int max_zoom;
    int max_columns, max_rows;
    bool plain;
} AutoRule;

typedef struct ModelConfig {
    SamConfig sam;
    ClipConfig clip;
    DecoderConfig decoder;
    AutoRule auto_rules[CONFIG_MAX_AUTO_RULES]; /* the first that fits decides, or else the last */
    int auto_rule_count;
    int ngram_size;         /* recommended ban, 0: none */
    double min_confidence;  /* recommended, 0: none */
    double turn_confidence; /* recommended, 0: none */
} ModelConfig;

OcrCode config_read(const char *path, ModelConfig *out, OcrError *err);

#endif
