/* The steps themselves, on one sample by one worker. */
#include "model/forward_private.h"

/* One sample in a worker's hands. */
struct sample {
    const struct sq_forward *forward;
    int64_t index;
    char *scratch;
    char *desk; /* its activations when all of them are on the host, area after area; else NULL */
};

static char *desk_area(const struct sample *sample, int area)
{
    return sample->desk + sq_forward_desk_offset(&sample->forward->map, area, sample->forward->options.length);
}

static struct sq_matrix slot_of(const struct sample *sample, int slot)
{
    const struct sq_forward *forward = sample->forward;
    const struct sq_slot_place *place = &forward->map.places[slot];
    int64_t length = forward->options.length;
    if (place->is_persistent && sample->desk) {
        int64_t stride = forward->map.persistent_stride[place->area] / (int64_t)sq_dtype_size(place->dtype);
        return (struct sq_matrix){desk_area(sample, place->area), place->dtype, length, place->width, stride};
    }
    if (place->is_persistent)
        return sq_matrix_part(sq_forward_slot(forward, slot), sample->index * length, length, 0, place->width);
    char *data = sample->scratch;
    for (int area = 0; area < place->area; area++)
        data += length * forward->map.scratch_stride[area];
    int64_t stride = place->stride / (int64_t)sq_dtype_size(place->dtype);
    return (struct sq_matrix){data, place->dtype, length, place->width, stride};
}

const float *sq_forward_parameter(const struct sq_forward *forward, int step, int member, bool is_bias)
{
    const struct sq_parameter *parameter = sq_section_parameter(forward->section, step, member, is_bias);
    return parameter ? forward->parameters + parameter->offset : NULL;
}

static enum sq_status run_norm(const struct sample *sample, int index, const struct sq_step *step)
{
    const struct sq_forward *forward = sample->forward;
    double epsilon = step->epsilon > 0 ? step->epsilon : forward->model->dims.epsilon;
    return forward->backend->ops->norm(forward->backend, forward->model->architecture->norm,
                                       slot_of(sample, step->in[0]), sq_forward_parameter(forward, index, 0, false),
                                       sq_forward_parameter(forward, index, 0, true), (float)epsilon,
                                       slot_of(sample, step->out[0].slot));
}

static enum sq_status run_head_norm(const struct sample *sample, int index, const struct sq_step *step)
{
    const struct sq_forward *forward = sample->forward;
    struct sq_matrix x = slot_of(sample, step->in[0]);
    int64_t head_dim = forward->model->dims.head_dim;
    const float *weight = sq_forward_parameter(forward, index, 0, false),
                *bias = sq_forward_parameter(forward, index, 0, true);
    for (int64_t col = 0; col < x.cols; col += head_dim) {
        struct sq_matrix head = sq_matrix_part(x, 0, x.rows, col, head_dim);
        int64_t first = step->heads == SQ_HEADS_SHARE ? 0 : col;
        SQ_TRY(forward->backend->ops->norm(forward->backend, forward->model->architecture->norm, head, weight + first,
                                           bias ? bias + first : NULL, (float)forward->model->dims.epsilon, head));
    }
    return SQ_OK;
}

static int group_of_step(const struct sq_section *section, int index)
{
    const struct sq_stage *stage = section->stages;
    while (stage->step != index)
        stage++;
    return stage->first_group;
}

static enum sq_status run_linear(const struct sample *sample, int index, const struct sq_step *step)
{
    const struct sq_forward *forward = sample->forward;
    int group = group_of_step(forward->section, index);
    struct sq_matrix x = slot_of(sample, step->in[0]);
    for (int member = 0; member < step->n_out; member++)
        SQ_TRY(forward->backend->ops->linear(forward->backend, x, sq_forward_weight_of(forward, group, member),
                                             sq_forward_parameter(forward, index, member, true),
                                             slot_of(sample, step->out[member].slot)));
    return SQ_OK;
}

