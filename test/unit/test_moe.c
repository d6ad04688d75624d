/* The choice of experts. */
#include "support.h"

#include "decoder/moe.h"

#include <math.h>

static void best_come_first(void **state) {
    (void)state;
    const float p[] = {0.1f, 0.3f, 0.05f, 0.3f, 0.25f};
    int out[5];
    top_k(p, 5, 3, out);
    assert_int_equal(out[0], 1); /* the lower index wins a tie */
    assert_int_equal(out[1], 3);
    assert_int_equal(out[2], 4);
    top_k(p, 5, 5, out);
    assert_int_equal(out[3], 0);
    assert_int_equal(out[4], 2);
}

/* Whatever the numbers are, the indices can be used. */
static void choices_are_always_valid(void **state) {
    (void)state;
    static const float odd[] = {NAN, INFINITY, -INFINITY, 0, 1};
    uint64_t random = 2;
    for (int round = 0; round < 1000; round++) {
        float p[12];
        int out[12], count = random_between(&random, 1, 12), k = random_between(&random, 1, count);
        bool seen[12] = {false};
        for (int i = 0; i < count; i++)
            p[i] = odd[random_between(&random, 0, 4)];
        top_k(p, count, k, out);
        for (int i = 0; i < k; i++) {
            assert_in_range(out[i], 0, count - 1);
            assert_false(seen[out[i]]);
            seen[out[i]] = true;
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(best_come_first),
        cmocka_unit_test(choices_are_always_valid),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
