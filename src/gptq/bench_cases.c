/* Each kind of work by operations of the backend, in sizes of the program's. */
#include "gptq/bench_private.h"
#include "io/checkpoint.h"
#include "io/codes.h"
#include "tensor/solve_ops.h"

#define WIDE SQ_BENCH_WIDE
#define TOKENS (WIDE / 2)
#define AREA SQ_BENCH_AREA
#define COLUMNS 128 /* of a block of the solver */

static struct sq_matrix view(void *data, enum sq_dtype dtype, int64_t rows, int64_t cols)
{
    return sq_matrix_view(data, dtype, rows, cols);
}

/* --- the forward pass and Hessians -------------------------------------------------------------------------------- */

static enum sq_status multiply(struct sq_backend *backend, const struct sq_bench_room *room, enum sq_dtype dtype,
                               int64_t size)
{
    return backend->ops->linear(backend, view(room->a, dtype, TOKENS, size), view(room->b, dtype, size, size), NULL,
                                view(room->c, dtype, TOKENS, size));
}

static enum sq_status run_bf16(struct sq_backend *backend, const struct sq_bench_room *room, int64_t size)
{
    return multiply(backend, room, SQ_BF16, size);
}

static enum sq_status run_f32(struct sq_backend *backend, const struct sq_bench_room *room, int64_t size)
{
    return multiply(backend, room, SQ_F32, size);
}

static enum sq_dtype best_dtype(const struct sq_backend *backend)
{
    return backend->bf16_is_faster ? SQ_BF16 : SQ_F32;
}

/* size: of a head */
static enum sq_status run_attention(struct sq_backend *backend, const struct sq_bench_room *room, int64_t size)
{
    const struct sq_attention shape = {
        .n_heads = 2, .n_kv_heads = 2, .head_dim = size, .value_dim = size, .scale = 0.1f};
    enum sq_dtype dtype = best_dtype(backend);
    return backend->ops->attention(
        backend, &shape, view(room->a, dtype, TOKENS, 2 * size), view(room->a + AREA / 2, dtype, TOKENS, 2 * size),
        view(room->b, dtype, TOKENS, 2 * size), room->c, view(room->b + AREA / 2, dtype, TOKENS, 2 * size));
}

static enum sq_status add_gram(struct sq_backend *backend, const struct sq_bench_room *room, enum sq_dtype dtype)
{
    int64_t rows = backend->sizes.hessian_panel < WIDE ? backend->sizes.hessian_panel : WIDE;
    int64_t row = (WIDE - rows) / SQ_GRAM_COLUMNS * SQ_GRAM_COLUMNS;
    return backend->ops->gram_add(backend, view(room->a, dtype, WIDE, WIDE), room->b, row, room->figures,
                                  view(room->c, SQ_I64, WIDE - row < rows ? WIDE - row : rows, row + rows));
}

static enum sq_status run_gram_bf16(struct sq_backend *backend, const struct sq_bench_room *room, int64_t size)
{
    (void)size;
    return add_gram(backend, room, SQ_BF16);
}

static enum sq_status run_gram_f32(struct sq_backend *backend, const struct sq_bench_room *room, int64_t size)
{
    (void)size;
    return add_gram(backend, room, SQ_F32);
}

static enum sq_status run_math(struct sq_backend *backend, const struct sq_bench_room *room, int64_t size)
{
    enum sq_dtype dtype = best_dtype(backend);
    struct sq_matrix x = view(room->a, SQ_F32, TOKENS, WIDE), y = view(room->b, dtype, TOKENS, WIDE);
    (void)size;
    SQ_TRY(backend->ops->norm(backend, SQ_NORM_RMS, x, room->figures, NULL, 1e-5f, y));
    SQ_TRY(backend->ops->rope(backend, SQ_ROPE_HALVES, y, 64, 32, room->figures, room->figures + TOKENS * 32));
    return backend->ops->activate(backend, SQ_ACT_SILU, y, y, y);
}

static enum sq_status run_stream(struct sq_backend *backend, const struct sq_bench_room *room, int64_t size)
{
    struct sq_matrix x = view(room->a, SQ_F32, TOKENS, WIDE), y = view(room->b, SQ_F32, TOKENS, WIDE);
    struct sq_matrix half = view(room->c, SQ_BF16, TOKENS, WIDE);
    bool finite;
    (void)size;
    SQ_TRY(backend->ops->convert(backend, x, half));
    SQ_TRY(backend->ops->all_finite(backend, half, &finite));
    return backend->ops->add(backend, half, y);
}

