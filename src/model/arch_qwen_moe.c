/* Qwen2-MoE and Qwen3-MoE: Qwen2 and Qwen3 with experts in some blocks; in Qwen2-MoE every token also goes to a shared
 * expert, which has a gate. */
#include "model/architecture.h"

#define ATTENTION_STEPS                                                                                                \
    {SQ_NORM(RESIDUAL, INPUT, "input_layernorm", NEVER)},                                                              \
        {SQ_LINEARS(INPUT, 3, SQ_TO(Q, "self_attn.q_proj", QKV), SQ_TO(K, "self_attn.k_proj", QKV),                    \
                    SQ_TO(V, "self_attn.v_proj", QKV))},                                                               \
        {SQ_HEAD_NORM(Q, "self_attn.q_norm", NEVER), .when = SQ_VARIANT_QK_NORM},                                      \
        {SQ_HEAD_NORM(K, "self_attn.k_norm", NEVER), .when = SQ_VARIANT_QK_NORM}, {SQ_ROPE(Q)}, {SQ_ROPE(K)},          \
        {SQ_ATTENTION}, {SQ_LINEAR(ATTENDED, OUTPUT, "self_attn.o_proj", ATTENTION_OUT)}, {SQ_ADD(OUTPUT)},            \
    {                                                                                                                  \
        SQ_NORM(RESIDUAL, INPUT, "post_attention_layernorm", NEVER)                                                    \
    }

#define DENSE_STEPS                                                                                                    \
    {SQ_LINEARS(INPUT, 2, SQ_TO(GATE, "mlp.gate_proj", NEVER), SQ_TO(UP, "mlp.up_proj", NEVER)),                       \
     .unless = SQ_VARIANT_EXPERTS},                                                                                    \
        {SQ_ACTIVATE_GATED, .unless = SQ_VARIANT_EXPERTS},                                                             \
    {                                                                                                                  \
        SQ_LINEAR(ACTIVE, OUTPUT, "mlp.down_proj", NEVER), .unless = SQ_VARIANT_EXPERTS                                \
    }

#define EXPERT_STEPS                                                                                                   \
    {SQ_COPY(INPUT, ROUTER_INPUT), .when = SQ_VARIANT_EXPERTS}, {SQ_ROUTE("mlp.gate"), .when = SQ_VARIANT_EXPERTS},    \
    {                                                                                                                  \
        SQ_EXPERTS(INPUT, OUTPUT, "mlp.experts.#.gate_proj", "mlp.experts.#.up_proj", "mlp.experts.#.down_proj"),      \
            .when = SQ_VARIANT_EXPERTS                                                                                 \
    }

static const struct sq_step qwen2_block[] = {
    ATTENTION_STEPS,
    DENSE_STEPS,
    EXPERT_STEPS,
    {SQ_ADD(OUTPUT)},
    {SQ_LINEARS(INPUT, 2, SQ_TO(SHARED_GATE, "mlp.shared_expert.gate_proj", NEVER),
                SQ_TO(SHARED_UP, "mlp.shared_expert.up_proj", NEVER)),
     .when = SQ_VARIANT_EXPERTS},
    {SQ_ACTIVATE_SHARED, .when = SQ_VARIANT_EXPERTS},
    {SQ_LINEAR(SHARED_ACTIVE, OUTPUT, "mlp.shared_expert.down_proj", NEVER), .when = SQ_VARIANT_EXPERTS},
    {SQ_GATE_ROWS(INPUT, OUTPUT, "mlp.shared_expert_gate"), .when = SQ_VARIANT_EXPERTS},
    {SQ_ADD(OUTPUT), .when = SQ_VARIANT_EXPERTS},
};

static const struct sq_step qwen3_block[] = {
    ATTENTION_STEPS,
    DENSE_STEPS,
    EXPERT_STEPS,
    {SQ_ADD(OUTPUT)},
};

