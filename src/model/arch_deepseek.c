/* DeepSeek-V2, V3, R1: attention from latents (MLA), and from some block on experts beside one that every token goes
 * to. Queries, keys and values are made from narrow vectors; a key is a part of its head's own, and a part that turns
 * with the position and is the same for all heads. V2 chooses experts by softmax, V3 by sigmoid and a bias. The layer
 * behind the last block that predicts one token more (num_nextn_predict_layers) takes no part in the logits: it is not
 * read, and copied into the checkpoint as it is. */
#include "model/architecture.h"

#define LATENT_EPSILON 1e-6 /* whatever config.json says of the other norms */

#define ATTENTION_STEPS                                                                                                \
    {SQ_NORM(RESIDUAL, INPUT, "input_layernorm", NEVER)},                                                              \
        {SQ_LINEARS(INPUT, 2, SQ_TO(Q_LATENT, "self_attn.q_a_proj", QKV),                                              \
                    SQ_TO(LATENTS, "self_attn.kv_a_proj_with_mqa", QKV)),                                              \
         .when = SQ_VARIANT_Q_LATENT},                                                                                 \
        {SQ_LINEARS(INPUT, 2, SQ_TO(Q, "self_attn.q_proj", NEVER),                                                     \
                    SQ_TO(LATENTS, "self_attn.kv_a_proj_with_mqa", QKV)),                                              \
         .unless = SQ_VARIANT_Q_LATENT},                                                                               \
        {SQ_SPLIT_LATENTS},                                                                                            \
        {SQ_NORM(KV_LATENT, KV_LATENT, "self_attn.kv_a_layernorm", NEVER), .epsilon = LATENT_EPSILON},                 \
        {SQ_NORM(Q_LATENT, Q_LATENT, "self_attn.q_a_layernorm", NEVER), .epsilon = LATENT_EPSILON,                     \
         .when = SQ_VARIANT_Q_LATENT},                                                                                 \
        {SQ_LINEAR(Q_LATENT, Q, "self_attn.q_b_proj", NEVER), .when = SQ_VARIANT_Q_LATENT},                            \
        {SQ_LINEAR(KV_LATENT, KV, "self_attn.kv_b_proj", NEVER)}, {SQ_ROPE(Q)}, {SQ_ROPE(K_TURNING)}, {SQ_JOIN_KEYS},  \
        {SQ_ATTENTION}, {SQ_LINEAR(ATTENDED, OUTPUT, "self_attn.o_proj", QKV)}, {SQ_ADD(OUTPUT)},                      \
    {                                                                                                                  \
        SQ_NORM(RESIDUAL, INPUT, "post_attention_layernorm", NEVER)                                                    \
    }

#define DENSE_STEPS                                                                                                    \
    {SQ_LINEARS(INPUT, 2, SQ_TO(GATE, "mlp.gate_proj", NEVER), SQ_TO(UP, "mlp.up_proj", NEVER)),                       \
     .unless = SQ_VARIANT_EXPERTS},                                                                                    \
        {SQ_ACTIVATE_GATED, .unless = SQ_VARIANT_EXPERTS},                                                             \
        {SQ_LINEAR(ACTIVE, OUTPUT, "mlp.down_proj", NEVER), .unless = SQ_VARIANT_EXPERTS},                             \
    {                                                                                                                  \
        SQ_ADD(OUTPUT), .unless = SQ_VARIANT_EXPERTS                                                                   \
    }

#define SHARED .when = SQ_VARIANT_EXPERTS, .unless = SQ_VARIANT_NO_SHARED

#define EXPERT_STEPS(route)                                                                                            \
    {SQ_COPY(INPUT, ROUTER_INPUT), .when = SQ_VARIANT_EXPERTS}, {route, .when = SQ_VARIANT_EXPERTS},                   \
        {SQ_EXPERTS(INPUT, OUTPUT, "mlp.experts.#.gate_proj", "mlp.experts.#.up_proj", "mlp.experts.#.down_proj"),     \
         .when = SQ_VARIANT_EXPERTS},                                                                                  \
        {SQ_ADD(OUTPUT), .when = SQ_VARIANT_EXPERTS},                                                                  \
        {SQ_LINEARS(INPUT, 2, SQ_TO(SHARED_GATE, "mlp.shared_experts.gate_proj", NEVER),                               \
                    SQ_TO(SHARED_UP, "mlp.shared_experts.up_proj", NEVER)),                                            \
         SHARED},                                                                                                      \
        {SQ_ACTIVATE_SHARED, SHARED},                                                                                  \
        {SQ_LINEAR(SHARED_ACTIVE, OUTPUT, "mlp.shared_experts.down_proj", NEVER), SHARED},                             \
    {                                                                                                                  \
        SQ_ADD(OUTPUT), SHARED                                                                                         \
    }

static const struct sq_step block2[] = {
    ATTENTION_STEPS,
    DENSE_STEPS,
    EXPERT_STEPS(SQ_ROUTE("mlp.gate")),
};

static const struct sq_step block3[] = {
    ATTENTION_STEPS,
    DENSE_STEPS,
    EXPERT_STEPS(SQ_ROUTE_BIASED("mlp.gate", "mlp.gate.e_score_correction_bias")),
};

static const struct sq_step head[] = {
    {SQ_NORM(RESIDUAL, INPUT, "norm", NEVER)},
    {SQ_LINEAR(INPUT, LOGITS, "lm_head", NEVER)},
};

