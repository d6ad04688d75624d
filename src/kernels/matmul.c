/*
 * matmul.c - products of activations and weights, from jobs to chunks to kernels.
 *
 * Jobs are cut into tiles, a stretch of rows by a stretch of columns of an
 * output, and the tiles of all jobs of a call are the chunks of one loop of the
 * pool: one barrier, however many experts a layer visits. A thread multiplies a
 * tile into private scratch and finishes it (bias, activation, residual) on the
 * way to y, so nothing is written twice and no two threads meet.
 *
 * Both x and w lie with k, the dimension that is summed, running along their
 * rows. The kernels therefore multiply vectors along k: a few rows of x by a few
 * rows of w, each pair with a vector of partial sums in a register, that are
 * added up at the end of a block of k. Nothing is transposed, and there are two
 * forms of the same loop:
 *
 *   few    up to FEW_ROWS rows of x. Weights go from the mapping through a
 *          register, once: decoding is bound by reading them.
 *   many   x and w are first copied, in blocks that fit the caches, to scratch.
 *          Whole vectors, padded with 0.
 *
 * Pairs of bf16 are multiplied so fast that the adding up would count. For them
 * `many` is another loop: rows of x are transposed to stand side by side in the
 * lanes, weights are taken as they lie, and each pair of them meets a vector of
 * rows (words_simd.h; matmul_amx.c does the same by matrix registers). Without them, pairs
 * of 16-bit integers are the fastest that AVX2 and VNNI have, and taken likewise
 * (integers_simd.h).
 *
 * Quantized weights are few's business in a way of their own (quant_rows.h), with
 * activations as 16-bit integers, made before the loop begins. For many rows both become
 * 8-bit integers where there is VNNI or AMX (matmul_bytes_amx.c; Q4 bf16, matmul_amx.c), 16-bit
 * ones with AVX2, else f32. Which of the two is decided for a call, by its longest job: what an
 * expert makes of a prompt does not depend on how many rows chose it.
 *
 * What decoding takes is the time to read weights. So a kernel for few rows reads them in several
 * streams, each of a stretch of the tile's: more of memory is on its way than with one. Where a
 * tile ends, the beginnings of the next one's stretches are fetched already (Tile.next): a thread's
 * chunks follow each other, as long as it has its own.
 *
 * Where one product follows another (an MLP's), the many rows of sums between them stand in the
 * lanes as the next one wants its x: they are finished and packed there (RowsForm.pass), and
 * neither transposed nor written to memory as f32.
 *
 * A row's result does not depend on how many rows there are, where tiles were cut
 * or how many threads there are. With f32 it does not even depend on which of the
 * forms was taken, as both add the same numbers in the same order; with pairs and
 * with quantized weights it does. This order is a level's own: processors
 * of different levels differ in the last bits.
 *
 * matmul_simd.h holds the loops, matmul_<level>.c the vectors.
 */
#include "kernels/matmul.h"

#include "kernels/cpu.h"
#include "kernels/matmul_kernel.h"
#include "kernels/quant_rows.h"

#include <stdalign.h>

#define FEW_ROWS 18
#define FEW_CHUNKS 16 /* per thread, wanted so that threads end together */
#define MANY_CHUNKS 4 /* the same for many rows, which have to be copied */
#define LEAST_COLUMNS 48
#define LEAST_PASSED (TILE_COLUMNS / 2) /* the same if they are passed on */
#define LEAST_PRODUCTS 24000 /* of a chunk: to hand it out takes as long as some thousand */
#define MOST_JOBS 128        /* of one loop */

_Static_assert(LEAST_PASSED % PASSED_COLUMNS == 0, "whole blocks of the next product's x");
_Static_assert(MATMUL_FEW_ROWS <= FEW_ROWS, "with any weights, so many rows are few");

#define PACKED_BYTES ((size_t)4 << 20) /* of rows that are packed for all tiles at once */
#define QUANT_BLOCKS (2 * MATMUL_FEW_ROWS * QUANT_COLUMNS / Q8_BLOCK)

/* A thread's own. */
typedef struct Scratch {
    alignas(64) float c[TILE_ROWS * TILE_COLUMNS];
    alignas(64) float up[TILE_ROWS * TILE_COLUMNS];
    alignas(64) unsigned char kernel[KERNEL_SCRATCH_BYTES];
    const struct Plan *plan; /* of the tile that was multiplied last */
    int row;                 /* and its first row */
} Scratch;

