#include "kernels/field_kernel.h"

#include "base/arena.h"
#include "base/numbers.h"
#include "kernels/cpu.h"

#define MOST_TILE 48 /* queries side by side, at any level */

static size_t filled_up(int count) {
    return (size_t)ceil_div(count, WORD_SIDE) * WORD_SIDE;
}

/* Sizes are those of f32, the larger words. */
static FieldSpace layout(int height, int width, int dim, Arena *arena) {
    size_t queries = FIELD_QUERIES, depth = filled_up(dim);
    size_t distances = filled_up(2 * height - 1) + filled_up(2 * width - 1);
    size_t scores = max_size(FIELD_KEYS, distances);
    return (FieldSpace){
        .queries = ARENA_TAKE(arena, float, depth *queries),
        .out = ARENA_TAKE(arena, float, depth *queries),
        .by_row = ARENA_TAKE(arena, float, (size_t)height *queries),
        .by_column = ARENA_TAKE(arena, float, (size_t)width *queries),
        .most = ARENA_TAKE(arena, float, queries),
        .sum = ARENA_TAKE(arena, float, queries),
        .keys = ARENA_TAKE(arena, float, FIELD_KEYS *depth),
        .values = ARENA_TAKE(arena, float, depth *FIELD_KEYS),
        .table = ARENA_TAKE(arena, float, distances *depth),
        .scores = ARENA_TAKE(arena, float, scores *MOST_TILE),
    };
}

size_t field_scratch_bytes(int height, int width, int dim) {
    Arena arena = ARENA_MEASURE;
    layout(height, width, dim, &arena);
    return arena.used;
}

static AttendField *kernel(Precision precision) {
#if defined(__x86_64__)
    CpuLevel level = cpu_level();
    if (precision == PRECISION_FAST && level >= CPU_AMX)
        return field_amx;
    if (precision == PRECISION_FAST && level >= CPU_AVX512_BF16)
        return field_bf16;
    if (level >= CPU_AVX512)
        return field_avx512;
    if (level >= CPU_AVX2)
        return field_avx2;
#else
    (void)precision;
#endif
    return field_portable;
}

void field_attend_by(AttendField *by, const Field *field, int first, int count, void *scratch) {
    Arena arena = {scratch, 0};
    FieldSpace space = layout(field->height, field->width, field->dim, &arena);
    by(field, first, count, &space);
}

void field_attend(const Field *field, int first, int count, Precision precision, void *scratch) {
    field_attend_by(kernel(precision), field, first, count, scratch);
}
