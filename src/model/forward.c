#include "model/forward_private.h"

#include <assert.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "model/alibi.h"
#include "model/experts.h"
#include "model/weights.h"

/* --- sizes -------------------------------------------------------------------------------------------------------- */

static int64_t linear_bytes(const struct sq_linear *linear, enum sq_dtype compute)
{
    return sq_aligned(linear->out_features * linear->in_features * (int64_t)sq_dtype_size(compute));
}

/* 0 for an expert's first group, gate and up; 1 for its second, down. */
static int group_part(const struct sq_model *model, int64_t block, int group)
{
    int first;
    sq_model_step_groups(model, block, group, &first);
    return (group - first) % 2;
}

/* First linear of those whose weights are in memory together: the members of a group, or all of an expert. */
static int first_together(const struct sq_model *model, int64_t block, int group)
{
    int first;
    if (sq_model_is_expert_group(model, block, group)) group -= group_part(model, block, group);
    sq_model_group_linears(model, (int)block, group, &first);
    return first;
}

/* The groups of a block whose weights are in memory at once: one, or the two of an expert. */
static int64_t group_bytes(const struct sq_model *model, int64_t block, int group, enum sq_dtype compute)
{
    int first, end = sq_model_group_linears(model, (int)block, group, &first);
    int64_t bytes = 0;
    end += first;
    for (int i = first_together(model, block, group); i < end; i++)
        bytes += linear_bytes(sq_model_linear(model, i), compute);
    return bytes;
}

/* All blocks of a kind take the same. */
static int64_t weight_bytes(const struct sq_model *model, enum sq_dtype compute)
{
    int64_t most = 0;
    bool seen[SQ_N_BLOCK_KINDS] = {false};
    for (int64_t block = 0; block < model->dims.n_blocks; block++) {
        if (seen[model->sparse[block]]) continue;
        seen[model->sparse[block]] = true;
        for (int group = 0; group < sq_model_n_groups(model, block); group++) {
            int64_t bytes = group_bytes(model, block, group, compute);
            if (bytes > most) most = bytes;
        }
    }
    return most;
}

static int64_t parameters_length(const struct sq_model *model)
{
    const struct sq_section *const sections[] = {&model->stem, &model->blocks[SQ_BLOCK_DENSE],
                                                 &model->blocks[SQ_BLOCK_SPARSE], &model->head};
    int64_t most = 0;
    for (int i = 0; i < SQ_COUNT(sections); i++)
        if (sections[i]->parameters_length > most) most = sections[i]->parameters_length;
    return most;
}

static void make_map(const struct sq_model *model, enum sq_dtype compute, struct sq_slot_map *map)
{
    struct sq_program programs[SQ_N_BLOCK_KINDS];
    int n = 0;
    for (int kind = 0; kind < SQ_N_BLOCK_KINDS; kind++)
        if (model->has_kind[kind])
            programs[n++] = (struct sq_program){model->blocks[kind].steps, model->blocks[kind].n_steps};
    sq_slot_map_make(programs, n, &model->dims, compute, map);
}

static struct sq_attention attention_of(const struct sq_dimensions *dims)
{
    return (struct sq_attention){.n_heads = dims->n_heads,
                                 .n_kv_heads = dims->n_kv_heads,
                                 .head_dim = dims->head_dim,
                                 .value_dim = dims->value_dim};
}

static size_t scratch_bytes(const struct sq_backend_traits *traits, const struct sq_model *model,
                            const struct sq_slot_map *map, int64_t length)
{
    const struct sq_attention attention = attention_of(&model->dims);
    int64_t in_attention = (int64_t)traits->attention_scratch(&attention, length);
    return (size_t)sq_aligned(length * sq_slot_map_scratch_bytes(map) + in_attention);
}

/* Of a sample's activations on its way through a worker of a device that does not hold all of them. */
static size_t desk_bytes(const struct sq_slot_map *map, const struct sq_forward_options *options)
{
    if (options->place != SQ_ACTIVATIONS_ON_HOST) return 0;
    return (size_t)sq_forward_desk_offset(map, map->n_persistent, options->length);
}

static int64_t widest_row(const struct sq_slot_map *map)
{
    int64_t widest = 0;
    for (int i = 0; i < map->n_persistent; i++)
        if (map->persistent_stride[i] > widest) widest = map->persistent_stride[i];
    return widest;
}

