/*
 * turn.h - views of a page that lies on its side or its head.
 */
#ifndef OCR_TURN_H
#define OCR_TURN_H

#include "vision/views.h"

/*
 * Turn views [views_bytes(plan)] in place by a quarter, clockwise: they become the views of the
 * picture turned so, whose grid has plan->rows columns and plan->columns rows. A view is worked on
 * by one thread; where the pool's watch fires they are left as they are by then.
 */
void views_turn(const ViewPlan *plan, OcrPool *pool, uint8_t *views);

#endif