static enum sq_status run_turn(struct sq_backend *backend, const struct sq_bench_room *room, int64_t size)
{
    struct sq_matrix h = view(room->a, SQ_F32, WIDE, WIDE), out = view(room->c, SQ_F32, WIDE, WIDE);
    (void)size;
    SQ_TRY(backend->ops->gram_pack(backend, view(room->a, best_dtype(backend), WIDE, WIDE), 0, WIDE, room->b));
    SQ_TRY(backend->ops->solve->arrange(backend, h, room->order, 1.0f, true, 0, WIDE, out));
    return backend->ops->mirror(backend, out, 0, WIDE);
}

static enum sq_status run_copy(struct sq_backend *backend, const struct sq_bench_room *room, int64_t size)
{
    size_t bytes = (size_t)AREA * sizeof(float);
    (void)size;
    SQ_TRY(backend->ops->upload(backend, room->host, bytes, room->a));
    return backend->ops->download(backend, room->a, bytes, room->host);
}

/* --- factor and solve --------------------------------------------------------------------------------------------- */

static enum sq_status run_factor(struct sq_backend *backend, const struct sq_bench_room *room, int64_t size)
{
    int64_t edge = backend->sizes.factor_tile, rows = backend->sizes.factor_rows;
    (void)size;
    return backend->ops->update(backend, view(room->a, SQ_F32, rows, edge), view(room->b, SQ_F32, edge, edge),
                                view(room->c, SQ_F32, rows, edge));
}

static enum sq_status run_tile(struct sq_backend *backend, const struct sq_bench_room *room, int64_t size)
{
    int64_t lanes = backend->sizes.solve_rows;
    return backend->ops->matmul(backend, view(room->a, SQ_F32, size, WIDE), view(room->b, SQ_F32, WIDE, lanes), false,
                                view(room->c, SQ_F32, size, lanes));
}

/* Columns of a tile that all fit. */
static int64_t tile_columns(const struct sq_backend *backend)
{
    return AREA / backend->sizes.solve_rows < WIDE ? AREA / backend->sizes.solve_rows : WIDE;
}

static const struct sq_grid grid = {.bits = 4, .symmetric = true, .group_size = COLUMNS, .scale_dtype = SQ_F16};

static struct sq_tile_scales scales_of(const struct sq_backend *backend, const struct sq_bench_room *room)
{
    int64_t cells = WIDE / COLUMNS * backend->sizes.solve_rows;
    return (struct sq_tile_scales){room->figures, room->figures + cells, room->figures + 2 * cells};
}

static double *row_figures(const struct sq_backend *backend, const struct sq_bench_room *room, int which)
{
    int64_t lanes = backend->sizes.solve_rows;
    return (double *)(void *)(room->figures + 3 * WIDE / COLUMNS * lanes) + which * lanes;
}

static uint8_t *codes_of(const struct sq_bench_room *room)
{
    return (uint8_t *)(room->c + AREA);
}

static enum sq_status find_scales(struct sq_backend *backend, const struct sq_bench_room *room, enum sq_scale_rule rule)
{
    return backend->ops->solve->find_scales(backend, &grid, rule, tile_columns(backend), room->a, NULL,
                                            scales_of(backend, room));
}

static enum sq_status run_search(struct sq_backend *backend, const struct sq_bench_room *room, int64_t size)
{
    (void)size;
    return find_scales(backend, room, SQ_SCALE_SEARCH);
}

static enum sq_status run_quantize(struct sq_backend *backend, const struct sq_bench_room *room, int64_t size)
{
    const struct sq_column_block block = {.columns = COLUMNS,
                                          .index = room->order,
                                          .unit = room->b,
                                          .unit_stride = COLUMNS,
                                          .products = room->c,
                                          .weights = room->a,
                                          .scales = scales_of(backend, room),
                                          .group_size = grid.group_size,
                                          .max_code = sq_grid_max_code(&grid),
                                          .errors = room->b + AREA / 2,
                                          .codes = codes_of(room)};
    (void)size;
    return backend->ops->solve->quantize(backend, &block);
}