static enum sq_status run_rope(const struct sample *sample, const struct sq_step *step)
{
    const struct sq_forward *forward = sample->forward;
    const struct sq_model *model = forward->model;
    int index = sq_model_rope(model, forward->block);
    if (index < 0) return SQ_OK;
    const struct sq_rope *rope = &model->ropes[index];
    struct sq_matrix x = slot_of(sample, step->in[0]);
    bool is_whole = x.cols >= model->dims.head_dim; /* else it is only what turns */
    int64_t first = is_whole && model->architecture->rope.at_end ? model->dims.head_dim - 2 * rope->n_frequencies : 0;
    return forward->backend->ops->rope(forward->backend, rope->pairs,
                                       sq_matrix_part(x, 0, x.rows, first, x.cols - first), model->dims.head_dim,
                                       rope->n_frequencies, forward->cosines[index], forward->sines[index]);
}

static enum sq_status run_attention(const struct sample *sample, int index, const struct sq_step *step)
{
    const struct sq_forward *forward = sample->forward;
    const struct sq_dimensions *dims = &forward->model->dims;
    struct sq_attention shape = {.n_heads = dims->n_heads,
                                 .n_kv_heads = dims->n_kv_heads,
                                 .head_dim = dims->head_dim,
                                 .value_dim = dims->value_dim,
                                 .scale = (float)dims->attention_scale,
                                 .window = forward->model->windows[forward->block],
                                 .cap = (float)dims->attention_cap,
                                 .slopes = forward->slopes,
                                 .sinks = sq_forward_parameter(forward, index, 0, false)};
    char *scratch = sample->scratch + forward->options.length * sq_slot_map_scratch_bytes(&forward->map);
    return forward->backend->ops->attention(forward->backend, &shape, slot_of(sample, step->in[0]),
                                            slot_of(sample, step->in[1]), slot_of(sample, step->in[2]), scratch,
                                            slot_of(sample, step->out[0].slot));
}

static enum sq_status run_route(const struct sample *sample, int index, const struct sq_step *step)
{
    const struct sq_forward *forward = sample->forward;
    const struct sq_dimensions *dims = &forward->model->dims;
    const struct sq_routing_form *form = &forward->model->architecture->routing;
    struct sq_matrix x = slot_of(sample, step->in[0]), scores = slot_of(sample, step->out[0].slot);
    struct sq_matrix chosen = slot_of(sample, step->out[1].slot);
    struct sq_routing routing = {.kind = form->kind,
                                 .n_experts = dims->n_experts,
                                 .n_chosen = dims->n_chosen,
                                 .n_groups = dims->n_expert_groups,
                                 .n_chosen_groups = dims->n_chosen_groups,
                                 .group_score = form->group_score,
                                 .normalise = dims->normalise_routes,
                                 .scale = (float)dims->route_scale,
                                 .bias = sq_forward_parameter(forward, index, 1, true)};
    float *router = (float *)(uintptr_t)sq_forward_parameter(forward, index, 0, false); /* a matrix may be written to */
    SQ_TRY(forward->backend->ops->linear(forward->backend, x, sq_matrix_view(router, SQ_F32, scores.cols, x.cols),
                                         sq_forward_parameter(forward, index, 0, true), scores));
    chosen.dtype = SQ_I32; /* as wide as F32 */
    return forward->backend->ops->route(forward->backend, &routing, scores, chosen, slot_of(sample, step->out[2].slot));
}

static enum sq_status run_split(const struct sample *sample, const struct sq_step *step)
{
    struct sq_backend *backend = sample->forward->backend;
    struct sq_matrix in = slot_of(sample, step->in[0]);
    for (int64_t member = 0, col = 0; member < step->n_out; member++) {
        struct sq_matrix out = slot_of(sample, step->out[member].slot);
        SQ_TRY(backend->ops->convert(backend, sq_matrix_part(in, 0, in.rows, col, out.cols), out));
        col += out.cols;
    }
    return SQ_OK;
}

