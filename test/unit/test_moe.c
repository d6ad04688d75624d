/* The choice of experts. */
#include "support.h"

#include "decoder/moe.h"

#include <math.h>
#include <stdlib.h>
#include <time.h>

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

/* The best of those that are left, again and again. */
static void choose_slowly(const float *p, int count, int k, int *out) {
    bool taken[64] = {false};
    for (int i = 0; i < k; i++) {
        out[i] = -1;
        for (int c = 0; c < count; c++)
            if (!taken[c] && (out[i] < 0 || p[c] > p[out[i]]))
                out[i] = c;
        taken[out[i]] = true;
    }
}

static void choices_are_those_of_a_search(void **state) {
    (void)state;
    uint64_t random = 3;
    for (int round = 0; round < 1000; round++) {
        float p[64];
        int out[64], expected[64];
        int count = random_between(&random, 1, 64), k = random_between(&random, 1, count);
        for (int i = 0; i < count; i++)
            p[i] = (float)random_between(&random, 0, 40); /* some of them equal */
        top_k(p, count, k, out);
        choose_slowly(p, count, k, expected);
        assert_memory_equal(out, expected, (size_t)k * sizeof *out);
    }
}

/* As many rows as a prompt has, of a model with as many experts as one may have. */
static void choosing_takes_no_time(void **state) {
    (void)state;
    enum { EXPERTS = 4096, CHOSEN = 64, ROWS = 500 };
    float *p = malloc(EXPERTS * sizeof *p);
    int out[CHOSEN];
    uint64_t random = 4;
    for (int i = 0; i < EXPERTS; i++)
        p[i] = (float)random_between(&random, 0, 1 << 24);
    clock_t begin = clock();
    for (int row = 0; row < ROWS; row++)
        top_k(p, EXPERTS, CHOSEN, out);
    assert_true(clock() - begin < CLOCKS_PER_SEC);
    free(p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(best_come_first),
        cmocka_unit_test(choices_are_always_valid),
        cmocka_unit_test(choices_are_those_of_a_search),
        cmocka_unit_test(choosing_takes_no_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