/* The activations of a loop's jobs, quantized. */
typedef struct QuantSpace {
    alignas(64) unsigned char x[QUANT_BLOCKS][QUANT_BLOCK_BYTES];
    float scales[QUANT_BLOCKS];
    int32_t raised[QUANT_BLOCKS][2];
} QuantSpace;

typedef struct Kernel {
    MultiplyTile *few, *many;
    int row_step;         /* rows that `many` takes at a time */
    const RowsForm *form; /* of `many`; NULL: its own affair */
} Kernel;

/* What a call's jobs have in common. */
typedef struct Kernels {
    const Kernel *exact, *fast;
    const Kernel *many_q8, *many_q4;  /* of quantized weights */
    const QuantKernel *few_quantized; /* likewise; NULL: as for many */
} Kernels;

/* A job that is about to be done. */
typedef struct Plan {
    const Matmul *job;
    MultiplyTile *multiply;
    int tile_rows, tiles_down;
    const RowsForm *form;
    int end;            /* the chunk after its last one, counted from the first job's first */
    bool has_quantized; /* its activations, below */
    QuantRows quantized;
} Plan;

typedef struct Loop {
    Plan plans[MOST_JOBS];
    int count, columns; /* columns of a tile */
    Scratch *scratch;   /* [threads] */
    /* Of a single job's tiles some that lie below each other, of which the first is `top`. */
    int top;
    char *packed;      /* their rows, [tiles_down][blocks], as the plan's form has them; or NULL */
    struct Loop *next; /* of one job, whose rows are what this one's tiles become; or NULL */
} Loop;

static const Kernel portable = {multiply_few_portable, multiply_many_portable, 3, NULL};
static const QuantKernel quant_portable = {quantize_rows_portable, multiply_quant_portable};
#if defined(__x86_64__)
static const Kernel avx2 = {multiply_few_avx2, multiply_many_avx2, 3, NULL};
static const Kernel avx512 = {multiply_few_avx512, multiply_many_avx512, 3, NULL};
static const Kernel integers_avx2 = {multiply_few_avx2, multiply_many_integers_avx2, 16,
                                     &rows_integers_avx2};
static const Kernel integers_vnni = {multiply_few_avx512, multiply_many_integers_vnni, 16,
                                     &rows_integers_vnni};
static const Kernel bytes_vnni = {multiply_few_avx512, multiply_many_bytes_vnni, 16,
                                  &rows_bytes_vnni};
static const Kernel bytes_amx = {multiply_few_avx512, multiply_many_bytes_amx, 16, &rows_bytes_amx};
static const Kernel bf16 = {multiply_few_bf16, multiply_many_bf16, 16, NULL};
static const Kernel amx = {multiply_few_bf16, multiply_many_amx, 16, &rows_amx};

static const Kernel *exact_kernel(CpuLevel level) {
    return level >= CPU_AVX512 ? &avx512 : level >= CPU_AVX2 ? &avx2 : &portable;
}

static const Kernel *fast_kernel(CpuLevel level) {
    return level >= CPU_AMX           ? &amx
           : level >= CPU_AVX512_BF16 ? &bf16
           : level >= CPU_AVX512_VNNI ? &integers_vnni
           : level == CPU_AVX2        ? &integers_avx2
                                      : exact_kernel(level);
}

static const Kernel *many_q8_kernel(CpuLevel level) {
    return level >= CPU_AMX           ? &bytes_amx
           : level >= CPU_AVX512_VNNI ? &bytes_vnni
                                      : fast_kernel(level);
}

static const Kernel *many_q4_kernel(CpuLevel level) {
    return level >= CPU_AMX ? &amx : many_q8_kernel(level);
}

static const QuantKernel quant_avx2 = {quantize_rows_avx2, multiply_quant_avx2};
static const QuantKernel quant_vnni = {quantize_rows_vnni, multiply_quant_vnni};
static const QuantKernel quant_amx = {quantize_rows_amx, multiply_quant_amx};

const QuantKernel *quant_kernel(CpuLevel level) {
    return level >= CPU_AMX           ? &quant_amx
           : level >= CPU_AVX512_VNNI ? &quant_vnni
           : level >= CPU_AVX2        ? &quant_avx2
                                      : &quant_portable;
}
#else
static const Kernel *exact_kernel(CpuLevel level) {
    (void)level;
    return &portable;
}

static const Kernel *fast_kernel(CpuLevel level) {
    return exact_kernel(level);
}

