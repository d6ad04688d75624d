/* The ban on repeated n-grams, and what counts as a loop. */
#include "support.h"

#include "decoder/ngram.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define VOCABULARY 64
#define MAX_IDS 4096

static int ids[MAX_IDS];

/* Which ids the rule bans after ids[count]; the others' logits must stay. */
static int banned_ids(const NgramRule *rule, int count, bool banned[VOCABULARY]) {
    float logits[VOCABULARY];
    for (int id = 0; id < VOCABULARY; id++)
        logits[id] = (float)id;
    int number = ngram_ban(rule, ids, count, logits, VOCABULARY);
    for (int id = 0; id < VOCABULARY; id++) {
        banned[id] = logits[id] == -INFINITY;
        assert_true(banned[id] || logits[id] == (float)id);
    }
    return number;
}

/* ---- the ban ---- */

static int read_ids(const json_t *list, int *out) {
    size_t i;
    const json_t *value;
    json_array_foreach(list, i, value) out[i] = (int)json_integer_value(value);
    return (int)json_array_size(list);
}

static void goldens_are_equal(void **state) {
    (void)state;
    json_t *cases = golden_json("ngram.json");
    size_t i;
    const json_t *one;
    assert_true(json_array_size(cases) > 20);
    json_array_foreach(cases, i, one) {
        int whitelist[VOCABULARY], expected[VOCABULARY];
        bool banned[VOCABULARY];
        NgramRule rule = {.size = (int)json_integer_value(json_object_get(one, "n")),
                          .window = (int)json_integer_value(json_object_get(one, "window")),
                          .whitelist = whitelist};
        rule.whitelist_count = read_ids(json_object_get(one, "whitelist"), whitelist);
        int count = read_ids(json_object_get(one, "ids"), ids);
        int expected_count = read_ids(json_object_get(one, "banned"), expected);
        assert_int_equal(banned_ids(&rule, count, banned), expected_count);
        for (int k = 0; k < expected_count; k++)
            assert_true(banned[expected[k]]);
    }
    json_decref(cases);
}

/* The rule as it is written: would this id make the last n ids equal to n earlier ones? */
static bool repeats(const NgramRule *rule, int count, int id) {
    int begin = rule->window > 0 && rule->window < count ? count - rule->window : 0;
    for (int i = begin; i + rule->size <= count; i++) {
        bool equal = ids[i + rule->size - 1] == id;
        for (int k = 0; k < rule->size - 1; k++)
            equal = equal && ids[i + k] == ids[count - rule->size + 1 + k];
        if (equal)
            return true;
    }
    return false;
}

static void random_sequences_follow_the_rule(void **state) {
    (void)state;
    uint64_t random = 3;
    int total = 0;
    for (int round = 0; round < 3000; round++) {
        int whitelist[] = {random_between(&random, 0, 4)};
        NgramRule rule = {.size = random_between(&random, 0, 5),
                          .window = random_between(&random, 0, 30),
                          .whitelist = whitelist,
                          .whitelist_count = random_between(&random, 0, 1)};
        int count = random_between(&random, 0, 60), letters = random_between(&random, 1, 5);
        bool banned[VOCABULARY];
        for (int i = 0; i < count; i++)
            ids[i] = random_between(&random, 0, letters - 1);
        int number = banned_ids(&rule, count, banned), expected = 0;
        for (int id = 0; id < VOCABULARY; id++) {
            bool listed = rule.whitelist_count > 0 && whitelist[0] == id;
            bool should =
                rule.size > 0 && count >= rule.size && !listed && repeats(&rule, count, id);
            assert_int_equal(banned[id], should);
            expected += should;
        }
        assert_int_equal(number, expected);
        total += number;
    }
    assert_true(total > 1000);
}

/* ---- loops ---- */

/* Ids of text that never repeats itself: base-40 digits of the numbers from start on. */
static int append_prose(int count, int tokens, int start) {
    for (int i = 0; i < tokens; i++) {
        int number = start + i / 3;
        ids[count++] = 10 + (i % 3 == 0 ? number % 40 : i % 3 == 1 ? number / 40 % 40 : 1 + i % 2);
    }
    return count;
}

static int append_phrase(int count, int period, int tokens) {
    for (int i = 0; i < tokens; i++)
        ids[count++] = i % period;
    return count;
}

static void loops_are_found_with_their_period(void **state) {
    (void)state;
    static const int periods[] = {1, 2, 3, 7, 20, 54, 100, 255, 256};
    for (size_t k = 0; k < sizeof periods / sizeof *periods; k++) {
        int period = periods[k], count = append_prose(0, 300, 0), found = 0, needed = 0;
        /* As it happens: one more id at each call. */
        for (int i = 0; i < 2500 && !found; i++) {
            ids[count++] = i % period;
            found = loop_period(ids, count);
            needed = i + 1;
        }
        assert_int_equal(found, period);
        assert_in_range(needed, 389, 1700);
        assert_true(needed >= 6 * period);
    }
}