static const struct sq_step head[] = {
    {SQ_NORM(RESIDUAL, INPUT, "norm", NEVER)},
    {SQ_LINEAR(INPUT, LOGITS, "lm_head", NEVER)},
};

#define COMMON_KEYS                                                                                                    \
    SQ_KEYS_SHAPE, SQ_KEY_DEFAULT("hidden_act", SQ_KEY_ACTIVATION, activation, "\"silu\""),                            \
        SQ_KEY_DEFAULT("rms_norm_eps", SQ_KEY_FLOAT, epsilon, "1e-6"),                                                 \
        SQ_KEY_DEFAULT("tie_word_embeddings", SQ_KEY_BOOL, tied, "false"),                                             \
        SQ_KEY_REQUIRED("num_key_value_heads", SQ_KEY_INT, n_kv_heads),                                                \
        SQ_KEY_REQUIRED_OR("num_experts", "num_local_experts", SQ_KEY_INT, n_experts),                                 \
        SQ_KEY_REQUIRED("num_experts_per_tok", SQ_KEY_INT, n_chosen),                                                  \
        SQ_KEY_REQUIRED("moe_intermediate_size", SQ_KEY_INT, expert_ffn),                                              \
        SQ_KEY_DEFAULT("norm_topk_prob", SQ_KEY_BOOL, normalise_routes, "false"),                                      \
        SQ_KEY_DEFAULT("decoder_sparse_step", SQ_KEY_INT, sparse_step, "1")

static const struct sq_config_key qwen2_keys[] = {
    COMMON_KEYS,
    SQ_KEY_REQUIRED("shared_expert_intermediate_size", SQ_KEY_INT, shared_ffn),
    SQ_KEY_DEFAULT("qkv_bias", SQ_KEY_BOOL, bias[SQ_BIAS_QKV], "true"),
};

static const struct sq_config_key qwen3_keys[] = {
    COMMON_KEYS,
    SQ_KEY_DEFAULT("head_dim", SQ_KEY_INT, head_dim, "0"),
    SQ_KEY_DEFAULT("attention_bias", SQ_KEY_BOOL, bias[SQ_BIAS_QKV], "false"),
    SQ_KEY_DEFAULT("use_sliding_window", SQ_KEY_BOOL, use_window, "false"),
    SQ_KEY_DEFAULT("sliding_window", SQ_KEY_INT, window, "0"),
};

/* which blocks would have it has changed between versions of transformers */
static const struct sq_config_fixed qwen2_fixed[] = {{"use_sliding_window", "false"}};

static void complete_qwen3(struct sq_dimensions *dims)
{
    dims->bias[SQ_BIAS_ATTENTION_OUT] = dims->bias[SQ_BIAS_QKV];
    dims->variant[SQ_VARIANT_QK_NORM] = true;
}

#define QWEN_LIKE                                                                                                      \
    .head = SQ_PROGRAM(head), .norm = SQ_NORM_RMS, .rope = {.use = SQ_ROPE_EVERYWHERE},                                \
    .routing = {.kind = SQ_ROUTER_SOFTMAX}, .prefixes = {"model.", ""}, .embedding = "embed_tokens",                   \
    .blocks = "layers"

const struct sq_architecture sq_arch_qwen2_moe = {
    QWEN_LIKE,
    .name = "Qwen2MoeForCausalLM",
    .config = {qwen2_keys, SQ_COUNT(qwen2_keys), qwen2_fixed, SQ_COUNT(qwen2_fixed), .has_layer_types = true,
               .has_dense_list = true},
    .block = SQ_PROGRAM(qwen2_block),
};

const struct sq_architecture sq_arch_qwen3_moe = {
    QWEN_LIKE,
    .name = "Qwen3MoeForCausalLM",
    .config = {qwen3_keys, SQ_COUNT(qwen3_keys), .has_dense_list = true, .complete = complete_qwen3},
    .block = SQ_PROGRAM(qwen3_block),
};