#define COMMON_KEYS                                                                                                    \
    SQ_KEYS_SHAPE, SQ_KEY_DEFAULT("q_lora_rank", SQ_KEY_INT_OR_NULL, q_rank, "1536"),                                  \
        SQ_KEY_REQUIRED("kv_lora_rank", SQ_KEY_INT, kv_rank),                                                          \
        SQ_KEY_REQUIRED("qk_nope_head_dim", SQ_KEY_INT, still_dim),                                                    \
        SQ_KEY_REQUIRED("qk_rope_head_dim", SQ_KEY_INT, rotary_dim),                                                   \
        SQ_KEY_REQUIRED("v_head_dim", SQ_KEY_INT, value_dim),                                                          \
        SQ_KEY_REQUIRED("n_routed_experts", SQ_KEY_INT, n_experts),                                                    \
        SQ_KEY_REQUIRED("num_experts_per_tok", SQ_KEY_INT, n_chosen),                                                  \
        SQ_KEY_REQUIRED("moe_intermediate_size", SQ_KEY_INT, expert_ffn),                                              \
        SQ_KEY_DEFAULT("hidden_act", SQ_KEY_ACTIVATION, activation, "\"silu\""),                                       \
        SQ_KEY_DEFAULT("rms_norm_eps", SQ_KEY_FLOAT, epsilon, "1e-6"),                                                 \
        SQ_KEY_DEFAULT("attention_bias", SQ_KEY_BOOL, bias[SQ_BIAS_QKV], "false"),                                     \
        SQ_KEY_DEFAULT("tie_word_embeddings", SQ_KEY_BOOL, tied, "false")

static const struct sq_config_key keys2[] = {
    COMMON_KEYS,
    SQ_KEY_DEFAULT("n_shared_experts", SQ_KEY_INT_OR_NULL, n_shared, "2"),
    SQ_KEY_DEFAULT("first_k_dense_replace", SQ_KEY_INT, first_sparse, "0"),
    SQ_KEY_DEFAULT("topk_method", SQ_KEY_TOPK_METHOD, limits_groups, "\"greedy\""),
    SQ_KEY_DEFAULT("n_group", SQ_KEY_INT_OR_NULL, n_expert_groups, "0"),
    SQ_KEY_DEFAULT("topk_group", SQ_KEY_INT_OR_NULL, n_chosen_groups, "0"),
    SQ_KEY_DEFAULT("routed_scaling_factor", SQ_KEY_FLOAT, route_scale, "1.0"),
};

static const struct sq_config_key keys3[] = {
    COMMON_KEYS,
    SQ_KEY_DEFAULT("n_shared_experts", SQ_KEY_INT_OR_NULL, n_shared, "1"),
    SQ_KEY_DEFAULT("first_k_dense_replace", SQ_KEY_INT, first_sparse, "3"),
    SQ_KEY_DEFAULT("n_group", SQ_KEY_INT_OR_NULL, n_expert_groups, "8"),
    SQ_KEY_DEFAULT("topk_group", SQ_KEY_INT_OR_NULL, n_chosen_groups, "4"),
    SQ_KEY_DEFAULT("norm_topk_prob", SQ_KEY_BOOL, normalise_routes, "true"),
    SQ_KEY_DEFAULT("routed_scaling_factor", SQ_KEY_FLOAT, route_scale, "2.5"),
};

/* norm_topk_prob of V2: readers do not agree on it */
static const struct sq_config_fixed fixed2[] = {
    {"scoring_func", "\"softmax\""}, {"norm_topk_prob", "false"}, {"moe_layer_freq", "1"}, {"mlp_bias", "false"}};
static const struct sq_config_fixed fixed3[] = {
    {"scoring_func", "\"sigmoid\""}, {"topk_method", "\"noaux_tc\""}, {"moe_layer_freq", "1"}};

static void complete3(struct sq_dimensions *dims)
{
    dims->head_dim = dims->still_dim + dims->rotary_dim;
    dims->shared_ffn = dims->n_shared * dims->expert_ffn;
    dims->variant[SQ_VARIANT_Q_LATENT] = dims->q_rank > 0;
    dims->variant[SQ_VARIANT_NO_SHARED] = dims->n_shared == 0;
}

static void complete2(struct sq_dimensions *dims)
{
    complete3(dims);
    if (!dims->limits_groups) dims->n_expert_groups = 0;
}

#define DEEPSEEK                                                                                                       \
    .head = SQ_PROGRAM(head), .norm = SQ_NORM_RMS, .prefixes = {"model.", ""}, .embedding = "embed_tokens",            \
    .blocks = "layers"

const struct sq_architecture sq_arch_deepseek_v2 = {
    DEEPSEEK,
    .name = "DeepseekV2ForCausalLM",
    .config = {keys2, SQ_COUNT(keys2), fixed2, SQ_COUNT(fixed2), .complete = complete2},
    .block = SQ_PROGRAM(block2),
    .rope = {.use = SQ_ROPE_EVERYWHERE, .pairs = SQ_ROPE_NEIGHBOURS, .at_end = true, .scales_scores = true},
    .routing = {SQ_ROUTER_SOFTMAX, SQ_GROUP_BEST},
};

const struct sq_architecture sq_arch_deepseek_v3 = {
    DEEPSEEK,
    .name = "DeepseekV3ForCausalLM",
    .config = {keys3, SQ_COUNT(keys3), fixed3, SQ_COUNT(fixed3), .complete = complete3},
    .block = SQ_PROGRAM(block3),
    .rope = {.use = SQ_ROPE_EVERYWHERE,
             .pairs = SQ_ROPE_NEIGHBOURS,
             .pairs_key = "rope_interleave",
             .at_end = true,
             .scales_scores = true},
    .routing = {SQ_ROUTER_SIGMOID, SQ_GROUP_BEST_TWO},
};