static void loops_without_anything_before_are_found(void **state) {
    (void)state;
    int count = append_phrase(0, 4, 1000);
    assert_int_equal(loop_period(ids, count), 4);
    assert_int_equal(loop_period(ids, 0), 0);
}

static void prose_is_no_loop(void **state) {
    (void)state;
    for (int count = 0; count <= 4000; count += 7)
        assert_int_equal(loop_period(ids, append_prose(0, count, 0)), 0);
}

/* Lines of a table of contents: a title, 60 to 160 dots, a number. */
static void dot_leaders_are_no_loop(void **state) {
    (void)state;
    int count = 0;
    for (int line = 0; line < 20; line++) {
        count = append_prose(count, 15, 50 * line);
        count = append_phrase(count, 1, 60 + 5 * line);
        assert_int_equal(loop_period(ids, count), 0);
    }
}

/* count equal rows of so many tokens between two pieces of other text. */
static void check_rows(int tokens, int rows, bool is_loop) {
    int count = append_prose(0, 200, 0);
    count = append_phrase(count, tokens, tokens * rows);
    assert_int_equal(loop_period(ids, count), is_loop ? tokens : 0);
    count = append_prose(count, 30, 900);
    assert_int_equal(loop_period(ids, count), 0);
}

static void some_equal_rows_are_no_loop(void **state) {
    (void)state;
    check_rows(12, 25, false); /* empty rows of five cells, <td> being one token */
    check_rows(54, 10, false); /* the same rows by single characters */
    check_rows(81, 8, false);  /* ruled lines by single characters */
    check_rows(1, 200, false); /* one long rule */
    check_rows(200, 5, false); /* a paragraph */
    check_rows(12, 100, true);
    check_rows(54, 30, true);
    check_rows(1, 600, true);
    check_rows(200, 10, true);
}

/* A model that says one phrase for ever, and the ban: what id comes next? */
static int next_in_loop(const NgramRule *rule, int count, int period, bool *overruled) {
    float logits[VOCABULARY];
    int wanted = ids[count - 1] < period ? (ids[count - 1] + 1) % period : 0;
    for (int id = 0; id < VOCABULARY; id++)
        logits[id] = (float)((id + count * 7) % VOCABULARY); /* the second choice wanders */
    logits[wanted] = 1000;
    ngram_ban(rule, ids, count, logits, VOCABULARY);
    *overruled = logits[wanted] == -INFINITY;
    for (int id = 0; id < VOCABULARY; id++)
        if (logits[id] > logits[wanted])
            wanted = id;
    return wanted;
}

static void loops_that_the_ban_perturbs_are_found(void **state) {
    (void)state;
    static const int periods[] = {1, 3, 8, 15, 30};
    static const int sizes[] = {10, 20, 35, 96};
    for (size_t p = 0; p < 5; p++)
        for (size_t n = 0; n < 4; n++) {
            NgramRule rule = {.size = sizes[n]};
            Overruled overruled = {0};
            int before = append_prose(0, 300, 0), count = before, first = 0;
            while (!first && count < 3500) {
                bool banned;
                ids[count] = next_in_loop(&rule, count, periods[p], &banned);
                first = banned ? loop_overruled(&overruled, &rule, count) : 0;
                count++;
            }
            assert_in_range(first, before, before + 2 * periods[p] + 1);
            assert_true(count - before > OVERRULED_PLACES - 1);
        }
}

/* The ban acts on each of 200 equal rows, but between them there is other text. */
static void a_ban_now_and_then_is_no_loop(void **state) {
    (void)state;
    NgramRule rule = {.size = 20};
    Overruled overruled = {0};
    for (int row = 0; row < 200; row++)
        assert_int_equal(loop_overruled(&overruled, &rule, 1000 + 31 * row), 0);
    Overruled often = {0};
    NgramRule brief = {.size = 9}; /* too short to tell a loop */
    for (int i = 0; i < 200; i++)
        assert_int_equal(loop_overruled(&often, &brief, 1000 + 9 * i), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(goldens_are_equal),
        cmocka_unit_test(random_sequences_follow_the_rule),
        cmocka_unit_test(loops_are_found_with_their_period),
        cmocka_unit_test(loops_without_anything_before_are_found),
        cmocka_unit_test(prose_is_no_loop),
        cmocka_unit_test(dot_leaders_are_no_loop),
        cmocka_unit_test(loops_that_the_ban_perturbs_are_found),
        cmocka_unit_test(a_ban_now_and_then_is_no_loop),
        cmocka_unit_test(some_equal_rows_are_no_loop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
