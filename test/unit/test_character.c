/* UTF-8 against its definition: well formed is what utf8_write writes, and nothing else. */
#include "support.h"

#include "base/character.h"

#include <stdlib.h>
#include <string.h>

static void every_code_point_comes_back(void **state) {
    (void)state;
    for (uint32_t code = 0; code <= 0x10FFFF; code++) {
        char text[5];
        if (code == 0xD800)
            code = 0xE000;
        int length = utf8_write(code, text);
        text[length] = 'x';
        assert_int_equal(length, code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4);
        assert_int_equal(utf8_character(text, 5), length);
        assert_int_equal(utf8_code_point(text, length), code);
        /* Cut short, all of it could still have become a character. */
        for (int cut = 1; cut < length; cut++)
            assert_int_equal(utf8_character(text, (size_t)cut), -cut);
    }
}

/* A well-formed sequence of length bytes is one that is written again as it was. */
static bool is_well_formed(const char *text, int length) {
    static const int leads[] = {0, 0x00, 0xC0, 0xE0, 0xF0}, masks[] = {0, 0x80, 0xE0, 0xF0, 0xF8};
    char again[4];
    if (((unsigned char)text[0] & masks[length]) != leads[length])
        return false;
    uint32_t code = utf8_code_point(text, length);
    if (code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF))
        return false;
    return utf8_write(code, again) == length && memcmp(again, text, (size_t)length) == 0;
}

/* Whether some continuation makes text [size] well formed. */
static bool can_become(const char *text, int size) {
    for (int length = size; length <= 4; length++) {
        char whole[4];
        memcpy(whole, text, (size_t)size);
        for (int fill = 0; fill < 64; fill++) {
            memset(whole + size, 0x80 | fill, (size_t)(length - size));
            if (is_well_formed(whole, length))
                return true;
        }
    }
    return false;
}

static void check(const char *text, int size) {
    int expected = -1;
    for (int length = 1; length <= size; length++)
        if (is_well_formed(text, length))
            expected = length;
    for (int prefix = 2; prefix <= size && expected < 0 && can_become(text, prefix); prefix++)
        expected = -prefix;
    if (utf8_character(text, (size_t)size) != expected)
        fail_msg("%02x %02x %02x %02x: %d", (uint8_t)text[0], (uint8_t)text[1], (uint8_t)text[2],
                 (uint8_t)text[3], expected);
}

/* All pairs of bytes, with the bytes around every bound behind them. */
static void malformed_parts_are_as_long_as_possible(void **state) {
    (void)state;
    static const unsigned char edges[] = {0x00, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F,
                                          0xA0, 0xBF, 0xC0, 0xC2, 0xE0, 0xF4, 0xFF};
    for (int first = 0; first < 256; first++) {
        for (int second = 0; second < 256; second++) {
            for (size_t i = 0; i < sizeof edges; i++) {
                char text[4] = {(char)first, (char)second, (char)edges[i], (char)0x80};
                check(text, 4);
                check(text, 3);
                text[3] = 'x';
                check(text, 4);
            }
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_point_comes_back),
        cmocka_unit_test(malformed_parts_are_as_long_as_possible),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