static int64_t position_bytes(const struct sq_model *model, int64_t length)
{
    int64_t angles = 2 * length * (model->ropes[0].n_frequencies + model->ropes[1].n_frequencies);
    int64_t slopes = model->architecture->has_alibi ? model->dims.n_heads : 0;
    return (angles + slopes) * (int64_t)sizeof(float);
}

struct sq_forward_bytes sq_forward_predict_bytes(const struct sq_backend_traits *traits, int n_workers,
                                                 const struct sq_model *model, const struct sq_forward_options *options)
{
    struct sq_slot_map map;
    int64_t rows = options->n_samples * options->length, parameters = parameters_length(model) * (int64_t)sizeof(float);
    int n_lanes = options->groups_ahead > 0 ? SQ_LANES : 0;
    make_map(model, options->compute, &map);
    struct sq_forward_bytes bytes = {
        .activations = (int64_t)sq_activations_bytes(&map, rows),
        .input_row = widest_row(&map),
        .weights = (1 + options->groups_ahead) * weight_bytes(model, options->compute) + parameters,
        .weights_ahead = options->groups_ahead * weight_bytes(model, options->compute),
        .host_weights = parameters,
        .workspace =
            n_workers * (int64_t)(scratch_bytes(traits, model, &map, options->length) + desk_bytes(&map, options)) +
            position_bytes(model, options->length),
        .host_workspace =
            (n_workers + n_lanes) * (int64_t)sq_weights_piece_bytes(model) + options->n_samples * (int64_t)sizeof(bool),
        .host_embedding = (int64_t)sq_forward_table_bytes(model, options->length),
    };
    bytes.embedding = bytes.host_embedding + rows * (int64_t)sizeof(int32_t);
    return bytes;
}

/* --- creation ----------------------------------------------------------------------------------------------------- */

static enum sq_status take_backend(struct sq_forward *forward, const char *what, int64_t bytes, void *memory_p)
{
    return forward->backend->ops->alloc(forward->backend, what, (size_t)bytes, (void **)memory_p);
}

static enum sq_status make_angles(struct sq_forward *forward, int rope)
{
    struct sq_backend *backend = forward->backend;
    int64_t length = forward->options.length, count = length * forward->model->ropes[rope].n_frequencies;
    if (count == 0) return SQ_OK;
    size_t bytes = (size_t)count * sizeof(float);
    void *memory;
    SQ_TRY(sq_alloc("rotary angles", 2 * count, sizeof(float), &memory));
    float *cosine = memory, *sine = cosine + count;
    sq_rope_fill(&forward->model->ropes[rope], length, cosine, sine);
    enum sq_status status = take_backend(forward, "rotary angles", (int64_t)bytes, &forward->cosines[rope]);
    if (status == SQ_OK) status = take_backend(forward, "rotary angles", (int64_t)bytes, &forward->sines[rope]);
    if (status == SQ_OK) status = backend->ops->upload(backend, cosine, bytes, forward->cosines[rope]);
    if (status == SQ_OK) status = backend->ops->upload(backend, sine, bytes, forward->sines[rope]);
    sq_free(memory);
    return status;
}

static enum sq_status make_slopes(struct sq_forward *forward)
{
    struct sq_backend *backend = forward->backend;
    int64_t n_heads = forward->model->dims.n_heads;
    void *memory;
    if (!forward->model->architecture->has_alibi) return SQ_OK;
    SQ_TRY(sq_alloc("slopes of heads", n_heads, sizeof(float), &memory));
    sq_alibi_fill(n_heads, memory);
    size_t bytes = (size_t)n_heads * sizeof(float);
    enum sq_status status = take_backend(forward, "slopes of heads", (int64_t)bytes, &forward->slopes);
    if (status == SQ_OK) status = backend->ops->upload(backend, memory, bytes, forward->slopes);
    sq_free(memory);
    return status;
}

