/* How sure the model is of a text, and where it is given up. */
#include "support.h"

#include "decoder/confidence.h"

#include <math.h>

/* So many ids of this probability, or those up to the one that ends the text; returns how many. */
static int add(Confidence *confidence, double probability, int count) {
    for (int i = 1; i <= count; i++)
        if (confidence_add(confidence, log(probability)))
            return i;
    return count;
}

static void mean_is_geometric(void **state) {
    (void)state;
    Confidence c = confidence_begin(0);
    assert_true(confidence_mean(&c) == 1);
    add(&c, 0.8, 1);
    add(&c, 0.2, 1);
    assert_true(fabs(confidence_mean(&c) - 0.4) < 1e-12);
    c = confidence_begin(0.3);
    assert_false(confidence_is_low(&c));
    add(&c, 0.9, 1);
    add(&c, 0.09, 1); /* .285 together */
    assert_true(confidence_is_low(&c));
    add(&c, 0.9, 1);
    assert_false(confidence_is_low(&c));
}

static void a_floor_of_nothing_ends_nothing(void **state) {
    (void)state;
    Confidence c = confidence_begin(0);
    assert_int_equal(add(&c, 0, 1000), 1000);
    assert_false(confidence_is_low(&c));
    assert_true(confidence_mean(&c) == 0);
}

static void doubt_ends_a_text_where_it_began(void **state) {
    (void)state;
    /* log(.4 / .1) is 1.386; the 73rd brings it above 100. */
    Confidence c = confidence_begin(0.4);
    assert_int_equal(add(&c, 0.9, 50), 50);
    assert_int_equal(add(&c, 0.1, 500), 73);
    assert_int_equal(confidence_sure(&c), 50);

    /* From the first id on. */
    c = confidence_begin(0.4);
    assert_int_equal(add(&c, 0.1, 500), 73);
    assert_int_equal(confidence_sure(&c), 0);

    /* log(.9 / .4) is .811: 24 ids are no text, 25 are. */
    c = confidence_begin(0.4);
    add(&c, 0.9, 24);
    add(&c, 0.1, 500);
    assert_int_equal(confidence_sure(&c), 0);
    c = confidence_begin(0.4);
    add(&c, 0.9, 25);
    add(&c, 0.1, 500);
    assert_int_equal(confidence_sure(&c), 25);

    /* With a higher floor, too, a text of 200 is kept. */
    c = confidence_begin(0.9);
    add(&c, 0.97, 200);
    add(&c, 0.1, 500);
    assert_int_equal(confidence_sure(&c), 200);
}

static void doubt_passes(void **state) {
    (void)state;
    /* A bad stretch among good ones: two of .9 make up for one of .1. */
    Confidence c = confidence_begin(0.4);
    assert_int_equal(add(&c, 0.9, 50), 50);
    assert_int_equal(add(&c, 0.1, 70), 70);
    assert_int_equal(add(&c, 0.9, 140), 140);
    assert_true(c.sure > 120);
    assert_int_equal(add(&c, 0.1, 70), 70);
    c = confidence_begin(0.4);
    for (int i = 0; i < 10000; i++) {
        assert_int_equal(add(&c, 0.1, 1) + add(&c, 0.9, 2), 3);
        assert_int_equal(c.sure, c.count);
    }
}

static void no_single_id_is_a_stretch(void **state) {
    (void)state;
    Confidence c = confidence_begin(0.4);
    assert_int_equal(add(&c, 0, 20), 12); /* 9.08 each */
    assert_int_equal(confidence_sure(&c), 0);
    assert_true(confidence_mean(&c) == 0);

    /* Nor makes one a long text low. */
    c = confidence_begin(0.4);
    add(&c, 0.9, 60);
    add(&c, 0, 3);
    assert_false(confidence_is_low(&c));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mean_is_geometric),
        cmocka_unit_test(a_floor_of_nothing_ends_nothing),
        cmocka_unit_test(doubt_ends_a_text_where_it_began),
        cmocka_unit_test(doubt_passes),
        cmocka_unit_test(no_single_id_is_a_stretch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
