/* Layer errors of experts: each is measured by the team that its tokens come to, with tokens by the same policy as when
 * it was quantized. */
#include <string.h>

#include "base/memory.h"
#include "gptq/verify_private.h"
#include "io/job_record.h"

/* --- the policy --------------------------------------------------------------------------------------------------- */

/* Of the record's configuration these two keys, read as any configuration is. */
enum sq_status sq_verify_read_policy(struct sq_verification *v)
{
    const json_t *made = json_object_get(v->record, "config");
    const char *word = json_string_value(json_object_get(made, "experts"));
    json_int_t least = json_integer_value(json_object_get(made, "expert_tokens"));
    struct sq_config config;
    char *text;
    v->policy = (struct sq_expert_policy){SQ_EXPERTS_ROUTE, 0};
    if (!word) return SQ_OK;
    SQ_TRY(sq_string_format(&text, "experts: %s\nexpert_tokens: %lld\n", word, (long long)least));
    enum sq_status status = sq_config_set_defaults(&config);
    if (status == SQ_OK) {
        status = sq_config_read_yaml(SQ_JOB_RECORD_NAME, text, strlen(text), &config);
        v->policy = (struct sq_expert_policy){config.experts, config.expert_tokens};
        sq_config_release(&config);
    }
    sq_free(text);
    return status;
}

/* --- an expert ---------------------------------------------------------------------------------------------------- */

/* Gate, up and down of one expert. */
struct expert_errors {
    double values[3];
    bool is_packed[3];
};

/* H of the present group, or H = I where no token came: as quantize has it. Collective on the team. */
static enum sq_status make_hessian(struct sq_verification *v, const struct sq_linear *linear,
                                   const struct sq_expert *expert)
{
    const struct sq_comm *team = sq_experts_team(v->forward);
    int64_t n = linear->in_features;
    struct sq_shards shards = sq_shards_make(expert->n_pieces, SQ_EXPERT_SHARDS, team->rank, team->size);
    v->hessian = sq_matrix_view(v->hessian.data, SQ_F32, n, n);
    struct sq_hessian_inputs inputs = {&shards, v->backend->sizes.expert_rows, sq_experts_input(v->forward), false};
    if (expert->n_tokens > 0) {
        enum sq_status made = sq_hessian_make(v->backend, team, -1, NULL, &inputs, &v->workspace, v->hessian);
        if (made == SQ_ERR_NUMERIC) v->too_large = linear->name;
        return made;
    }
    const float one = 1.0f;
    enum sq_status status = v->backend->ops->clear(v->backend, v->hessian.data, (size_t)(n * n) * sizeof one);
    for (int64_t i = 0; i < n && status == SQ_OK; i++)
        status = v->backend->ops->upload(v->backend, &one, sizeof one, (float *)v->hessian.data + i * n + i);
    return sq_comm_agree(team, status);
}

/* Gate and up, or down: their errors, and their weights for the forward pass. Collective on the team. */
static enum sq_status verify_part(struct sq_verification *v, const struct sq_expert *expert, int first, int count,
                                  struct expert_errors *errors)
{
    bool any_packed = false;
    for (int i = 0; i < count; i++)
        any_packed |= sq_verify_is_packed(v, sq_model_linear(v->model, first + i));
    if (any_packed) SQ_TRY(make_hessian(v, sq_model_linear(v->model, first), expert));
    for (int i = 0; i < count; i++) {
        int at = count == 1 ? 2 : i;
        v->linear = sq_model_linear(v->model, first + i);
        SQ_TRY(sq_experts_load(v->forward, i));
        errors->is_packed[at] = sq_verify_is_packed(v, v->linear);
        if (errors->is_packed[at]) SQ_TRY(sq_verify_measure(v, &errors->values[at]));
    }
    return SQ_OK;
}

static enum sq_status verify_expert(struct sq_verification *v, int block, int first_group,
                                    const struct sq_expert *expert, struct expert_errors *errors)
{
    if (expert->index < 0) return SQ_OK;
    for (int part = 0; part < 2; part++) {
        int first, count = sq_model_group_linears(v->model, block, first_group + 2 * expert->index + part, &first);
        sq_experts_select(v->forward, part);
        SQ_TRY(verify_part(v, expert, first, count, errors));
        if (part == 0) SQ_TRY(sq_comm_agree(v->team, sq_experts_activate(v->forward)));
    }
    return SQ_OK;
}

/* --- a wave of them ----------------------------------------------------------------------------------------------- */

/* What the experts make of the router's tokens, on its way back. Collective. */
static enum sq_status give(struct sq_verification *v, int first, struct sq_expert *expert)
{
    enum sq_status status = SQ_OK;
    if (!expert->is_routed) {
        SQ_TRY(sq_experts_take(v->forward, first, NULL, expert));
        sq_experts_select(v->forward, 0);
        status = sq_experts_activate(v->forward);
        sq_experts_select(v->forward, 1);
    }
    if (status == SQ_OK) status = sq_experts_finish(v->forward);
    SQ_TRY(sq_comm_agree(v->world, status));
    return sq_experts_give(v->forward);
}

/* Shows the layers of a wave that begins with expert `first`, on every rank. Collective. */
static enum sq_status show_wave(const struct sq_verification *v, int block, int first_group, int first, int count,
                                struct expert_errors *errors)
{
    for (int i = 0; i < count; i++) {
        int linear, leader = sq_team_begin(i, sq_experts_n_teams(v->forward), v->world->size);
        SQ_TRY(sq_comm_broadcast(v->world, leader, &errors[i], sizeof errors[i]));
        sq_model_group_linears(v->model, block, first_group + 2 * (first + i), &linear);
        for (int part = 0; part < 3; part++) {
            const struct sq_linear *l = sq_model_linear(v->model, linear + part);
            if (errors[i].is_packed[part])
                v->show(v->context, l->name, l->out_features, l->in_features, errors[i].values[part]);
        }
    }
    return SQ_OK;
}

static enum sq_status verify_wave(struct sq_verification *v, int block, int first_group, int first,
                                  struct expert_errors *errors)
{
    struct sq_expert expert;
    int left = sq_model_n_experts(v->model, block) - first, n_teams = sq_experts_n_teams(v->forward);
    SQ_TRY(sq_experts_take(v->forward, first, &v->policy, &expert));
    struct expert_errors *own = &errors[sq_experts_team_index(v->forward)];
    v->too_large = NULL;
    enum sq_status status = sq_comm_agree(v->world, verify_expert(v, block, first_group, &expert, own));
    SQ_TRY(sq_hessian_say(v->world, v->too_large, status));
    SQ_TRY(show_wave(v, block, first_group, first, left < n_teams ? left : n_teams, errors));
    return give(v, first, &expert);
}

enum sq_status sq_verify_experts(struct sq_verification *v, int block, int first_group)
{
    void *errors = NULL;
    SQ_TRY(sq_experts_begin(v->forward, v->world));
    int n_teams = sq_experts_n_teams(v->forward);
    v->team = sq_experts_team(v->forward);
    enum sq_status status =
        sq_comm_agree(v->world, sq_alloc("errors of experts", n_teams, sizeof(struct expert_errors), &errors));
    for (int first = 0; status == SQ_OK && first < sq_model_n_experts(v->model, block); first += n_teams)
        status = verify_wave(v, block, first_group, first, errors);
    sq_free(errors);
    if (status == SQ_OK) sq_experts_end(v->forward);
    return status;
}