static enum sq_status take_memory(struct sq_forward *forward, const struct sq_forward_options *options)
{
    struct sq_backend *backend = forward->backend;
    const struct sq_model *model = forward->model;
    void *memory;
    forward->desk_bytes = desk_bytes(&forward->map, options);
    forward->scratch_bytes =
        scratch_bytes(backend->traits, model, &forward->map, options->length) + forward->desk_bytes;
    SQ_TRY(take_backend(forward, "the forward pass's scratch", (int64_t)forward->scratch_bytes * backend->n_workers,
                        &forward->scratch));
    SQ_TRY(sq_forward_ahead_create(forward, (size_t)weight_bytes(model, options->compute)));
    SQ_TRY(take_backend(forward, "norms and biases", parameters_length(model) * 4, &forward->parameters));
    SQ_TRY(sq_alloc("norms and biases", parameters_length(model), sizeof(float), &memory));
    forward->host_parameters = memory;
    SQ_TRY(backend->ops->alloc_host(backend, "rows read from a file",
                                    (size_t)backend->n_workers * sq_weights_piece_bytes(model), &forward->pieces));
    SQ_TRY(sq_alloc("marks of samples", options->n_samples, sizeof(bool), &memory));
    forward->failed = memory;
    for (int rope = 0; rope < 2; rope++)
        SQ_TRY(make_angles(forward, rope));
    SQ_TRY(make_slopes(forward));
    return sq_activations_create(backend, &forward->map, options->n_samples * options->length, options->place,
                                 options->folder, &forward->activations);
}

enum sq_status sq_forward_create(struct sq_backend *backend, const struct sq_model *model,
                                 const struct sq_forward_options *options, struct sq_forward **forward_p)
{
    if (options->length < 1 || (model->dims.max_length > 0 && options->length > model->dims.max_length)) {
        sq_error("samples have %lld tokens; the model knows positions up to %lld", (long long)options->length,
                 (long long)model->dims.max_length);
        return SQ_ERR_INPUT;
    }
    void *memory;
    SQ_TRY(sq_alloc("a forward pass", 1, sizeof(struct sq_forward), &memory));
    struct sq_forward *forward = memory;
    forward->backend = backend;
    forward->model = model;
    forward->options = *options;
    forward->options.folder = NULL; /* the caller's string; used here only */
    make_map(model, options->compute, &forward->map);
    enum sq_status status = take_memory(forward, options);
    if (status != SQ_OK) {
        sq_forward_destroy(forward);
        return status;
    }
    *forward_p = forward;
    return SQ_OK;
}

void sq_forward_destroy(struct sq_forward *forward)
{
    if (!forward) return;
    struct sq_backend *backend = forward->backend;
    sq_experts_destroy(forward->experts);
    sq_forward_ahead_destroy(forward);
    sq_activations_destroy(backend, &forward->activations);
    void *of_backend[] = {forward->scratch,  forward->parameters, forward->slopes,  forward->cosines[0],
                          forward->sines[0], forward->cosines[1], forward->sines[1]};
    for (int i = 0; i < SQ_COUNT(of_backend); i++)
        backend->ops->free(backend, of_backend[i]);
    sq_free(forward->host_parameters);
    backend->ops->free_host(backend, forward->pieces);
    sq_free(forward->failed);
    sq_free(forward);
}

/* --- views -------------------------------------------------------------------------------------------------------- */

struct sq_matrix sq_forward_slot(const struct sq_forward *forward, int slot)
{
    const struct sq_slot_place *place = &forward->map.places[slot];
    assert(place->is_persistent);
    int64_t stride = forward->activations.strides[place->area] / (int64_t)sq_dtype_size(place->dtype);
    return (struct sq_matrix){forward->activations.areas[place->area], place->dtype,
                              forward->options.n_samples * forward->options.length, place->width, stride};
}

/* The residual stream of one sample: dense rows. */
static void *hidden_of(const struct sq_forward *forward, int64_t sample, size_t *bytes_p)
{
    struct sq_matrix residual = sq_forward_slot(forward, 0);
    int64_t count = forward->options.length * residual.stride;
    *bytes_p = (size_t)count * sizeof(float);
    return (float *)residual.data + sample * count;
}

enum sq_status sq_forward_get_hidden(void *forward_p, int64_t sample, void *values)
{
    struct sq_forward *forward = forward_p;
    size_t bytes;
    const void *memory = hidden_of(forward, sample, &bytes);
    if (!sq_forward_is_on_host(forward))
        return forward->backend->ops->download(forward->backend, memory, bytes, values);
    memcpy(values, memory, bytes);
    return SQ_OK;
}

enum sq_status sq_forward_set_hidden(void *forward_p, int64_t sample, void *values)
{
    struct sq_forward *forward = forward_p;
    size_t bytes;
    void *memory = hidden_of(forward, sample, &bytes);
    if (!sq_forward_is_on_host(forward)) return forward->backend->ops->upload(forward->backend, values, bytes, memory);
    memcpy(memory, values, bytes);
    return SQ_OK;
}