static enum sq_status run_descent(struct sq_backend *backend, const struct sq_bench_room *room, int64_t size)
{
    int64_t cells = size * backend->sizes.solve_rows;
    float *centred = room->b + size * size; /* behind the Hessian */
    struct sq_tile_scales scales = scales_of(backend, room);
    const struct sq_descent descent = {.columns = size,
                                       .hessian = room->b,
                                       .hessian_stride = size,
                                       .left = room->c,
                                       .own = room->c + cells,
                                       .right = room->c + 2 * cells,
                                       .weight_products = room->c + 3 * cells,
                                       .centred = centred,
                                       .weights = room->a,
                                       .errors = centred + cells,
                                       .codes = codes_of(room),
                                       .scale = scales.scale,
                                       .inverse = scales.inverse,
                                       .zero = scales.zero,
                                       .max_code = sq_grid_max_code(&grid),
                                       .scale_dtype = grid.scale_dtype,
                                       .refit_scale = true,
                                       .before = row_figures(backend, room, 0),
                                       .after = row_figures(backend, room, 1)};
    return backend->ops->solve->descend(backend, &descent);
}

static enum sq_status run_cells(struct sq_backend *backend, const struct sq_bench_room *room, int64_t size)
{
    const struct sq_solve_ops *solve = backend->ops->solve;
    struct sq_tile_scales scales = scales_of(backend, room);
    int64_t columns = tile_columns(backend);
    (void)size;
    SQ_TRY(find_scales(backend, room, SQ_SCALE_REFERENCE));
    SQ_TRY(solve->nearest(backend, &grid, columns, room->a, scales, codes_of(room)));
    SQ_TRY(solve->residual(backend, &grid, columns, room->a, scales, codes_of(room), room->b));
    return solve->dot(backend, columns, room->a, room->b, 1, row_figures(backend, room, 0));
}

/* --- files: host memory, whatever the backend --------------------------------------------------------------------- */

static enum sq_status run_read(struct sq_backend *backend, const struct sq_bench_room *room, int64_t size)
{
    const struct sq_tensor tensor = {.name = "",
                                     .file = "",
                                     .dtype = SQ_BF16,
                                     .n_dims = 2,
                                     .shape = {TOKENS, WIDE},
                                     .data = room->bytes,
                                     .bytes = (size_t)AREA};
    (void)backend;
    (void)size;
    return sq_tensor_read_f32(&tensor, 0, TOKENS, room->host);
}

static enum sq_status run_pack(struct sq_backend *backend, const struct sq_bench_room *room, int64_t size)
{
    (void)backend;
    (void)size;
    for (int64_t row = 0; row < TOKENS; row++)
        sq_codes_pack_row(room->bytes + row * WIDE, WIDE, 4, (uint8_t *)room->host + row * WIDE);
    return SQ_OK;
}

/* --- the table ---------------------------------------------------------------------------------------------------- */

/* A search comes before what needs its scales. */
const struct sq_bench_case sq_bench_cases[] = {
    {run_bf16, SQ_WORK_BF16, {128, WIDE}, 0},
    {run_f32, SQ_WORK_F32, {128, WIDE}, 0},
    {run_attention, SQ_WORK_ATTENTION, {64, 128}, 0},
    {run_gram_bf16, SQ_WORK_GRAM_BF16, {0}, 0},
    {run_gram_f32, SQ_WORK_GRAM_F32, {0}, 0},
    {run_math, SQ_WORK_MATH, {0}, 0},
    {run_stream, SQ_WORK_STREAM, {0}, 0},
    {run_turn, SQ_WORK_TURN, {0}, 0},
    {run_copy, SQ_WORK_COPY, {0}, 0},
    {run_factor, SQ_WORK_FACTOR, {0}, 0},
    {run_tile, SQ_WORK_TILE, {64, 128}, 0},
    {run_search, SQ_WORK_SEARCH, {0}, 0},
    {run_quantize, SQ_WORK_QUANTIZE, {0}, 0},
    {run_descent, SQ_WORK_DESCENT, {64, 128}, 0},
    {run_cells, SQ_WORK_CELLS, {0}, 0},
    {run_read, SQ_WORK_READ, {0}, TOKENS *WIDE},
    {run_pack, SQ_WORK_PACK, {0}, TOKENS *WIDE},
};
const int sq_bench_n_cases = (int)(sizeof sq_bench_cases / sizeof *sq_bench_cases);