static const Kernel *many_q8_kernel(CpuLevel level) {
    return exact_kernel(level);
}

static const Kernel *many_q4_kernel(CpuLevel level) {
    return exact_kernel(level);
}

const QuantKernel *quant_kernel(CpuLevel level) {
    (void)level;
    return &quant_portable;
}
#endif

/* All of the scratch. */
typedef struct Space {
    QuantSpace few;
    alignas(64) char rows[PACKED_BYTES];
    Scratch threads[];
} Space;

size_t matmul_scratch_bytes(int threads) {
    return sizeof(Space) + (size_t)threads * sizeof(Scratch);
}

static Kernels kernels_for(const Matmul *jobs, int count, Precision precision) {
    CpuLevel level = cpu_level();
    Kernels out = {.exact = exact_kernel(level)};
    bool fast = precision == PRECISION_FAST, few = true;
    for (int i = 0; i < count; i++)
        few &= jobs[i].rows <= MATMUL_FEW_ROWS;
    out.fast = fast ? fast_kernel(level) : out.exact;
    out.many_q8 = fast ? many_q8_kernel(level) : out.exact;
    out.many_q4 = fast ? many_q4_kernel(level) : out.exact;
    out.few_quantized = fast && few ? quant_kernel(level) : NULL;
    return out;
}

/* ---- plans ---- */

static const Kernel *kernel_of(WeightType type, const Kernels *kernels) {
    switch (type) {
    case WEIGHT_Q8:
        return kernels->many_q8;
    case WEIGHT_Q4:
        return kernels->many_q4;
    case WEIGHT_BF16:
        return kernels->fast;
    default:
        return kernels->exact;
    }
}

static Plan plan_job(const Matmul *job, const Kernels *kernels) {
    bool quant = is_quantized(job->w.type);
    const Kernel *kernel = kernel_of(job->w.type, kernels);
    Plan plan = {.job = job,
                 .multiply = job->rows <= FEW_ROWS && !quant ? kernel->few : kernel->many,
                 .form = job->rows > FEW_ROWS ? kernel->form : NULL};
    plan.has_quantized = quant && kernels->few_quantized && job->w.columns <= QUANT_COLUMNS;
    if (plan.has_quantized)
        plan.multiply = kernels->few_quantized->multiply;
    if (job->rows > 0) {
        int even = ceil_div(job->rows, ceil_div(job->rows, TILE_ROWS)); /* about the same for all */
        plan.tile_rows = ceil_div(even, kernel->row_step) * kernel->row_step;
        plan.tiles_down = ceil_div(job->rows, plan.tile_rows);
    }
    return plan;
}

/* Whether what a plan has quantized are this job's activations too. */
static bool shares_rows(const Plan *plan, const Matmul *job) {
    const Matmul *other = plan->job;
    return plan->has_quantized && job->x == other->x && job->x_rows == other->x_rows &&
           job->rows == other->rows && job->x_stride == other->x_stride &&
           job->w.columns == other->w.columns && job->w.type == other->w.type;
}

/* The jobs that fit into one loop, at least one of count > 0, with their activations quantized. */
static int plan_jobs(Loop *loop, const Matmul *jobs, int count, const Kernels *kernels,
                     QuantSpace *space) {
    int blocks = 0;
    for (loop->count = 0; loop->count < min_int(count, MOST_JOBS); loop->count++) {
        const Matmul *job = &jobs[loop->count];
        Plan plan = plan_job(job, kernels);
        if (plan.has_quantized) {
            int row_blocks = ceil_div(q8_blocks(job->w.columns), 2) * 2;
            if (loop->count > 0 && shares_rows(&loop->plans[loop->count - 1], job)) {
                plan.quantized = loop->plans[loop->count - 1].quantized;
            } else {
                int taken = quant_rows_taken(job->rows) * row_blocks;
                if (blocks + taken > QUANT_BLOCKS)
                    break;
                plan.quantized = (QuantRows){space->x[blocks], space->scales + blocks,
                                             space->raised[blocks], row_blocks};
                kernels->few_quantized->quantize(job, &plan.quantized);
                blocks += taken;
            }
        }
        loop->plans[loop->count] = plan;
    }
    return loop->count;
}

/* ---- loops ---- */

