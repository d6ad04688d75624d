/* Rows in 8 and 4 bits: how far they are off, at block ends and for odd values. */
#include "support.h"

#include "kernels/convert.h"
#include "kernels/quant.h"

#include <math.h>

#define MOST 300

static float x[MOST], back[MOST];
static uint16_t scales[MOST];

static float largest(int first, int end) {
    float most = 0;
    for (int i = first; i < end; i++)
        most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
    return most;
}

/* At most `part` of the block's largest value off, and 1/256 of it for rounding the scale to bf16.
 */
static void assert_close(int columns, int block, float part) {
    for (int i = 0; i < columns; i++) {
        int first = i / block * block, end = first + block < columns ? first + block : columns;
        assert_true(fabsf(x[i] - back[i]) <= largest(first, end) * (part + 1.0f / 256));
    }
}

static void rows_come_back(void **state) {
    (void)state;
    uint64_t random = 4;
    for (int columns = 1; columns <= MOST; columns++) {
        int8_t q8[MOST];
        uint8_t q4[MOST];
        for (int i = 0; i < columns; i++)
            x[i] = (float)random_between(&random, -100000, 100000) / 1e6f;
        quantize_q8(x, columns, q8, scales);
        dequantize_q8(q8, scales, 0, columns, back);
        assert_close(columns, Q8_BLOCK, 0.5f / 127);
        quantize_q4(x, columns, q4, scales);
        dequantize_q4(q4, scales, 0, columns, back);
        /* Half a step, or a whole one at the end that has no twin. */
        assert_close(columns, Q4_BLOCK, 1.0f / 8);
        /* From the middle, the values are the same. */
        if (columns > Q4_BLOCK) {
            float part[MOST];
            dequantize_q4(q4, scales, Q4_BLOCK, columns - Q4_BLOCK, part);
            assert_memory_equal(part, back + Q4_BLOCK, (size_t)(columns - Q4_BLOCK) * sizeof *part);
        }
    }
}

static void zeros_stay_zeros(void **state) {
    (void)state;
    int8_t q8[100];
    uint8_t q4[64];
    for (int i = 0; i < 100; i++)
        x[i] = 0;
    quantize_q8(x, 100, q8, scales);
    dequantize_q8(q8, scales, 0, 100, back);
    for (int i = 0; i < 100; i++)
        assert_true(back[i] == 0);
    quantize_q4(x, 100, q4, scales);
    dequantize_q4(q4, scales, 0, 100, back);
    for (int i = 0; i < 100; i++)
        assert_true(back[i] == 0);
    /* The padding of a short last block counts for nothing too. */
    assert_int_equal(q4_row_bytes(100), 64);
    assert_int_equal(q4[63], 0x88);
}

static void extremes_are_kept(void **state) {
    (void)state;
    static const float values[] = {1, -1, 3e38f, -3e38f, 1e-38f, 1e-44f};
    for (int i = 0; i < 6; i++) {
        int8_t q8[1];
        uint8_t q4[16];
        x[0] = values[i];
        quantize_q8(x, 1, q8, scales);
        dequantize_q8(q8, scales, 0, 1, back);
        assert_true(isfinite(back[0]) && fabsf(back[0] - x[0]) <= fabsf(x[0]) / 200 + 1e-38f);
        quantize_q4(x, 1, q4, scales);
        dequantize_q4(q4, scales, 0, 1, back);
        assert_true(isfinite(back[0]) && fabsf(back[0] - x[0]) <= fabsf(x[0]) / 200 + 1e-38f);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_come_back),
        cmocka_unit_test(zeros_stay_zeros),
        cmocka_unit_test(extremes_are_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
