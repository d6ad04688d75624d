#include "support.h"

#include "kernels/cpu.h"

#include <stdio.h>
#include <string.h>

static void test_force(void **state) {
    CpuLevel best = cpu_best_level();
    (void)state;
    assert_int_equal(cpu_level(), best);
    for (CpuLevel level = CPU_PORTABLE; level < CPU_LEVELS; level++) {
        cpu_force_level(level);
        assert_int_equal(cpu_level(), level < best ? level : best);
        assert_int_equal(cpu_best_level(), best);
        assert_true(strlen(cpu_level_name(level)) > 0);
    }
    assert_int_equal(cpu_level(), best);
}

/* What the system itself says of the processor. */
static bool flag(const char *name) {
    char word[64];
    bool found = false;
    FILE *f = fopen("/proc/cpuinfo", "r");
    assert_non_null(f);
    while (!found && fscanf(f, "%63s", word) == 1)
        found = strcmp(word, name) == 0;
    fclose(f);
    return found;
}

static void test_best_is_what_the_system_lists(void **state) {
    CpuLevel best = cpu_best_level();
    (void)state;
    bool avx2 = flag("avx2") && flag("fma") && flag("f16c");
    bool avx512 =
        avx2 && flag("avx512f") && flag("avx512bw") && flag("avx512dq") && flag("avx512vl");
    assert_int_equal(best >= CPU_AVX2, avx2);
    assert_int_equal(best >= CPU_AVX512, avx512);
    bool vnni = avx512 && flag("avx512_vnni");
    assert_int_equal(best >= CPU_AVX512_VNNI, vnni);
    assert_int_equal(best >= CPU_AVX512_BF16, vnni && flag("avx512_bf16"));
    if (best == CPU_AMX)
        assert_true(flag("amx_tile") && flag("amx_bf16") && flag("amx_int8"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_force),
        cmocka_unit_test(test_best_is_what_the_system_lists),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