/* Number the chunks for tiles of so many columns; returns how many there are. */
static int number_chunks(Loop *loop, int columns) {
    int chunks = 0;
    for (int i = 0; i < loop->count; i++) {
        chunks += loop->plans[i].tiles_down * ceil_div(loop->plans[i].job->w.rows, columns);
        loop->plans[i].end = chunks;
    }
    loop->columns = columns;
    return chunks;
}

static int64_t products(const Loop *loop) {
    int64_t total = 0;
    for (int i = 0; i < loop->count; i++) {
        const Matmul *job = loop->plans[i].job;
        int64_t one = (int64_t)job->rows * job->w.rows * job->w.columns;
        total += job->activation == ACTIVATION_SWIGLU ? 2 * one : one;
    }
    return total;
}

/*
 * Enough chunks for threads to end together, but none that is not worth handing out. A thread
 * that is alone takes whole tiles, between which it can be interrupted.
 */
static int cut(Loop *loop, int threads) {
    if (threads == 1)
        return number_chunks(loop, TILE_COLUMNS);
    int64_t worth = products(loop) / LEAST_PRODUCTS;
    int wanted = threads * FEW_CHUNKS;
    for (int i = 0; i < loop->count; i++)
        if (loop->plans[i].job->rows > FEW_ROWS)
            wanted = threads * MANY_CHUNKS;
    wanted = worth < wanted ? (int)worth : wanted;
    int columns = TILE_COLUMNS, chunks = number_chunks(loop, columns);
    int least = loop->next ? LEAST_PASSED : LEAST_COLUMNS;
    while (chunks < wanted && columns > least) {
        columns /= 2;
        chunks = number_chunks(loop, columns);
    }
    return chunks;
}

/* The plan that a chunk belongs to. */
static const Plan *find_plan(const Loop *loop, int chunk) {
    int low = 0, high = loop->count - 1;
    while (low < high) {
        int middle = (low + high) / 2;
        if (chunk < loop->plans[middle].end)
            high = middle;
        else
            low = middle + 1;
    }
    return &loop->plans[low];
}

/* Columns of a form's rows that are packed at once, and how many times. */
static int form_blocks(const Plan *plan) {
    return ceil_div(plan->job->w.columns, plan->form->depth);
}

/* Of one tile's rows, packed. */
static size_t packed_bytes(const Plan *plan) {
    return (size_t)form_blocks(plan) * plan->form->bytes;
}

/* Of the loop's tiles so many below the first one. */
static char *packed_rows(const Loop *loop, int down) {
    return loop->packed + (size_t)down * packed_bytes(loop->plans);
}

static Tile tile_rows_of(const Plan *plan, int down) {
    Tile tile = {.job = plan->job, .w = &plan->job->w, .quantized = &plan->quantized};
    tile.row = down * plan->tile_rows;
    tile.rows = min_int(plan->tile_rows, plan->job->rows - tile.row);
    return tile;
}

static Tile chunk_tile(const Loop *loop, const Plan *plan, int chunk) {
    int index = plan == loop->plans ? chunk : chunk - plan[-1].end;
    int across = ceil_div(plan->job->w.rows, loop->columns), down = index / across;
    Tile tile = tile_rows_of(plan, loop->top + down);
    tile.column = index % across * loop->columns;
    tile.columns = min_int(loop->columns, plan->job->w.rows - tile.column);
    if (loop->packed)
        tile.packed = packed_rows(loop, down);
    return tile;
}

static void pack_chunk(void *context, int chunk, int thread) {
    const Loop *loop = context;
    const Plan *plan = loop->plans;
    int blocks = form_blocks(plan);
    Tile tile = tile_rows_of(plan, loop->top + chunk / blocks);
    (void)thread;
    plan->form->pack(&tile, chunk % blocks * plan->form->depth,
                     loop->packed + (size_t)chunk * plan->form->bytes);
}

/*
 * Tiles that share rows of x follow each other: a thread finds the rows copied, and the caches
 * hold them better than the weights.
 */