/* From column `from` of every head of x, `x_step` wide, to column `to` of every head of y. */
static enum sq_status copy_parts(const struct sample *sample, int64_t width, struct sq_matrix x, int64_t from,
                                 int64_t x_step, struct sq_matrix y, int64_t to, int64_t y_step)
{
    struct sq_backend *backend = sample->forward->backend;
    return backend->ops->copy_parts(backend, sample->forward->model->dims.n_kv_heads, width,
                                    sq_matrix_part(x, 0, x.rows, from, x.cols - from), x_step,
                                    sq_matrix_part(y, 0, y.rows, to, y.cols - to), y_step);
}

static enum sq_status run_split_heads(const struct sample *sample, const struct sq_step *step)
{
    const struct sq_dimensions *dims = &sample->forward->model->dims;
    struct sq_matrix in = slot_of(sample, step->in[0]);
    int64_t group = in.cols / dims->n_kv_heads, col = 0;
    for (int member = 0; member < step->n_out; member++) {
        struct sq_matrix out = slot_of(sample, step->out[member].slot);
        int64_t width = out.cols / dims->n_kv_heads;
        SQ_TRY(copy_parts(sample, width, in, col, group, out, 0, width));
        col += width;
    }
    return SQ_OK;
}

static enum sq_status run_join_keys(const struct sample *sample, const struct sq_step *step)
{
    const struct sq_dimensions *dims = &sample->forward->model->dims;
    int64_t still = dims->still_dim, both = still + dims->value_dim;
    struct sq_matrix in = slot_of(sample, step->in[0]), turning = slot_of(sample, step->in[1]);
    struct sq_matrix keys = slot_of(sample, step->out[0].slot), values = slot_of(sample, step->out[1].slot);
    SQ_TRY(copy_parts(sample, still, in, 0, both, keys, 0, dims->head_dim));
    SQ_TRY(copy_parts(sample, turning.cols, turning, 0, 0, keys, still, dims->head_dim));
    return copy_parts(sample, dims->value_dim, in, still, both, values, 0, dims->value_dim);
}

static enum sq_status run_step(const struct sample *sample, int index)
{
    const struct sq_forward *forward = sample->forward;
    const struct sq_step *step = &forward->section->steps[index];
    const struct sq_dimensions *dims = &forward->model->dims;
    struct sq_backend *backend = forward->backend;
    switch (step->kind) {
    case SQ_STEP_NORM:
        return run_norm(sample, index, step);
    case SQ_STEP_LINEAR:
        return run_linear(sample, index, step);
    case SQ_STEP_HEAD_NORM:
        return run_head_norm(sample, index, step);
    case SQ_STEP_ROPE:
        return run_rope(sample, step);
    case SQ_STEP_ATTENTION:
        return run_attention(sample, index, step);
    case SQ_STEP_ACTIVATE:
        return backend->ops->activate(backend, dims->activation, slot_of(sample, step->in[0]),
                                      step->n_in > 1 ? slot_of(sample, step->in[1]) : (struct sq_matrix){0},
                                      slot_of(sample, step->out[0].slot));
    case SQ_STEP_ADD:
        return backend->ops->add(backend, slot_of(sample, step->in[0]), slot_of(sample, SQ_SLOT_RESIDUAL));
    case SQ_STEP_SCALE:
        return backend->ops->rescale(backend, (float)dims->residual_scale, 0, slot_of(sample, step->in[0]));
    case SQ_STEP_SPLIT:
        return run_split(sample, step);
    case SQ_STEP_SPLIT_HEADS:
        return run_split_heads(sample, step);
    case SQ_STEP_JOIN_KEYS:
        return run_join_keys(sample, step);
    case SQ_STEP_ROUTE:
        return run_route(sample, index, step);
    case SQ_STEP_GATE_ROWS:
        return backend->ops->gate_rows(backend, slot_of(sample, step->in[0]),
                                       sq_forward_parameter(forward, index, 0, false),
                                       slot_of(sample, step->out[0].slot));
    case SQ_STEP_EXPERTS: /* done for all samples together (experts.h) before the steps after it */
        return SQ_OK;
    case SQ_STEP_COPY:
        break;
    }
    return backend->ops->convert(backend, slot_of(sample, step->in[0]), slot_of(sample, step->out[0].slot));
}

