/* views.c: modes, grids, padding; the goldens' views. */
#include "pictures.h"
#include "vision/turn.h"

#include <stdlib.h>
#include <string.h>

static ViewPlan plan_of(OcrMode mode, int width, int height) {
    ViewPlan plan;
    OcrError err;
    assert_ok(views_plan(mode, width, height, &plan, &err), &err);
    assert_int_equal(plan.mode, mode);
    return plan;
}

/* malloc'ed; scratch and views have exactly the sizes asked for. */
static uint8_t *make(const ViewPlan *plan, const RgbImage *image, OcrPool *pool) {
    OcrError err;
    void *scratch = malloc(views_scratch_bytes(plan, image->width, image->height));
    uint8_t *views = malloc(views_bytes(plan));
    assert_ok(views_make(plan, image, pool, scratch, views, &err), &err);
    free(scratch);
    return views;
}

static void assert_view(const ViewPlan *plan, const uint8_t *views, int i, const char *sha256) {
    int size;
    char sum[65];
    const uint8_t *view = views_at(plan, views, i, &size);
    sha256_hex(view, (size_t)size * (size_t)size * 3, sum);
    assert_string_equal(sum, sha256);
}

static void test_zoom(void **state) {
    (void)state;
    const struct {
        OcrMode mode;
        int width, height;
        double zoom;
    } cases[] = {
        {OCR_MODE_TINY, 1024, 256, 2.0}, /* squashed: the short side grows */
        {OCR_MODE_BASE, 512, 2048, 0.5}, /* padded */
        {OCR_MODE_LARGE, 640, 640, 2.0},
        {OCR_MODE_GUNDAM, 500, 640, 1.6},   /* no tiles: the global view */
        {OCR_MODE_GUNDAM, 1280, 1600, 1.2}, /* 2 x 3 tiles: 1 across, 1.2 down */
        {OCR_MODE_GUNDAM_M, 1024, 512, 2.0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ViewPlan plan = plan_of(cases[i].mode, cases[i].width, cases[i].height);
        assert_float_equal(views_zoom(&plan, cases[i].width, cases[i].height), cases[i].zoom, 1e-9);
    }
}

static void test_goldens(void **state) {
    (void)state;
    const char *const cases[] = {
        "alpha_tiny",
        "exif6_base",
        "page_small_gundam",
        "page_small_small",
        "page_small_tiny",
        "page_tall_grey_gundam-m",
        "page_tall_grey_gundam",
        "palette_base",
        "scan_wide_base",
        "scan_wide_gundam",
        "scan_wide_large",
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char path[100];
        snprintf(path, sizeof path, "nano_%s.json", cases[i]);
        json_t *root = golden_json(path);
        const char *name, *mode_name, *global;
        int columns, rows, slots;
        assert_int_equal(json_unpack(root, "{s:{s:s}, s:s, s:[i,i], s:s, s:{s:i}}", "image", "file",
                                     &name, "mode", &mode_name, "grid", &columns, &rows,
                                     "global_view_sha256", &global, "input", "image_slots", &slots),
                         0);
        json_t *tiles = json_object_get(root, "tiles_sha256");
        OcrMode mode;
        assert_true(ocr_mode_parse(mode_name, &mode));

        OcrError err;
        RgbImage image;
        snprintf(path, sizeof path, "images/%s", name);
        OcrBytes file = read_file(golden_path(path));
        assert_ok(read_picture(file, NULL, &image, &err), &err);
        ViewPlan plan = plan_of(mode, image.width, image.height);
        assert_int_equal(plan.columns, columns);
        assert_int_equal(plan.rows, rows);
        assert_int_equal(views_slot_count(&plan), slots);
        assert_int_equal(view_tiles(&plan), json_array_size(tiles));
        uint8_t *views = make(&plan, &image, pools[i % 2]);
        for (int t = 0; t < view_tiles(&plan); t++)
            assert_view(&plan, views, t, json_string_value(json_array_get(tiles, (size_t)t)));
        assert_view(&plan, views, view_tiles(&plan), global);
        free(views);
        free(image.pixels);
        free_bytes(file);
        json_decref(root);
    }
}

static void test_grids(void **state) {
    (void)state;
    json_t *root = golden_json("tiling.json"), *item;
    size_t i;
    assert_true(json_array_size(root) > 0);
    json_array_foreach(root, i, item) {
        int width, height, tile, columns, rows;
        assert_int_equal(json_unpack(item, "{s:i, s:i, s:i, s:[i,i]}", "width", &width, "height",
                                     &height, "tile", &tile, "grid", &columns, &rows),
                         0);
        ViewPlan plan;
        OcrError err;
        OcrMode mode = tile == 640 ? OCR_MODE_GUNDAM : OCR_MODE_GUNDAM_M;
        assert_ok(views_plan(mode, width, height, &plan, &err), &err);
        if (plan.tile_size != tile || plan.columns != columns || plan.rows != rows)
            fail_msg("%d x %d: %d x %d tiles of %d, expected %d x %d of %d", width, height,
                     plan.columns, plan.rows, plan.tile_size, columns, rows, tile);
    }
    json_decref(root);
}

/* Spec 2.1: the table and its examples. */
static void test_counts(void **state) {
    (void)state;
    const struct {
        OcrMode mode;
        int width, height, global_size, tokens, slots;
    } rows[] = {
        {OCR_MODE_TINY, 3000, 2000, 512, 64, 73},
        {OCR_MODE_SMALL, 3000, 2000, 640, 100, 111},
        {OCR_MODE_BASE, 3000, 2000, 1024, 256, 273},
        {OCR_MODE_LARGE, 3000, 2000, 1280, 400, 421},
        {OCR_MODE_GUNDAM, 640, 640, 1024, 256, 273},
        {OCR_MODE_GUNDAM, 3000, 2000, 1024, 856, 893},   /* 3 x 2 */
        {OCR_MODE_GUNDAM, 2000, 2000, 1024, 1156, 1203}, /* 3 x 3 */
        {OCR_MODE_GUNDAM, 700, 1400, 1024, 456, 493},    /* 1 x 2 */
        {OCR_MODE_GUNDAM, 1400, 700, 1024, 456, 483},    /* 2 x 1 */
        {OCR_MODE_GUNDAM_M, 640, 640, 1280, 400, 421},
        {OCR_MODE_GUNDAM_M, 3000, 2000, 1280, 1936, 1989}, /* 3 x 2 */
        {OCR_MODE_GUNDAM_M, 300, 3000, 1280, 2704, 2869},  /* 1 x 9 */
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        ViewPlan plan = plan_of(rows[i].mode, rows[i].width, rows[i].height);
        assert_int_equal(plan.global_size, rows[i].global_size);
        assert_int_equal(views_token_count(&plan), rows[i].tokens);
        assert_int_equal(views_slot_count(&plan), rows[i].slots);
    }
}

/* Where a white picture lies in its padded view: grey 127 around it, never in it. */
static void check_padding(int width, int height, int left, int top, int right, int bottom) {
    RgbImage image = {malloc((size_t)width * (size_t)height * 3), width, height};
    memset(image.pixels, 255, (size_t)width * (size_t)height * 3);
    ViewPlan plan = plan_of(OCR_MODE_BASE, width, height);
    assert_int_equal(views_bytes(&plan), 1024 * 1024 * 3);
    uint8_t *view = make(&plan, &image, pools[0]);
    for (int y = 0; y < 1024; y++)
        for (int x = 0; x < 1024; x++) {
            bool inside = x >= left && x < 1024 - right && y >= top && y < 1024 - bottom;
            for (int c = 0; c < 3; c++)
                if (view[(y * 1024 + x) * 3 + c] != (inside ? 255 : 127))
                    fail_msg("%d x %d: %d at %d, %d", width, height, view[(y * 1024 + x) * 3 + c],
                             x, y);
        }
    free(view);
    free(image.pixels);
}

static void test_padding(void **state) {
    (void)state;
    check_padding(300, 300, 0, 0, 0, 0);
    check_padding(1024, 1023, 0, 0, 0, 1); /* half a pixel: to the even 0 */
    check_padding(1024, 1021, 0, 2, 0, 1); /* one and a half: to the even 2 */
    check_padding(1021, 1024, 2, 0, 1, 0);
    check_padding(400, 200, 0, 256, 0, 256);
    check_padding(200, 400, 256, 0, 256, 0);
    check_padding(2000, 1, 0, 512, 0, 511); /* 0.512 of a pixel: 1 */
    check_padding(1999, 1999, 0, 0, 0, 0);
    check_padding(4096, 4095, 0, 0, 0, 0); /* 1023.75 */
}

static void test_too_narrow(void **state) {
    (void)state;
    const OcrMode padded[] = {OCR_MODE_BASE, OCR_MODE_LARGE, OCR_MODE_GUNDAM, OCR_MODE_GUNDAM_M};
    for (int i = 0; i < 4; i++) {
        ViewPlan plan;
        OcrError err;
        int size = padded[i] == OCR_MODE_BASE || padded[i] == OCR_MODE_GUNDAM ? 1024 : 1280;
        plan_of(padded[i], 2 * size - 1, 1); /* just above half a pixel */
        plan_of(padded[i], 1, 2 * size - 1);
        assert_fails(views_plan(padded[i], 2 * size, 1, &plan, &err), &err, OCR_IMAGE_ASPECT,
                     "too narrow"); /* half a pixel, to the even 0 */
        assert_fails(views_plan(padded[i], 1, 2 * size, &plan, &err), &err, OCR_IMAGE_ASPECT,
                     "too narrow");
        assert_fails(views_plan(padded[i], 1000000, 2, &plan, &err), &err, OCR_IMAGE_ASPECT,
                     "1000000 x 2");
    }
    plan_of(OCR_MODE_TINY, 1000000, 1); /* squashed, every picture fits */
    plan_of(OCR_MODE_SMALL, 1, 1000000);
}

static void test_extreme_sizes(void **state) {
    (void)state;
    const int sizes[][2] = {{1, 1}, {1, 700}, {3000, 2}, {641, 1}};
    for (int i = 0; i < 4; i++)
        for (int mode = OCR_MODE_TINY; mode < OCR_MODE_COUNT; mode++) {
            ViewPlan plan;
            OcrError err;
            if (views_plan((OcrMode)mode, sizes[i][0], sizes[i][1], &plan, &err) != OCR_OK)
                continue;
            RgbImage image = {noise(5, sizes[i][0], sizes[i][1], 3), sizes[i][0], sizes[i][1]};
            free(make(&plan, &image, pools[1]));
            free(image.pixels);
        }
}

/* Copy between a picture and a grid of tiles, row by row of them. */
static void copy_tiles(const ViewPlan *plan, uint8_t *tiles, RgbImage whole, bool cut) {
    size_t bytes = (size_t)plan->tile_size * 3;
    for (int y = 0; y < whole.height; y++)
        for (int column = 0; column < plan->columns; column++) {
            int i = y / plan->tile_size * plan->columns + column;
            uint8_t *tile =
                tiles +
                ((size_t)i * (size_t)plan->tile_size + (size_t)(y % plan->tile_size)) * bytes;
            uint8_t *row = whole.pixels + (size_t)(y * plan->columns + column) * bytes;
            memcpy(cut ? tile : row, cut ? row : tile, bytes);
        }
}

/* A quarter to the right, pixel by pixel. */
static void turn_picture(const RgbImage *image, uint8_t *out) {
    for (int y = 0; y < image->height; y++)
        for (int x = 0; x < image->width; x++)
            memcpy(out + 3 * (x * image->height + image->height - 1 - y),
                   image->pixels + 3 * (y * image->width + x), 3);
}

/* malloc'ed: the views of a picture put together, turned, and cut again. */
static uint8_t *turned_views(const ViewPlan *plan, const ViewPlan *turned, uint8_t *views) {
    uint8_t *out = malloc(views_bytes(plan)), *whole = malloc(views_bytes(plan));
    uint8_t *whole_turned = malloc(views_bytes(plan));
    int width = plan->columns * plan->tile_size, height = plan->rows * plan->tile_size, size;
    if (view_tiles(plan) > 0) {
        RgbImage image = {whole, width, height};
        copy_tiles(plan, views, image, false);
        turn_picture(&image, whole_turned);
        copy_tiles(turned, out, (RgbImage){whole_turned, height, width}, true);
    }
    const uint8_t *global = views_at(plan, views, view_tiles(plan), &size);
    RgbImage image = {views + (global - views), size, size};
    turn_picture(&image, out + (global - views));
    free(whole);
    free(whole_turned);
    return out;
}

static void test_turn(void **state) {
    (void)state;
    static const struct {
        OcrMode mode;
        int width, height, columns, rows;
    } cases[] = {{OCR_MODE_TINY, 300, 200, 1, 1},       {OCR_MODE_LARGE, 640, 1280, 1, 1},
                 {OCR_MODE_GUNDAM, 640, 320, 1, 1},     {OCR_MODE_GUNDAM, 1280, 640, 2, 1},
                 {OCR_MODE_GUNDAM, 1280, 1920, 2, 3},   {OCR_MODE_GUNDAM, 320, 1600, 1, 5},
                 {OCR_MODE_GUNDAM_M, 2048, 2048, 2, 2}, {OCR_MODE_GUNDAM_M, 3072, 1024, 3, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        RgbImage image = {noise(i, cases[i].width, cases[i].height, 3), cases[i].width,
                          cases[i].height};
        ViewPlan plan = plan_of(cases[i].mode, cases[i].width, cases[i].height);
        assert_int_equal(plan.columns, cases[i].columns);
        assert_int_equal(plan.rows, cases[i].rows);
        uint8_t *views = make(&plan, &image, pools[0]);
        for (int quarter = 1; quarter <= 4; quarter++) {
            ViewPlan turned = plan;
            turned.columns = plan.rows;
            turned.rows = plan.columns;
            uint8_t *expected = turned_views(&plan, &turned, views);
            views_turn(&plan, pools[quarter % 2], views);
            assert_memory_equal(views, expected, views_bytes(&plan));
            free(expected);
            plan = turned;
        }
        uint8_t *again = make(&plan, &image, pools[0]);
        assert_memory_equal(views, again, views_bytes(&plan));
        free(again);
        free(views);
        free(image.pixels);
    }
}

static bool always(void) {
    return true;
}

static void test_interrupt(void **state) {
    (void)state;
    RgbImage image = {noise(6, 900, 700, 3), 900, 700};
    ViewPlan plan = plan_of(OCR_MODE_GUNDAM, 900, 700);
    void *scratch = malloc(views_scratch_bytes(&plan, 900, 700));
    uint8_t *views = malloc(views_bytes(&plan));
    OcrError err;
    pool_watch(pools[1], always);
    assert_fails(views_make(&plan, &image, pools[1], scratch, views, &err), &err, OCR_INTERRUPTED,
                 "interrupted");
    pool_watch(pools[1], NULL);
    free(scratch);
    free(views);
    free(image.pixels);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_goldens),    cmocka_unit_test(test_grids),
        cmocka_unit_test(test_counts),     cmocka_unit_test(test_padding),
        cmocka_unit_test(test_too_narrow), cmocka_unit_test(test_extreme_sizes),
        cmocka_unit_test(test_interrupt),  cmocka_unit_test(test_zoom),
        cmocka_unit_test(test_turn),
    };
    return cmocka_run_group_tests(tests, start_pools, stop_pools);
}
