/*
 * turn.h - views of a page that lies on its side or its head.
 */
#ifndef OCR_TURN_H
#define OCR_TURN_H

#include "vision/views.h"

/*
 * Turn views [views_bytes(plan)] in place by a quarter, clockwise: they become those of the picture
 * turned so, up to rounding and a pixel of padding, in a grid of plan->rows columns and
 * plan->columns rows. A view is worked on by one thread; where the pool's watch fires they are left
 * as they are by then.
 */
void views_turn(const ViewPlan *plan, OcrPool *pool, uint8_t *views);

#endif
