/*
 * make_checkpoint - write a checkpoint folder with generated weights.
 *
 *   make_checkpoint --preset nano|micro|full --out DIR [--seed S]
 *                   [--dtype bf16|f16|f32] [--shards N] [--list-merges]
 *   make_checkpoint --config FILE --out DIR ...
 */
#include "checkpoint.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "usage: make_checkpoint --preset nano|micro|full | --config FILE\n"
    "                       --out DIR [--seed S] [--dtype bf16|f16|f32] [--shards N]\n"
    "                       [--list-merges]\n";

static int fail(const char *message) {
    fprintf(stderr, "make_checkpoint: %s\n", message);
    return 1;
}

static bool parse_type(const char *name, CheckpointType *type) {
    static const char *const names[] = {
        [CHECKPOINT_BF16] = "bf16", [CHECKPOINT_F16] = "f16", [CHECKPOINT_F32] = "f32"};
    for (int i = CHECKPOINT_BF16; i <= CHECKPOINT_F32; i++) {
        if (strcmp(name, names[i]) == 0) {
            *type = (CheckpointType)i;
            return true;
        }
    }
    return false;
}

/* As published: the released model and micro are one file, other small ones two. */
static int usual_shards(const json_t *config, const char *preset) {
    bool large = json_integer_value(json_object_get(config, "vocab_size")) > 20000;
    return large || (preset && strcmp(preset, "micro") == 0) ? 1 : 2;
}

int main(int argc, char **argv) {
    static const struct option long_options[] = {
        {"preset", required_argument, NULL, 'p'}, {"config", required_argument, NULL, 'c'},
        {"out", required_argument, NULL, 'o'},    {"seed", required_argument, NULL, 's'},
        {"dtype", required_argument, NULL, 'd'},  {"shards", required_argument, NULL, 'n'},
        {"list-merges", no_argument, NULL, 'l'},  {0}};
    const char *preset = NULL, *config_file = NULL, *folder = NULL;
    CheckpointOptions options = {.seed = 1};
    json_error_t problem;
    OcrError err;
    int option;

    while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
        switch (option) {
        case 'p':
            preset = optarg;
            break;
        case 'c':
            config_file = optarg;
            break;
        case 'o':
            folder = optarg;
            break;
        case 's':
            options.seed = strtoull(optarg, NULL, 0);
            break;
        case 'd':
            if (!parse_type(optarg, &options.type))
                return fail("--dtype must be bf16, f16 or f32");
            break;
        case 'n':
            options.shards = atoi(optarg);
            break;
        case 'l':
            options.list_merges = true;
            break;
        default:
            fputs(usage, stderr);
            return 2;
        }
    }
    if (!folder || !preset == !config_file || optind < argc) {
        fputs(usage, stderr);
        return 2;
    }
    json_t *config = preset ? checkpoint_preset(preset) : json_load_file(config_file, 0, &problem);
    if (!config)
        return fail(preset ? "there is no such preset" : problem.text);
    if (options.shards == 0)
        options.shards = usual_shards(config, preset);
    OcrCode code = checkpoint_write(folder, config, &options, &err);
    json_decref(config);
    return code ? fail(err.message) : 0;
}