static void multiply_chunk(void *context, int chunk, int thread) {
    const Loop *loop = context;
    const Plan *plan = find_plan(loop, chunk);
    Scratch *scratch = &loop->scratch[thread];
    Tile tile = chunk_tile(loop, plan, chunk);
    tile.copied = scratch->plan == plan && scratch->row == tile.row;
    scratch->plan = plan;
    scratch->row = tile.row;
    if (loop->next) {
        int down = tile.row / plan->tile_rows - loop->top;
        plan->multiply(&tile, NULL, scratch->kernel);
        plan->form->pass(&tile, scratch->kernel, packed_rows(loop->next, down));
        return;
    }
    Tile next;
    if (chunk + 1 < loop->plans[loop->count - 1].end) {
        next = chunk_tile(loop, find_plan(loop, chunk + 1), chunk + 1);
        tile.next = &next;
    }
    if (plan->job->activation == ACTIVATION_SWIGLU) {
        Tile up = tile;
        up.w = &plan->job->up;
        up.copied = true;
        tile.next = &up;
        plan->multiply(&tile, scratch->c, scratch->kernel);
        plan->multiply(&up, scratch->up, scratch->kernel);
    } else {
        plan->multiply(&tile, scratch->c, scratch->kernel);
    }
    matmul_finish(&tile, scratch->c, scratch->up);
}

/* Before plans are made for it. */
static void begin_loop(Loop *loop, Scratch *scratch, int threads) {
    loop->scratch = scratch;
    loop->top = 0;
    loop->packed = NULL;
    loop->next = NULL;
    for (int t = 0; t < threads; t++)
        scratch[t].plan = NULL;
}

/* The loop's only job is one whose rows, packed by all threads, would be packed again and again. */
static bool packs_for_all(const Loop *loop, int threads) {
    const Plan *plan = loop->plans;
    return loop->count == 1 && plan->form && (threads > 1 || form_blocks(plan) > 1) &&
           packed_bytes(plan) <= PACKED_BYTES;
}

/* As many tiles below each other at a time as there is room for; each time the next loop's too. */
static void run_packed(Loop *loop, char *rows, OcrPool *pool) {
    Plan *plan = loop->plans;
    Loop *next = loop->next;
    int blocks = form_blocks(plan), down = plan->tiles_down;
    size_t bytes = packed_bytes(plan) + (next ? packed_bytes(next->plans) : 0);
    int most = (int)(PACKED_BYTES / bytes);
    loop->packed = rows;
    if (next)
        next->packed = packed_rows(loop, most);
    for (; loop->top < down; loop->top += most) {
        plan->tiles_down = min_int(most, down - loop->top);
        pool_run(pool, plan->tiles_down * blocks, pack_chunk, loop);
        pool_run(pool, cut(loop, pool_threads(pool)), multiply_chunk, loop);
        if (!next)
            continue;
        next->top = loop->top;
        next->plans->tiles_down = plan->tiles_down;
        pool_run(pool, cut(next, pool_threads(pool)), multiply_chunk, next);
    }
}

void matmul_run(const Matmul *jobs, int count, Precision precision, OcrPool *pool, void *scratch) {
    Kernels kernels = kernels_for(jobs, count, precision);
    Space *space = scratch;
    Loop loop; /* not cleared, as it is large: only plans that were made are read */
    while (count > 0) {
        begin_loop(&loop, space->threads, pool_threads(pool));
        int taken = plan_jobs(&loop, jobs, count, &kernels, &space->few);
        if (packs_for_all(&loop, pool_threads(pool)))
            run_packed(&loop, space->rows, pool);
        else
            pool_run(pool, cut(&loop, pool_threads(pool)), multiply_chunk, &loop);
        jobs += taken;
        count -= taken;
    }
}

/* ---- two products, one after the other ---- */

/* Whether what the first one's kernel leaves can be packed as the second one's rows. */
static bool can_pass(const Plan *first, const Plan *second) {
    const Matmul *job = first->job;
    return first->form && first->form == second->form && job->w.type == second->job->w.type &&
           job->w.rows % PASSED_COLUMNS == 0 &&
           packed_bytes(first) + packed_bytes(second) <= PACKED_BYTES;
}

void matmul_run_two(const Matmul jobs[2], Precision precision, OcrPool *pool, void *scratch) {
    Kernels kernels = kernels_for(jobs, 2, precision);
    Space *space = scratch;
    Plan plans[] = {plan_job(&jobs[0], &kernels), plan_job(&jobs[1], &kernels)};
    if (!can_pass(&plans[0], &plans[1])) {
        matmul_run(&jobs[0], 1, precision, pool, scratch);
        matmul_run(&jobs[1], 1, precision, pool, scratch);
        return;
    }
    Loop loops[2];
    for (int i = 0; i < 2; i++) {
        begin_loop(&loops[i], space->threads, pool_threads(pool));
        loops[i].plans[0] = plans[i];
        loops[i].count = 1;
    }
    loops[0].next = &loops[1];
    run_packed(&loops[0], space->rows, pool);
}
