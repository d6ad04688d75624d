/*
 * plan.h - a page's plan in the terms of the layers below.
 */
#ifndef OCR_PLAN_H
#define OCR_PLAN_H

#include "engine.h"
#include "model/model.h"
#include "vision/views.h"

/* What OCR_MODE_AUTO means for a picture of this size, and a prompt that asks for places or not. */
OcrMode plan_auto_mode(const ModelConfig *config, int width, int height, bool grounding);

/* The views that its picture is cut into. */
ViewPlan plan_views(const OcrPlan *plan);

/* Of the same page turned by another quarter. */
OcrPlan plan_turned(const OcrPlan *plan);

/* What the decoder is asked; it points into the request. */
Prompt plan_prompt(const OcrRequest *request, const OcrPlan *plan);

#endif
