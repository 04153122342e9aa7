/* Llama and the families that differ from it by a bias, a norm or a window: Mistral, Qwen2, Qwen3. */
#include "model/architecture.h"

enum { RESIDUAL, INPUT, Q, K, V, ATTENDED, OUTPUT, GATE, UP, GATED, N_SLOTS };

static const struct sq_slot slots[N_SLOTS] = {
    [RESIDUAL] = {SQ_WIDTH_HIDDEN, true}, [INPUT] = {SQ_WIDTH_HIDDEN, false}, [Q] = {SQ_WIDTH_HEADS, false},
    [K] = {SQ_WIDTH_KV, false},           [V] = {SQ_WIDTH_KV, false},         [ATTENDED] = {SQ_WIDTH_HEADS, false},
    [OUTPUT] = {SQ_WIDTH_HIDDEN, true},   [GATE] = {SQ_WIDTH_FFN, false},     [UP] = {SQ_WIDTH_FFN, false},
    [GATED] = {SQ_WIDTH_FFN, false},
};

/* clang-format off */
#define STEP_INPUT_NORM {SQ_STEP_NORM, 1, {RESIDUAL}, 1, {INPUT}, {"input_layernorm"}, SQ_BIAS_NEVER}
#define STEP_QKV        {SQ_STEP_LINEAR, 1, {INPUT}, 3, {Q, K, V}, \
                         {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"}, SQ_BIAS_QKV}
#define STEP_Q_NORM     {SQ_STEP_HEAD_NORM, 1, {Q}, 1, {Q}, {"self_attn.q_norm"}, SQ_BIAS_NEVER}
#define STEP_K_NORM     {SQ_STEP_HEAD_NORM, 1, {K}, 1, {K}, {"self_attn.k_norm"}, SQ_BIAS_NEVER}
#define STEPS_AFTER_QKV \
    {SQ_STEP_ROPE, 1, {Q}, 1, {Q}, {NULL}, SQ_BIAS_NEVER}, \
    {SQ_STEP_ROPE, 1, {K}, 1, {K}, {NULL}, SQ_BIAS_NEVER}, \
    {SQ_STEP_ATTENTION, 3, {Q, K, V}, 1, {ATTENDED}, {NULL}, SQ_BIAS_NEVER}, \
    {SQ_STEP_LINEAR, 1, {ATTENDED}, 1, {OUTPUT}, {"self_attn.o_proj"}, SQ_BIAS_ATTENTION_OUT}, \
    {SQ_STEP_ADD, 1, {OUTPUT}, 1, {RESIDUAL}, {NULL}, SQ_BIAS_NEVER}, \
    {SQ_STEP_NORM, 1, {RESIDUAL}, 1, {INPUT}, {"post_attention_layernorm"}, SQ_BIAS_NEVER}, \
    {SQ_STEP_LINEAR, 1, {INPUT}, 2, {GATE, UP}, {"mlp.gate_proj", "mlp.up_proj"}, SQ_BIAS_MLP}, \
    {SQ_STEP_ACTIVATE, 2, {GATE, UP}, 1, {GATED}, {NULL}, SQ_BIAS_NEVER}, \
    {SQ_STEP_LINEAR, 1, {GATED}, 1, {OUTPUT}, {"mlp.down_proj"}, SQ_BIAS_MLP}, \
    {SQ_STEP_ADD, 1, {OUTPUT}, 1, {RESIDUAL}, {NULL}, SQ_BIAS_NEVER}

static const struct sq_step steps[] = {STEP_INPUT_NORM, STEP_QKV, STEPS_AFTER_QKV};
static const struct sq_step steps_with_head_norm[] = {STEP_INPUT_NORM, STEP_QKV, STEP_Q_NORM, STEP_K_NORM,
                                                      STEPS_AFTER_QKV};
static const struct sq_step head_steps[] = {
    {SQ_STEP_NORM, 1, {RESIDUAL}, 1, {INPUT}, {"norm"}, SQ_BIAS_NEVER},
    {SQ_STEP_LINEAR, 1, {INPUT}, 0, {0}, {"lm_head"}, SQ_BIAS_NEVER},
};
/* clang-format on */

#define COMMON_KEYS                                                                                                    \
    SQ_KEY_REQUIRED("hidden_size", SQ_KEY_INT, hidden), SQ_KEY_REQUIRED("intermediate_size", SQ_KEY_INT, ffn),         \
        SQ_KEY_REQUIRED("num_hidden_layers", SQ_KEY_INT, n_blocks),                                                    \
        SQ_KEY_REQUIRED("num_attention_heads", SQ_KEY_INT, n_heads), SQ_KEY_REQUIRED("vocab_size", SQ_KEY_INT, vocab), \
        SQ_KEY_REQUIRED("max_position_embeddings", SQ_KEY_INT, max_length),                                            \
        SQ_KEY_DEFAULT("hidden_act", SQ_KEY_ACTIVATION, activation, "\"silu\""),                                       \
        SQ_KEY_DEFAULT("rms_norm_eps", SQ_KEY_FLOAT, epsilon, "1e-6"),                                                 \
        SQ_KEY_DEFAULT("tie_word_embeddings", SQ_KEY_BOOL, tied, "false")

#define WINDOW_KEYS                                                                                                    \
    SQ_KEY_DEFAULT("use_sliding_window", SQ_KEY_BOOL, use_window, "false"),                                            \
        SQ_KEY_DEFAULT("sliding_window", SQ_KEY_INT, window, "0"),                                                     \
        SQ_KEY_DEFAULT("max_window_layers", SQ_KEY_INT, first_window, "28")

static const struct sq_config_key llama_keys[] = {
    COMMON_KEYS,
    SQ_KEY_DEFAULT("num_key_value_heads", SQ_KEY_INT, n_kv_heads, "0"),
    SQ_KEY_DEFAULT("head_dim", SQ_KEY_INT, head_dim, "0"),
    SQ_KEY_DEFAULT("attention_bias", SQ_KEY_BOOL, bias[SQ_BIAS_QKV], "false"),
    SQ_KEY_DEFAULT("mlp_bias", SQ_KEY_BOOL, bias[SQ_BIAS_MLP], "false"),
};

static const struct sq_config_key mistral_keys[] = {
    COMMON_KEYS,
    SQ_KEY_REQUIRED("num_key_value_heads", SQ_KEY_INT, n_kv_heads),
    SQ_KEY_DEFAULT("head_dim", SQ_KEY_INT, head_dim, "0"),
    SQ_KEY_DEFAULT("sliding_window", SQ_KEY_INT, window, "0"),
};

static const struct sq_config_key qwen2_keys[] = {
    COMMON_KEYS,
    SQ_KEY_REQUIRED("num_key_value_heads", SQ_KEY_INT, n_kv_heads),
    SQ_KEY_DEFAULT("head_dim", SQ_KEY_INT, head_dim, "0"),
    WINDOW_KEYS,
};

static const struct sq_config_key qwen3_keys[] = {
    COMMON_KEYS,
    SQ_KEY_REQUIRED("num_key_value_heads", SQ_KEY_INT, n_kv_heads),
    SQ_KEY_DEFAULT("head_dim", SQ_KEY_INT, head_dim, "128"),
    SQ_KEY_DEFAULT("attention_bias", SQ_KEY_BOOL, bias[SQ_BIAS_QKV], "false"),
    WINDOW_KEYS,
};

static const struct sq_config_fixed mistral_fixed[] = {{"layer_types", NULL}};

static void complete_llama(struct sq_dimensions *dims)
{
    dims->bias[SQ_BIAS_ATTENTION_OUT] = dims->bias[SQ_BIAS_QKV];
}

static void complete_mistral(struct sq_dimensions *dims)
{
    dims->use_window = true;
}

static void complete_qwen2(struct sq_dimensions *dims)
{
    dims->bias[SQ_BIAS_QKV] = true;
}

#define LLAMA_LIKE                                                                                                     \
    .slots = slots, .n_slots = N_SLOTS, .head = {head_steps, SQ_COUNT(head_steps)}, .norm = SQ_NORM_RMS,               \
    .has_rope = true, .prefixes = {"model.", ""}, .embedding = "embed_tokens", .blocks = "layers"

const struct sq_architecture sq_arch_llama = {
    LLAMA_LIKE,
    .name = "LlamaForCausalLM",
    .keys = llama_keys,
    .n_keys = SQ_COUNT(llama_keys),
    .block = {steps, SQ_COUNT(steps)},
    .complete = complete_llama,
};

const struct sq_architecture sq_arch_mistral = {
    LLAMA_LIKE,
    .name = "MistralForCausalLM",
    .keys = mistral_keys,
    .n_keys = SQ_COUNT(mistral_keys),
    .fixed = mistral_fixed,
    .n_fixed = SQ_COUNT(mistral_fixed),
    .block = {steps, SQ_COUNT(steps)},
    .complete = complete_mistral,
};

const struct sq_architecture sq_arch_qwen2 = {
    LLAMA_LIKE,
    .name = "Qwen2ForCausalLM",
    .keys = qwen2_keys,
    .n_keys = SQ_COUNT(qwen2_keys),
    .block = {steps, SQ_COUNT(steps)},
    .has_layer_types = true,
    .complete = complete_qwen2,
};

const struct sq_architecture sq_arch_qwen3 = {
    LLAMA_LIKE,
    .name = "Qwen3ForCausalLM",
    .keys = qwen3_keys,
    .n_keys = SQ_COUNT(qwen3_keys),
    .block = {steps_with_head_norm, SQ_COUNT(steps_with_head_norm)},
    .has_layer_types = true,
    .complete = complete_llama,
};
