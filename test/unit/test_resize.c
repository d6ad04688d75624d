/* resize.c against the definition of spec 2.3, written out plainly. */
#include "support.h"

#include "pictures.h"
#include "vision/resize.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static double kernel(double x) {
    x = fabs(x);
    return x < 1 ? ((1.5 * x - 2.5) * x) * x + 1 : x < 2 ? (((x - 5) * x + 8) * x - 4) * -0.5 : 0;
}

/* Sample i of m, from n samples that lie `stride` bytes apart. */
static uint8_t plain_sample(const uint8_t *in, int n, size_t stride, int m, int i) {
    double scale = (double)n / m, fs = scale > 1 ? scale : 1, support = 2 * fs;
    double c = (i + 0.5) * scale;
    int lo = (int)trunc(c - support + 0.5), hi = (int)trunc(c + support + 0.5);
    lo = lo < 0 ? 0 : lo;
    hi = hi > n ? n : hi;
    double total = 0;
    for (int j = lo; j < hi; j++)
        total += kernel((j - c + 0.5) * (1 / fs));
    int64_t sum = 1 << 21;
    for (int j = lo; j < hi; j++) {
        double k = kernel((j - c + 0.5) * (1 / fs)) / total;
        sum += (int64_t)trunc(k * 4194304 + (k < 0 ? -0.5 : 0.5)) * in[(size_t)j * stride];
    }
    sum >>= 22;
    return (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
}

/* [out_height][out_width][3]; a pass that changes nothing is left out. */
static uint8_t *plain_resize(const RgbImage *image, int out_width, int out_height) {
    int w = image->width, h = image->height;
    uint8_t *between = malloc((size_t)out_width * (size_t)h * 3);
    uint8_t *out = malloc((size_t)out_width * (size_t)out_height * 3);
    for (int y = 0; y < h; y++)
        for (int x = 0; x < out_width; x++)
            for (int c = 0; c < 3; c++) {
                const uint8_t *row = image->pixels + (size_t)y * (size_t)w * 3 + c;
                between[((size_t)y * (size_t)out_width + (size_t)x) * 3 + (size_t)c] =
                    w == out_width ? row[3 * x] : plain_sample(row, w, 3, out_width, x);
            }
    size_t row_bytes = (size_t)out_width * 3;
    for (int y = 0; y < out_height; y++)
        for (size_t x = 0; x < row_bytes; x++)
            out[(size_t)y * row_bytes + x] =
                h == out_height ? between[(size_t)y * row_bytes + x]
                                : plain_sample(between + x, h, row_bytes, out_height, y);
    free(between);
    return out;
}

static ResizeTarget whole(int width, int height, uint8_t *pixels) {
    return (ResizeTarget){pixels, 1, 1, width, height, (size_t)width * 3, 0};
}

/* Scratch at an odd address and of exactly the size asked for. */
static void run(const RgbImage *image, const ResizeTarget *target, OcrPool *pool) {
    OcrError err;
    uint8_t *scratch = malloc(resize_scratch_bytes(image->width, image->height, target) + 1);
    assert_ok(resize(image, target, pool, scratch + 1, &err), &err);
    free(scratch);
}

static void check(int width, int height, int out_width, int out_height) {
    RgbImage image = {noise((uint64_t)(width * 10007 + height), width, height, 3), width, height};
    uint8_t *expected = plain_resize(&image, out_width, out_height);
    size_t size = (size_t)out_width * (size_t)out_height * 3;
    for (int i = 0; i < 2; i++) {
        uint8_t *out = malloc(size);
        ResizeTarget target = whole(out_width, out_height, out);
        run(&image, &target, pools[i]);
        if (memcmp(out, expected, size) != 0)
            fail_msg("%d x %d to %d x %d differs", width, height, out_width, out_height);
        free(out);
    }
    free(expected);
    free(image.pixels);
}

static void test_random_sizes(void **state) {
    (void)state;
    uint64_t seed = 1;
    for (int i = 0; i < 60; i++)
        check(random_between(&seed, 1, 120), random_between(&seed, 1, 120),
              random_between(&seed, 1, 120), random_between(&seed, 1, 120));
}

/* Sides that stay, vanish almost, come out of one pixel, or span several bands. */
static void test_edges(void **state) {
    (void)state;
    check(50, 40, 50, 40);
    check(50, 40, 50, 17);
    check(50, 40, 17, 40);
    check(1, 1, 30, 20);
    check(30, 20, 1, 1);
    check(2, 3, 40, 1);
    check(7, 2000, 5, 30);
    check(7, 2000, 5, 1);
    check(7, 2000, 5, 1999);
    check(3, 700, 4, 900);
    check(2000, 7, 30, 5);
    check(300, 3, 200, 4); /* rows longer than the blocks in which they are blended */
}

/* Whatever the size, a picture of one colour keeps it. */
static void test_flat(void **state) {
    (void)state;
    uint64_t seed = 2;
    for (int i = 0; i < 200; i++) {
        int width = random_between(&seed, 1, 90), height = random_between(&seed, 1, 90);
        int out_width = random_between(&seed, 1, 90), out_height = random_between(&seed, 1, 90);
        uint8_t *pixels = malloc((size_t)(width * height * 3));
        uint8_t *out = malloc((size_t)(out_width * out_height * 3));
        memset(pixels, i == 0 ? 255 : i, (size_t)(width * height * 3));
        RgbImage image = {pixels, width, height};
        ResizeTarget target = whole(out_width, out_height, out);
        run(&image, &target, pools[0]);
        for (int j = 0; j < out_width * out_height * 3; j++)
            assert_int_equal(out[j], pixels[0]);
        free(pixels);
        free(out);
    }
}

/* Panels hold what cutting the whole picture up would give, and the gaps stay untouched. */
static void test_panels(void **state) {
    (void)state;
    enum { COLUMNS = 3, ROWS = 2, WIDTH = 20, HEIGHT = 15, GAP = 7, ROW = WIDTH * 3 + GAP };
    enum { PANEL = ROW * HEIGHT + GAP };
    RgbImage image = {noise(3, 77, 50, 3), 77, 50};
    uint8_t *expected = plain_resize(&image, COLUMNS * WIDTH, ROWS * HEIGHT);
    uint8_t *out = malloc(COLUMNS * ROWS * PANEL);
    memset(out, 0xA5, COLUMNS * ROWS * PANEL);
    ResizeTarget target = {out, COLUMNS, ROWS, WIDTH, HEIGHT, ROW, PANEL};
    run(&image, &target, pools[1]);
    for (int panel = 0; panel < COLUMNS * ROWS; panel++)
        for (int y = 0; y < HEIGHT; y++) {
            const uint8_t *row = out + panel * PANEL + y * ROW;
            int top = panel / COLUMNS * HEIGHT + y, left = panel % COLUMNS * WIDTH;
            assert_memory_equal(row, expected + (top * COLUMNS * WIDTH + left) * 3, WIDTH * 3);
            for (int i = 0; i < GAP; i++)
                assert_int_equal(row[WIDTH * 3 + i], 0xA5);
        }
    free(out);
    free(expected);
    free(image.pixels);
}

/* Some rows of the result and the weights, not a picture. */
static void test_scratch(void **state) {
    (void)state;
    ResizeTarget target = whole(1024, 1024, NULL);
    assert_true(resize_scratch_bytes(10000, 10000, &target) < 2 << 20);
    target = whole(512, 512, NULL);
    assert_true(resize_scratch_bytes(100, 1000000, &target) < 40 << 20);
    assert_true(resize_scratch_bytes(1000000, 100, &target) < 40 << 20);
}

static int polls_left;

static bool count_down(void) {
    return polls_left-- <= 0;
}

static void test_interrupts(void **state) {
    (void)state;
    RgbImage image = {noise(4, 60, 700, 3), 60, 700};
    uint8_t out[50 * 100 * 3];
    ResizeTarget target = whole(50, 100, out);
    void *scratch = malloc(resize_scratch_bytes(60, 700, &target));
    OcrError err;
    for (int polls = 0; polls < 900; polls += 30) { /* 50 + 100 + 700 + 100 chunks */
        polls_left = polls;
        pool_watch(pools[0], count_down);
        assert_fails(resize(&image, &target, pools[0], scratch, &err), &err, OCR_INTERRUPTED,
                     "interrupted");
    }
    pool_watch(pools[0], NULL);
    free(scratch);
    free(image.pixels);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_sizes), cmocka_unit_test(test_edges),
        cmocka_unit_test(test_flat),         cmocka_unit_test(test_panels),
        cmocka_unit_test(test_scratch),      cmocka_unit_test(test_interrupts),
    };
    return cmocka_run_group_tests(tests, start_pools, stop_pools);
}
