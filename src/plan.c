/*
 * plan.c - what a page takes: views, positions, memory.
 */
#include "plan.h"

#include "base/arena.h"
#include "base/numbers.h"
#include "vision/image.h"

#include <string.h>

Prompt plan_prompt(const OcrRequest *request, const OcrPlan *plan) {
    return (Prompt){.text = request->prompt ? request->prompt : OCR_DEFAULT_PROMPT,
                    .phrase = request->phrase,
                    .image_slots = plan->image_slots};
}

ViewPlan plan_views(const OcrPlan *plan) {
    return (ViewPlan){plan->mode, plan->global_size, plan->tile_size, plan->columns, plan->rows};
}

OcrPlan plan_turned(const OcrPlan *plan) {
    OcrPlan turned = *plan;
    turned.turned = (plan->turned + 1) % 4;
    turned.columns = plan->rows;
    turned.rows = plan->columns;
    ViewPlan views = plan_views(&turned);
    turned.image_slots = views_slot_count(&views);
    turned.prompt_positions += turned.image_slots - plan->image_slots;
    return turned;
}

static bool rule_fits(const AutoRule *rule, int width, int height, bool grounding) {
    if ((rule->max_side > 0 && max_int(width, height) > rule->max_side) ||
        (rule->plain && grounding))
        return false;
    ViewPlan views;
    OcrError unseen;
    if (views_plan(rule->mode, width, height, &views, &unseen))
        return true; /* so that whoever plans the page is told why it cannot be read */
    if (rule->max_columns > 0 && (views.columns > rule->max_columns || views.rows > rule->max_rows))
        return false;
    return rule->max_zoom == 0 || views_zoom(&views, width, height) <= rule->max_zoom;
}

OcrMode plan_auto_mode(const ModelConfig *config, int width, int height, bool grounding) {
    for (int i = 0; i < config->auto_rule_count; i++)
        if (rule_fits(&config->auto_rules[i], width, height, grounding))
            return config->auto_rules[i].mode;
    return config->auto_rules[config->auto_rule_count - 1].mode;
}

/*
 * A page that may be turned keeps room for as long a text however it lies; it is not turned where
 * that would take half of it.
 */
static void plan_turns(const ModelConfig *config, const OcrRequest *request, OcrPlan *plan) {
    int room = config->decoder.context - plan_turned(plan).prompt_positions;
    if (request->phrase || request->encode_only || room < plan->max_tokens / 2 + 1)
        return;
    plan->turn_confidence =
        request->turn_confidence < 0 ? config->turn_confidence : request->turn_confidence;
    if (plan->turn_confidence > 0)
        plan->max_tokens = min_int(plan->max_tokens, room);
}

OcrCode ocr_plan_page(const OcrModel *model, const OcrImageInfo *image, const OcrRequest *request,
                      OcrPlan *plan, OcrError *err) {
    int context = model->config.decoder.context;
    OcrMode mode = request->mode;
    ViewPlan views;
    bool grounding = request->phrase || (request->prompt && strstr(request->prompt, OCR_GROUNDING));
    if (mode == OCR_MODE_AUTO)
        mode = plan_auto_mode(&model->config, image->width, image->height, grounding);
    OcrCode code = views_plan(mode, image->width, image->height, &views, err);
    if (code)
        return code;
    *plan = (OcrPlan){.mode = views.mode,
                      .global_size = views.global_size,
                      .tile_size = views.tile_size,
                      .columns = views.columns,
                      .rows = views.rows,
                      .vision_tokens = views_token_count(&views),
                      .image_slots = views_slot_count(&views)};
    Prompt prompt = plan_prompt(request, plan);
    code = model_prompt(model, &prompt, NULL, 0, &plan->prompt_positions, err);
    if (code)
        return code;
    if (plan->prompt_positions >= context && !request->encode_only)
        return ocr_fail(err, OCR_CONTEXT,
                        "the picture and the prompt take %d positions, but the model has only %d",
                        plan->prompt_positions, context);
    plan->max_tokens = context - plan->prompt_positions;
    if (request->max_tokens > 0 && request->max_tokens < plan->max_tokens)
        plan->max_tokens = request->max_tokens;
    plan_turns(&model->config, request, plan);
    return OCR_OK;
}

static void add_plan(OcrLimits *limits, const OcrPlan *plan, bool encode_only) {
    ViewPlan views = plan_views(plan);
    int largest =
        view_tiles(&views) ? max_int(plan->global_size, plan->tile_size) : plan->global_size;
    limits->view_size = max_int(limits->view_size, largest);
    limits->view_bytes = max_int(limits->view_bytes, (int)views_bytes(&views));
    limits->image_slots = max_int(limits->image_slots, plan->image_slots);
    if (!encode_only)
        limits->positions = max_int(limits->positions, plan->prompt_positions + plan->max_tokens);
}

void ocr_limits_add(OcrLimits *limits, const OcrPlan *plan, const OcrRequest *request) {
    add_plan(limits, plan, request->encode_only);
    if (plan->turn_confidence > 0) {
        OcrPlan turned = plan_turned(plan);
        add_plan(limits, &turned, request->encode_only);
    }
}

size_t ocr_start_bytes(const OcrImageInfo *image, const OcrPlan *plan) {
    ViewPlan views = plan_views(plan);
    Arena arena = ARENA_MEASURE;
    arena_take(&arena, 1, image_decode_bytes(image));
    arena_take(&arena, 1, views_scratch_bytes(&views, image->width, image->height));
    return arena.used > SIZE_MAX - ARENA_ALIGNMENT ? SIZE_MAX : arena.used + ARENA_ALIGNMENT;
}

size_t ocr_decoding_bytes(const OcrImageInfo *image, const OcrPlan *plan) {
    size_t bytes = ocr_start_bytes(image, plan);
    return bytes > SIZE_MAX - image->library_bytes ? SIZE_MAX : bytes + image->library_bytes;
}