struct sq_matrix sq_forward_group_input(const struct sq_forward *forward)
{
    const struct sq_section *section = forward->section;
    return sq_forward_slot(forward, section->steps[sq_section_stage(section, forward->group)->step].in[0]);
}

bool sq_forward_is_on_host(const struct sq_forward *forward)
{
    return forward->activations.place == SQ_ACTIVATIONS_ON_HOST;
}

struct sq_matrix sq_forward_weight_at(const struct sq_forward *forward, char *area, int64_t block, int group,
                                      int member)
{
    int first, count = sq_model_group_linears(forward->model, (int)block, group, &first);
    assert(member < count);
    (void)count;
    char *data = area;
    for (int i = first_together(forward->model, block, group); i < first + member; i++)
        data += linear_bytes(sq_model_linear(forward->model, i), forward->options.compute);
    const struct sq_linear *linear = sq_model_linear(forward->model, first + member);
    return sq_matrix_view(data, forward->options.compute, linear->out_features, linear->in_features);
}

struct sq_matrix sq_forward_weight_of(const struct sq_forward *forward, int group, int member)
{
    return sq_forward_weight_at(forward, forward->weights, forward->block, group, member);
}

struct sq_matrix sq_forward_linear_weight(struct sq_forward *forward, int member)
{
    assert(forward->block >= 0 && forward->block < forward->model->dims.n_blocks);
    return sq_forward_weight_of(forward, forward->group, member);
}

const float *sq_forward_head_bias(const struct sq_forward *forward)
{
    const struct sq_section *head = &forward->model->head;
    assert(forward->section == head);
    const struct sq_parameter *bias = sq_section_parameter(head, head->stages[0].step, 0, true);
    return bias ? forward->parameters + bias->offset : NULL;
}

void sq_forward_forget(const struct sq_forward *forward, int64_t row, int64_t rows)
{
    sq_activations_forget(&forward->activations, row, rows);
}

/* --- moving on ---------------------------------------------------------------------------------------------------- */

enum sq_status sq_forward_to_group(struct sq_forward *forward, int group)
{
    enum sq_status status = sq_forward_run_steps(forward, sq_section_stage(forward->section, group)->step);
    forward->group = group;
    return status;
}

enum sq_status sq_forward_finish_block(struct sq_forward *forward)
{
    return sq_forward_run_steps(forward, forward->section->n_steps);
}

/* --- what went wrong ---------------------------------------------------------------------------------------------- */

/* Place among all ranks' samples of the first of this rank's that failed; INT64_MAX: none. */
static int64_t first_failed(const struct sq_forward *forward)
{
    for (int64_t i = 0; i < forward->options.n_samples; i++)
        if (forward->failed[i]) return forward->options.first_sample + i;
    return INT64_MAX;
}

/* The steps stopped before next_step, so that its input is what holds no number. */
static void report_failed(const struct sq_forward *forward, int64_t sample)
{
    const struct sq_section *section = forward->section;
    if (forward->section == &forward->model->stem)
        sq_error("before the first block: the norm of the embedding of sample %lld is NaN or infinite",
                 (long long)sample);
    else if (forward->section == &forward->model->head)
        sq_error("after the last block: the final norm of sample %lld is NaN or infinite", (long long)sample);
    else if (forward->next_step < section->n_steps)
        sq_error("block %lld/%lld: the input%s of %s of sample %lld is NaN or infinite", (long long)forward->block + 1,
                 (long long)forward->model->dims.n_blocks,
                 section->steps[forward->next_step].kind == SQ_STEP_EXPERTS ? " or a routing score" : "",
                 section->steps[forward->next_step].out[0].tensor, (long long)sample);
    else
        sq_error("block %lld/%lld: the residual stream after its last step of sample %lld is NaN or infinite",
                 (long long)forward->block + 1, (long long)forward->model->dims.n_blocks, (long long)sample);
}

enum sq_status sq_forward_agree(const struct sq_forward *forward, const struct sq_comm *comm, enum sq_status mine)
{
    enum sq_status status = sq_comm_agree(comm, mine);
    if (status != SQ_ERR_NUMERIC) return status;
    int64_t sample = mine == SQ_ERR_NUMERIC ? first_failed(forward) : INT64_MAX;
    int64_t negated = -sample; /* the largest of these is the lowest sample */
    SQ_TRY(sq_comm_max_i64(comm, &negated, 1));
    if (sample != INT64_MAX && sample == -negated) report_failed(forward, sample);
    return status;
}
