/* The steps of a program that a model has, and what they need: small tensors, groups of linears. */
#include "model/model_private.h"

/* Fills in where the parameter lies, and adds it. */
static void add_parameter(struct sq_section *section, struct sq_parameter parameter)
{
    parameter.length = parameter.n_tensors * parameter.shape[0] * (parameter.n_dims > 1 ? parameter.shape[1] : 1);
    parameter.offset = section->parameters_length;
    section->parameters[section->n_parameters++] = parameter;
    section->parameters_length += (parameter.length + 15) / 16 * 16; /* each starts a cache line */
}

static void add_stage(struct sq_section *section, int step, int n_groups, int n_linears)
{
    section->stages[section->n_stages++] =
        (struct sq_stage){step, section->n_groups, n_groups, section->n_linears, n_linears};
    section->n_groups += n_groups;
    section->n_linears += n_linears;
}

static void add_linear_step(const struct sq_dimensions *dims, int step, struct sq_section *section)
{
    const struct sq_step *s = &section->steps[step];
    add_stage(section, step, 1, s->n_out);
    for (int member = 0; member < s->n_out; member++) {
        if (!dims->bias[s->out[member].bias]) continue;
        int64_t width = sq_slot_width(dims, s->out[member].slot);
        add_parameter(
            section,
            (struct sq_parameter){
                .step = step, .member = member, .is_bias = true, .n_tensors = 1, .n_dims = 1, .shape = {width}});
    }
}

static void add_norm_step(const struct sq_dimensions *dims, int step, struct sq_section *section)
{
    const struct sq_step *s = &section->steps[step];
    int64_t width = sq_slot_width(dims, s->in[0]), n_heads = width / dims->head_dim;
    struct sq_parameter weight = {.step = step, .n_tensors = 1, .n_dims = 1, .shape = {width}};
    if (s->kind == SQ_STEP_HEAD_NORM) {
        weight.shape[0] = s->heads == SQ_HEADS_ROWS ? n_heads : dims->head_dim;
        weight.shape[1] = dims->head_dim;
        weight.n_dims = s->heads == SQ_HEADS_ROWS ? 2 : 1;
        weight.n_tensors = s->heads == SQ_HEADS_TENSORS ? n_heads : 1;
    }
    add_parameter(section, weight);
    if (!dims->bias[s->out[0].bias]) return;
    weight.is_bias = true;
    add_parameter(section, weight);
}

/* The router's weights [experts, width], and what is added to scores to choose. */
static void add_route_step(const struct sq_dimensions *dims, int step, struct sq_section *section)
{
    const struct sq_step *s = &section->steps[step];
    int64_t n = dims->n_experts, width = sq_slot_width(dims, s->in[0]);
    struct sq_parameter parameter = {.step = step, .n_tensors = 1, .n_dims = 2, .shape = {n, width}};
    add_parameter(section, parameter);
    parameter.n_dims = 1;
    parameter.is_bias = true;
    if (dims->bias[s->out[0].bias]) add_parameter(section, parameter);
    parameter.member = 1;
    parameter.is_whole_name = true;
    if (s->out[1].tensor) add_parameter(section, parameter);
}

/* Gate, up and down of every expert, and their biases: a tensor for each expert. */
static void add_experts_step(const struct sq_dimensions *dims, int step, struct sq_section *section)
{
    const struct sq_step *s = &section->steps[step];
    int64_t n = dims->n_experts;
    add_stage(section, step, 2 * (int)n, 3 * (int)n);
    for (int part = 0; n > 0 && part < s->n_out; part++) {
        if (!dims->bias[s->out[part].bias]) continue;
        int64_t width = part < 2 ? dims->expert_ffn : sq_slot_width(dims, s->out[part].slot);
        add_parameter(
            section, (struct sq_parameter){
                         .step = step, .member = part, .is_bias = true, .n_tensors = n, .n_dims = 1, .shape = {width}});
    }
}

static void add_attention_step(const struct sq_dimensions *dims, int step, struct sq_section *section)
{
    if (!section->steps[step].out[0].tensor) return;
    add_parameter(section,
                  (struct sq_parameter){
                      .step = step, .is_whole_name = true, .n_tensors = 1, .n_dims = 1, .shape = {dims->n_heads}});
}

static void add_gate_step(const struct sq_dimensions *dims, int step, struct sq_section *section)
{
    int64_t width = sq_slot_width(dims, section->steps[step].in[0]);
    add_parameter(section, (struct sq_parameter){.step = step, .n_tensors = 1, .n_dims = 2, .shape = {1, width}});
}

static void add_what_it_needs(const struct sq_dimensions *dims, int step, struct sq_section *section)
{
    switch (section->steps[step].kind) {
    case SQ_STEP_LINEAR:
        add_linear_step(dims, step, section);
        break;
    case SQ_STEP_NORM:
    case SQ_STEP_HEAD_NORM:
        add_norm_step(dims, step, section);
        break;
    case SQ_STEP_ROUTE:
        add_route_step(dims, step, section);
        break;
    case SQ_STEP_EXPERTS:
        add_experts_step(dims, step, section);
        break;
    case SQ_STEP_ATTENTION:
        add_attention_step(dims, step, section);
        break;
    case SQ_STEP_GATE_ROWS:
        add_gate_step(dims, step, section);
        break;
    default:
        break;
    }
}

static bool has_step(const struct sq_dimensions *dims, const struct sq_step *step)
{
    if (step->when != SQ_VARIANT_NONE && !dims->variant[step->when]) return false;
    return step->unless == SQ_VARIANT_NONE || !dims->variant[step->unless];
}

void sq_section_fill(const struct sq_dimensions *dims, const struct sq_program *program, struct sq_section *section)
{
    *section = (struct sq_section){.n_steps = 0};
    for (int i = 0; i < program->n_steps; i++) {
        const struct sq_step *step = &program->steps[i];
        if (!has_step(dims, step)) continue;
        section->steps[section->n_steps] = *step;
        add_what_it_needs(dims, section->n_steps, section);
        section->n_steps++;
    }
}

const struct sq_stage *sq_section_stage(const struct sq_section *section, int group)
{
    const struct sq_stage *stage = section->stages;
    while (group >= stage->first_group + stage->n_groups)
        stage++;
    return stage;
}

int sq_section_group(const struct sq_section *section, int group, int *first_p)
{
    const struct sq_stage *stage = sq_section_stage(section, group);
    int index = group - stage->first_group;
    *first_p = stage->first_linear;
    if (!sq_section_is_experts(section, stage)) return stage->n_linears;
    *first_p += index / 2 * 3 + index % 2 * 2;
    return index % 2 ? 1 : 2;
}

const struct sq_parameter *sq_section_parameter(const struct sq_section *section, int step, int member, bool is_bias)
{
    for (int i = 0; i < section->n_parameters; i++) {
        const struct sq_parameter *p = &section->parameters[i];
        if (p->step == step && p->member == member && p->is_bias == is_bias) return p;
    }
    return NULL;
}
