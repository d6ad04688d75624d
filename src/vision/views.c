/*
 * views.c - modes, tiling and padding.
 */
#include "vision/views.h"

#include "vision/resize.h"

#include <math.h>
#include <string.h>

/* Spec 2.1. */
static const struct {
    int global_size;
    int tile_size; /* 0: the mode has no tiles */
    bool squash;   /* the global view ignores the picture's proportions */
} modes[OCR_MODE_COUNT] = {
    [OCR_MODE_TINY] = {512, 0, true},       [OCR_MODE_SMALL] = {640, 0, true},
    [OCR_MODE_BASE] = {1024, 0, false},     [OCR_MODE_LARGE] = {1280, 0, false},
    [OCR_MODE_GUNDAM] = {1024, 640, false}, [OCR_MODE_GUNDAM_M] = {1280, 1024, false},
};

/* In every mode with tiles, pictures within this square have none. */
#define UNTILED_SIDE 640

#define GREY 127 /* around a picture that does not fill its view */

/* Columns and rows by ascending area; the order decides between equal distances (spec 2.4). */
static const struct {
    int columns, rows;
} grids[] = {{1, 2}, {2, 1}, {1, 3}, {3, 1}, {1, 4}, {2, 2}, {4, 1}, {1, 5},
             {5, 1}, {1, 6}, {2, 3}, {3, 2}, {6, 1}, {1, 7}, {7, 1}, {1, 8},
             {2, 4}, {4, 2}, {8, 1}, {1, 9}, {3, 3}, {9, 1}};

/* The grid whose proportions are nearest; among equals the larger one if the picture has the
 * pixels. */
static void choose_grid(int width, int height, ViewPlan *plan) {
    double ratio = (double)width / height, best = INFINITY;
    double area = (double)width * height;
    double half_tile = 0.5 * plan->tile_size * plan->tile_size;
    for (size_t i = 0; i < sizeof grids / sizeof *grids; i++) {
        int columns = grids[i].columns, rows = grids[i].rows;
        double distance = fabs(ratio - (double)columns / rows);
        if (distance < best || (distance == best && area > half_tile * columns * rows)) {
            best = distance;
            plan->columns = columns;
            plan->rows = rows;
        }
    }
}

/* Where the picture lies in its global view. */
typedef struct Placement {
    int left, top, width, height;
} Placement;

/* width or height is 0 where the side vanishes. Rounding is half to even (spec 2.3). */
static Placement place_picture(const ViewPlan *plan, int width, int height) {
    int size = plan->global_size;
    Placement placed = {0, 0, size, size};
    if (modes[plan->mode].squash)
        return placed;
    if (width > height)
        placed.height = (int)rint((double)height / width * size);
    else if (width < height)
        placed.width = (int)rint((double)width / height * size);
    placed.left = (int)rint((size - placed.width) * 0.5);
    placed.top = (int)rint((size - placed.height) * 0.5);
    return placed;
}

OcrCode views_plan(OcrMode mode, int width, int height, ViewPlan *plan, OcrError *err) {
    *plan = (ViewPlan){.mode = mode,
                       .global_size = modes[mode].global_size,
                       .tile_size = modes[mode].tile_size,
                       .columns = 1,
                       .rows = 1};
    Placement placed = place_picture(plan, width, height);
    if (placed.width == 0 || placed.height == 0)
        return ocr_fail(err, OCR_IMAGE_ASPECT,
                        "the image is too narrow: of %d x %d pixels nothing is left on the short "
                        "side when the long one becomes %d",
                        width, height, plan->global_size);
    if (plan->tile_size > 0 && (width > UNTILED_SIDE || height > UNTILED_SIDE))
        choose_grid(width, height, plan);
    return OCR_OK;
}

double views_zoom(const ViewPlan *plan, int width, int height) {
    Placement placed = place_picture(plan, width, height);
    if (view_tiles(plan))
        placed = (Placement){.width = plan->tile_size * plan->columns,
                             .height = plan->tile_size * plan->rows};
    return fmax((double)placed.width / width, (double)placed.height / height);
}

int views_token_count(const ViewPlan *plan) {
    int global = view_side_tokens(plan->global_size), tile = view_side_tokens(plan->tile_size);
    return global * global + view_tiles(plan) * tile * tile;
}

int views_slot_count(const ViewPlan *plan) {
    int global = view_side_tokens(plan->global_size), tile = view_side_tokens(plan->tile_size);
    int slots = global * (global + 1) + 1; /* a newline for each row, and the separator */
    if (view_tiles(plan) > 0)
        slots += plan->rows * tile * (plan->columns * tile + 1);
    return slots;
}

static size_t view_bytes(int size) {
    return (size_t)size * (size_t)size * 3;
}

size_t views_bytes(const ViewPlan *plan) {
    return (size_t)view_tiles(plan) * view_bytes(plan->tile_size) + view_bytes(plan->global_size);
}

const uint8_t *views_at(const ViewPlan *plan, const uint8_t *views, int i, int *size) {
    *size = i < view_tiles(plan) ? plan->tile_size : plan->global_size;
    return views + (size_t)i * view_bytes(plan->tile_size);
}

/* views: of the page, or NULL where only the size matters. */
static ResizeTarget tile_target(const ViewPlan *plan, uint8_t *views) {
    int size = plan->tile_size;
    return (ResizeTarget){.pixels = views,
                          .columns = plan->columns,
                          .rows = plan->rows,
                          .panel_width = size,
                          .panel_height = size,
                          .row_bytes = (size_t)size * 3,
                          .panel_bytes = view_bytes(size)};
}

static ResizeTarget global_target(const ViewPlan *plan, Placement placed, uint8_t *view) {
    return (ResizeTarget){.pixels = view,
                          .columns = 1,
                          .rows = 1,
                          .panel_width = placed.width,
                          .panel_height = placed.height,
                          .row_bytes = (size_t)plan->global_size * 3};
}

size_t views_scratch_bytes(const ViewPlan *plan, int width, int height) {
    ResizeTarget global = global_target(plan, place_picture(plan, width, height), NULL);
    size_t bytes = resize_scratch_bytes(width, height, &global);
    if (view_tiles(plan) > 0) {
        ResizeTarget tiles = tile_target(plan, NULL);
        size_t more = resize_scratch_bytes(width, height, &tiles);
        bytes = more > bytes ? more : bytes;
    }
    return bytes;
}

OcrCode views_make(const ViewPlan *plan, const RgbImage *image, OcrPool *pool, void *scratch,
                   uint8_t *views, OcrError *err) {
    if (view_tiles(plan) > 0) {
        ResizeTarget tiles = tile_target(plan, views);
        OcrCode code = resize(image, &tiles, pool, scratch, err);
        if (code != OCR_OK)
            return code;
    }
    uint8_t *view = views + (size_t)view_tiles(plan) * view_bytes(plan->tile_size);
    memset(view, GREY, view_bytes(plan->global_size));
    Placement placed = place_picture(plan, image->width, image->height);
    view += ((size_t)placed.top * (size_t)plan->global_size + (size_t)placed.left) * 3;
    ResizeTarget global = global_target(plan, placed, view);
    return resize(image, &global, pool, scratch, err);
}