/* Steps [first, end) of all samples, as the parallel items see it. */
struct segment {
    struct sq_forward *forward;
    int first, end;
    int n_checked;
    enum sq_slot checked_slots[2]; /* what the segment ends in: a step's input, or the residual stream */
    struct sq_slot_traffic traffic;
};

/* Scores that are no numbers choose experts all the same, so that those count as an EXPERTS step's input. */
static struct segment segment_to(struct sq_forward *forward, int end)
{
    const struct sq_section *section = forward->section;
    const struct sq_step *step = end < section->n_steps ? &section->steps[end] : NULL;
    struct segment segment = {.forward = forward,
                              .first = forward->next_step,
                              .end = end,
                              .n_checked = 1,
                              .checked_slots = {step ? step->in[0] : SQ_SLOT_RESIDUAL}};
    if (step && step->kind == SQ_STEP_EXPERTS) segment.checked_slots[segment.n_checked++] = step->in[3];
    segment.traffic = sq_slot_map_traffic(&forward->map, section->steps, segment.first, end, segment.checked_slots,
                                          segment.n_checked);
    return segment;
}

/* --- samples that come from the host and go back there ------------------------------------------------------------ */

/* A sample's rows of an area on the host. */
static char *host_area(const struct sample *sample, int area, size_t *bytes_p)
{
    const struct sq_activations *activations = &sample->forward->activations;
    int64_t bytes = sample->forward->options.length * activations->strides[area];
    *bytes_p = (size_t)bytes;
    return activations->areas[area] + sample->index * bytes;
}

/* What the worker's sample before this one left on the desk is on its way out until settle(). */
static enum sq_status bring_in(const struct sample *sample, uint32_t areas)
{
    struct sq_backend *backend = sample->forward->backend;
    if (!sample->desk) return SQ_OK;
    SQ_TRY(backend->ops->settle(backend));
    for (int area = 0; area < sample->forward->map.n_persistent; area++) {
        size_t bytes;
        const char *host = host_area(sample, area, &bytes);
        if (areas >> area & 1u) SQ_TRY(backend->ops->upload(backend, host, bytes, desk_area(sample, area)));
    }
    return SQ_OK;
}

static enum sq_status bring_back(const struct sample *sample, uint32_t areas)
{
    struct sq_backend *backend = sample->forward->backend;
    if (!sample->desk) return SQ_OK;
    for (int area = 0; area < sample->forward->map.n_persistent; area++) {
        size_t bytes;
        char *host = host_area(sample, area, &bytes);
        if (areas >> area & 1u) SQ_TRY(backend->ops->fetch(backend, desk_area(sample, area), bytes, host));
    }
    return SQ_OK;
}

static enum sq_status run_sample(void *context, int64_t index, int worker)
{
    const struct segment *segment = context;
    struct sq_forward *forward = segment->forward;
    char *scratch = forward->scratch + (size_t)worker * forward->scratch_bytes;
    char *desk = forward->desk_bytes > 0 ? scratch + forward->scratch_bytes - forward->desk_bytes : NULL;
    struct sample sample = {forward, index, scratch, desk};
    SQ_TRY(bring_in(&sample, segment->traffic.in));
    for (int step = segment->first; step < segment->end; step++)
        SQ_TRY(run_step(&sample, step));
    bool finite = true;
    for (int i = 0; i < segment->n_checked && finite; i++)
        SQ_TRY(
            forward->backend->ops->all_finite(forward->backend, slot_of(&sample, segment->checked_slots[i]), &finite));
    SQ_TRY(bring_back(&sample, segment->traffic.out));
    sq_forward_forget(forward, index * forward->options.length, forward->options.length);
    forward->failed[index] = !finite;
    return finite ? SQ_OK : SQ_ERR_NUMERIC;
}

enum sq_status sq_forward_run_steps(struct sq_forward *forward, int end)
{
    struct segment segment = segment_to(forward, end);
    forward->next_step = end;
    return forward->backend->ops->parallel(forward->backend, forward->options.n_samples, run_sample, &segment);
}
