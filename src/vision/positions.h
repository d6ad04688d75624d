/*
 * positions.h - position tables for grids of another size than trained (spec 3.1, 3.2).
 */
#ifndef OCR_POSITIONS_H
#define OCR_POSITIONS_H

#include "kernels/compute.h"

/*
 * Add a learned grid to x: the rows of `table` from first_row on are [from][from],
 * resized to [to][to] by antialiased bicubic interpolation where the sides
 * differ. x: [to * to][table->columns]. scratch: positions_scratch_floats.
 */
typedef struct PositionGrid {
    const Matrix *table; /* [first_row + from * from][columns] */
    int first_row;
    int from, to;
} PositionGrid;

size_t positions_scratch_floats(int from, int to, int columns);
void positions_add(const PositionGrid *grid, float *x, const Compute *compute, float *scratch);

/*
 * A table of relative positions, linearly resized from `from` to `to` rows and
 * turned around, so that the largest distance comes first. table: [from][dim],
 * out: [to][dim].
 */
void relative_positions(const float *table, int from, int to, int dim, float *out);

#endif
