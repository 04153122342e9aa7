#include "gptq/verify.h"

#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "gptq/compute.h"
#include "gptq/memory_verify.h"
#include "gptq/verify_private.h"
#include "io/alike.h"
#include "io/tokenizer.h"

/* --- one layer ---------------------------------------------------------------------------------------------------- */

static double dot(const float *a, const float *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

/* A worker's host memory for weights and errors [2 tile_rows, n_max] and a product [2 tile_rows, SQ_VERIFY_COLUMNS],
 * and the same in the backend's. */
struct tile_room {
    float *x, *product;
    void *backend_x, *backend_product;
};

static struct tile_room room_of(const struct sq_verification *v, int worker)
{
    int64_t at = worker * v->room_elements, product = 2 * v->tile_rows * v->n_max;
    float *host = v->scratch + at, *backend = (float *)v->rows + at;
    return (struct tile_room){host, host + product, backend, backend + product};
}

/* values[r] += factor * x_r y_r' for each row. */
static void add_dots(struct sq_matrix x, struct sq_matrix y, double factor, double *values)
{
    for (int64_t r = 0; r < x.rows; r++)
        values[r] += factor * dot((float *)x.data + r * x.stride, (float *)y.data + r * y.stride, x.cols);
}

/* values[r] += factor * x_r,to H_to,from x_r,from'; the weights and errors x are in room->x and in the backend. */
static enum sq_status add_block(const struct sq_verification *v, const struct tile_room *room, struct sq_matrix x,
                                struct sq_range from, struct sq_range to, double factor, double *values)
{
    const struct sq_backend_ops *ops = v->backend->ops;
    struct sq_matrix there = sq_matrix_view(room->backend_x, SQ_F32, x.rows, x.cols);
    struct sq_matrix y = sq_matrix_view(room->backend_product, SQ_F32, x.rows, to.count);
    SQ_TRY(ops->matmul(v->backend, sq_matrix_part(there, 0, x.rows, from.first, from.count),
                       sq_matrix_part(v->hessian, from.first, from.count, to.first, to.count), false, y));
    SQ_TRY(ops->download(v->backend, y.data, (size_t)(y.rows * y.cols) * sizeof(float), room->product));
    y.data = room->product;
    add_dots(sq_matrix_part(x, 0, x.rows, to.first, to.count), y, factor, values);
    return SQ_OK;
}

/* values[r] = x_r H x_r' for each row of x [rows, n], room->x: the sum over column blocks b of
 * x_b (2 H_b,<b x_<b + H_bb x_b). */
static enum sq_status quadratic(const struct sq_verification *v, const struct tile_room *room, struct sq_matrix x,
                                double *values)
{
    SQ_TRY(v->backend->ops->upload(v->backend, x.data, (size_t)(x.rows * x.cols) * sizeof(float), room->backend_x));
    for (int64_t r = 0; r < x.rows; r++)
        values[r] = 0;
    for (int64_t j = 0; j < x.cols; j += SQ_VERIFY_COLUMNS) {
        struct sq_range own = {j, x.cols - j < SQ_VERIFY_COLUMNS ? x.cols - j : SQ_VERIFY_COLUMNS};
        SQ_TRY(add_block(v, room, x, own, own, 1, values));
        if (j > 0) SQ_TRY(add_block(v, room, x, (struct sq_range){0, j}, own, 2, values));
    }
    return SQ_OK;
}

/* Both forms of the tile's rows at once: weights, then errors. */
static enum sq_status measure_tile(void *context, int64_t index, int worker)
{
    struct sq_verification *v = context;
    const struct sq_linear *linear = v->linear;
    int64_t n = linear->in_features, row = (v->tiles.first + index) * v->tile_rows;
    int64_t rows = linear->out_features - row < v->tile_rows ? linear->out_features - row : v->tile_rows;
    struct tile_room room = room_of(v, worker);
    float *weights = room.x, *errors = weights + rows * n;
    double values[2 * SQ_SOLVE_ROWS_MAX], *figures = v->figures + 2 * row;
    struct sq_checkpoint_linear in_folder = sq_linear_in_folder(linear);
    SQ_TRY(sq_checkpoint_read_linear(v->original, &in_folder, row, rows, weights));
    SQ_TRY(sq_checkpoint_read_linear(v->quantized, &in_folder, row, rows, errors));
    for (int64_t i = 0; i < rows * n; i++)
        errors[i] = weights[i] - errors[i];
    SQ_TRY(quadratic(v, &room, sq_matrix_view(weights, SQ_F32, 2 * rows, n), values));
    for (int64_t r = 0; r < rows; r++) {
        figures[2 * r] = values[rows + r];
        figures[2 * r + 1] = values[r];
    }
    return SQ_OK;
}

/* Sums the rows' figures in order of rows, after all ranks have measured theirs. */
enum sq_status sq_verify_measure(struct sq_verification *v, double *error_p)
{
    int size = v->team->size;
    int64_t n_tiles = (v->linear->out_features + v->tile_rows - 1) / v->tile_rows;
    void *memory = NULL;
    SQ_TRY(sq_comm_agree(v->team, sq_alloc("shares of rows", 2 * (int64_t)size, sizeof(size_t), &memory)));
    size_t *offsets = memory, *bytes = offsets + size;
    for (int r = 0; r < size; r++) {
        struct sq_range share = sq_split(n_tiles, r, size);
        offsets[r] = (size_t)(share.first * v->tile_rows) * 2 * sizeof(double);
        bytes[r] = (size_t)(share.count * v->tile_rows) * 2 * sizeof(double);
    }
    v->tiles = sq_split(n_tiles, v->team->rank, size);
    enum sq_status status =
        sq_comm_agree(v->team, v->backend->ops->parallel(v->backend, v->tiles.count, measure_tile, v));
    if (status == SQ_ERR_NUMERIC && v->team->rank == 0 && !sq_checkpoint_report_linear(v->original, v->linear->name))
        (void)sq_checkpoint_report_linear(v->quantized, v->linear->name);
    if (status == SQ_OK) status = sq_comm_all_gather(v->team, v->figures, offsets, bytes);
    sq_free(memory);
    double error = 0, norm = 0;
    for (int64_t r = 0; r < v->linear->out_features; r++) {
        error += v->figures[2 * r];
        norm += v->figures[2 * r + 1];
    }
    *error_p = norm == 0 ? 0 : error / norm;
    return status;
}

/* --- the walk through the model ----------------------------------------------------------------------------------- */

bool sq_verify_is_packed(const struct sq_verification *v, const struct sq_linear *linear)
{
    return !sq_checkpoint_find_part(v->quantized, linear->name, "weight");
}

static enum sq_status verify_group(struct sq_verification *v, int block, int group)
{
    int first = 0, count = sq_model_group_linears(v->model, block, group, &first);
    bool any_packed = false;
    for (int i = 0; i < count; i++)
        any_packed |= sq_verify_is_packed(v, sq_model_linear(v->model, first + i));
    if (any_packed) {
        int64_t n = sq_model_linear(v->model, first)->in_features;
        v->hessian = sq_matrix_view(v->hessian.data, SQ_F32, n, n);
        struct sq_hessian_inputs inputs = {&v->shards, v->tokens.length, sq_forward_group_input(v->forward),
                                           sq_forward_is_on_host(v->forward)};
        SQ_TRY(sq_hessian_make(v->backend, v->world, -1, sq_model_linear(v->model, first)->name, &inputs, &v->workspace,
                               v->hessian));
    }
    for (int i = 0; i < count; i++) {
        v->linear = sq_model_linear(v->model, first + i);
        if (block < sq_model_n_blocks(v->model)) SQ_TRY(sq_forward_load_linear(v->forward, v->world, i));
        if (!sq_verify_is_packed(v, v->linear)) continue;
        double error = 0;
        SQ_TRY(sq_verify_measure(v, &error));
        v->show(v->context, v->linear->name, v->linear->out_features, v->linear->in_features, error);
    }
    return SQ_OK;
}

/* A LINEAR or EXPERTS step, which begins with that group. */
static enum sq_status verify_step(struct sq_verification *v, int64_t block, int group)
{
    SQ_TRY(sq_forward_agree(v->forward, v->world, sq_forward_to_group(v->forward, group)));
    v->team = v->world;
    return sq_model_is_expert_group(v->model, block, group) ? sq_verify_experts(v, (int)block, group)
                                                            : verify_group(v, (int)block, group);
}

static enum sq_status verify_blocks(struct sq_verification *v)
{
    int64_t n_blocks = sq_model_n_blocks(v->model);
    bool has_packed_head = sq_verify_is_packed(v, sq_model_linear(v->model, sq_model_n_linears(v->model) - 1)) &&
                           !sq_model_is_tied(v->model);
    SQ_TRY(sq_forward_embed(v->forward, v->world, v->tokens.ids + v->shards.samples.first * v->tokens.length));
    for (int64_t block = 0; block < n_blocks; block++) {
        SQ_TRY(sq_forward_load_block(v->forward, v->world, block));
        int first = 0;
        for (int g = 0; g < sq_model_n_groups(v->model, block); g += sq_model_step_groups(v->model, block, g, &first))
            SQ_TRY(verify_step(v, block, g));
        SQ_TRY(sq_forward_agree(v->forward, v->world, sq_forward_finish_block(v->forward)));
    }
    if (!has_packed_head) return SQ_OK;
    SQ_TRY(sq_forward_load_block(v->forward, v->world, n_blocks));
    return verify_step(v, n_blocks, 0);
}

/* --- opening and closing ------------------------------------------------------------------------------------------ */

static enum sq_status open_models(void *context)
{
    struct sq_verification *v = context;
    const struct sq_config *config = v->config;
    SQ_TRY(sq_checkpoint_open(config->model, &v->original));
    SQ_TRY(sq_model_open(v->original, &v->original_model));
    SQ_TRY(sq_checkpoint_open(config->checkpoint, &v->quantized));
    SQ_TRY(sq_model_open(v->quantized, &v->model));
    SQ_TRY(sq_verify_read_record(v));
    SQ_TRY(sq_verify_read_policy(v));
    int n = sq_model_n_linears(v->model);
    bool same = n == sq_model_n_linears(v->original_model), any_packed = false;
    for (int i = 0; i < n && same; i++) {
        const struct sq_linear *a = sq_model_linear(v->model, i), *b = sq_model_linear(v->original_model, i);
        same = !strcmp(a->name, b->name) && a->in_features == b->in_features && a->out_features == b->out_features;
    }
    for (int i = 0; i < n; i++)
        any_packed |= sq_verify_is_packed(v, sq_model_linear(v->model, i));
    if (same && any_packed) return SQ_OK;
    if (same)
        sq_error("%s has no quantized layer", config->checkpoint);
    else
        sq_error("%s is not a quantized form of %s: their linear layers differ", config->checkpoint, config->model);
    return SQ_ERR_INPUT;
}

static enum sq_status plan_memory(struct sq_verification *v, enum sq_dtype compute, struct sq_memory_plan *memory_p)
{
    struct sq_memory_request request = {.model = v->model,
                                        .config = v->config,
                                        .policy = v->policy,
                                        .compute = compute,
                                        .n_samples = v->shards.samples.count,
                                        .length = v->tokens.length,
                                        .n_job_samples = v->tokens.n_samples};
    SQ_TRY(sq_memory_fit_ranks(&v->place, v->config->memory_bytes, sq_memory_count_verify, &request, memory_p));
    sq_memory_say(v->world, memory_p);
    return SQ_OK;
}

static enum sq_status take_memory(struct sq_verification *v, enum sq_dtype compute, const struct sq_memory_plan *memory)
{
    struct sq_forward_options options = {.compute = compute,
                                         .first_sample = v->shards.samples.first,
                                         .n_samples = v->shards.samples.count,
                                         .length = v->tokens.length,
                                         .place = memory->place,
                                         .folder = sq_place_folder()};
    const struct sq_sizes *sizes = &v->backend->sizes;
    void *scratch = NULL, *figures = NULL;
    int64_t n_max = sq_verify_widest_input(v->model), n_workers = v->backend->n_workers;
    v->tile_rows = sizes->solve_rows;
    v->n_max = n_max;
    v->room_elements = sq_verify_room_elements(sizes, n_max);
    SQ_TRY(sq_forward_create(v->backend, v->model, &options, &v->forward));
    SQ_TRY(sq_hessian_create(v->backend, n_max, &memory->rooms, &v->workspace));
    SQ_TRY(v->backend->ops->alloc(v->backend, "a Hessian", (size_t)(n_max * n_max) * sizeof(float), &v->hessian.data));
    SQ_TRY(sq_alloc("rows to verify", v->room_elements * n_workers, sizeof(float), &scratch));
    v->scratch = scratch;
    SQ_TRY(v->backend->ops->alloc(v->backend, "rows to verify", (size_t)(v->room_elements * n_workers) * sizeof(float),
                                  &v->rows));
    SQ_TRY(sq_alloc("figures of rows", sq_verify_n_figures(sizes, v->model), sizeof(double), &figures));
    v->figures = figures;
    return SQ_OK;
}

static void close_all(struct sq_verification *v)
{
    sq_free(v->figures);
    sq_free(v->scratch);
    sq_forward_destroy(v->forward);
    if (v->backend) {
        v->backend->ops->free(v->backend, v->hessian.data);
        v->backend->ops->free(v->backend, v->rows);
        sq_hessian_destroy(v->backend, &v->workspace);
    }
    sq_tokens_release(&v->tokens);
    json_decref(v->record);
    sq_model_close(v->model);
    sq_model_close(v->original_model);
    sq_checkpoint_close(v->quantized);
    sq_checkpoint_close(v->original);
    sq_place_close(&v->place);
}

static enum sq_status run(struct sq_verification *v)
{
    const struct sq_config *config = v->config;
    struct sq_memory_plan memory;
    enum sq_dtype compute;
    SQ_TRY(sq_place_open(config, v->world, &v->place));
    v->backend = v->place.backend;
    v->world = &v->place.comm;
    SQ_TRY(sq_compute_choose(v->world, v->backend, config->compute, &compute));
    SQ_TRY(sq_comm_first_rank_first(v->world, open_models, v));
    SQ_TRY(sq_alike_checkpoint(v->world, v->original));
    SQ_TRY(sq_alike_checkpoint(v->world, v->quantized));
    SQ_TRY(sq_tokens_read(v->world, config->tokens, sq_model_vocab_size(v->model), sq_model_max_length(v->model),
                          &v->tokens));
    SQ_TRY(sq_tokenizer_compare(v->world, &v->tokens, config->tokens, config->model));
    v->shards = sq_shards_make(v->tokens.n_samples, config->shards, v->world->rank, v->world->size);
    SQ_TRY(plan_memory(v, compute, &memory));
    SQ_TRY(sq_comm_agree(v->world, take_memory(v, compute, &memory)));
    SQ_TRY(verify_blocks(v));
    return sq_comm_agree(v->world, v->world->rank == 0 ? sq_verify_say_whether_same(v) : SQ_OK);
}

enum sq_status sq_verify(const struct sq_config *config, const struct sq_comm *world, sq_verify_fn *show, void *context)
{
    struct sq_verification v = {.config = config, .world = world, .show = show, .context = context};
    enum sq_status status = run(&v);
    close_all(&v);
    return status;
}
