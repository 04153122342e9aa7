/* Llama and the families that differ from it by a bias, a norm or a window: Mistral, Qwen2, Qwen3. */
#include "model/architecture.h"

static const struct sq_step block[] = {
    {SQ_NORM(RESIDUAL, INPUT, "input_layernorm", NEVER)},
    {SQ_LINEARS(INPUT, 3, SQ_TO(Q, "self_attn.q_proj", QKV), SQ_TO(K, "self_attn.k_proj", QKV),
                SQ_TO(V, "self_attn.v_proj", QKV))},
    {SQ_HEAD_NORM(Q, "self_attn.q_norm", NEVER), .when = SQ_VARIANT_QK_NORM},
    {SQ_HEAD_NORM(K, "self_attn.k_norm", NEVER), .when = SQ_VARIANT_QK_NORM},
    {SQ_ROPE(Q)},
    {SQ_ROPE(K)},
    {SQ_ATTENTION},
    {SQ_LINEAR(ATTENDED, OUTPUT, "self_attn.o_proj", ATTENTION_OUT)},
    {SQ_ADD(OUTPUT)},
    {SQ_NORM(RESIDUAL, INPUT, "post_attention_layernorm", NEVER)},
    {SQ_LINEARS(INPUT, 2, SQ_TO(GATE, "mlp.gate_proj", MLP), SQ_TO(UP, "mlp.up_proj", MLP))},
    {SQ_ACTIVATE_GATED},
    {SQ_LINEAR(ACTIVE, OUTPUT, "mlp.down_proj", MLP)},
    {SQ_ADD(OUTPUT)},
};

static const struct sq_step head[] = {
    {SQ_NORM(RESIDUAL, INPUT, "norm", NEVER)},
    {SQ_LINEAR(INPUT, LOGITS, "lm_head", NEVER)},
};

#define COMMON_KEYS                                                                                                    \
    SQ_KEYS_SHAPE, SQ_KEY_DEFAULT("hidden_act", SQ_KEY_ACTIVATION, activation, "\"silu\""),                            \
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

static void complete_qwen3(struct sq_dimensions *dims)
{
    dims->bias[SQ_BIAS_ATTENTION_OUT] = dims->bias[SQ_BIAS_QKV];
    dims->variant[SQ_VARIANT_QK_NORM] = true;
}

#define LLAMA_LIKE                                                                                                     \
    .block = SQ_PROGRAM(block), .head = SQ_PROGRAM(head), .norm = SQ_NORM_RMS, .rope = {.use = SQ_ROPE_EVERYWHERE},    \
    .prefixes = {"model.", ""}, .embedding = "embed_tokens", .blocks = "layers"

const struct sq_architecture sq_arch_llama = {
    LLAMA_LIKE,
    .name = "LlamaForCausalLM",
    .config = {llama_keys, SQ_COUNT(llama_keys), .complete = complete_llama},
};

const struct sq_architecture sq_arch_mistral = {
    LLAMA_LIKE,
    .name = "MistralForCausalLM",
    .config = {mistral_keys, SQ_COUNT(mistral_keys), mistral_fixed, SQ_COUNT(mistral_fixed),
               .complete = complete_mistral},
};

const struct sq_architecture sq_arch_qwen2 = {
    LLAMA_LIKE,
    .name = "Qwen2ForCausalLM",
    .config = {qwen2_keys, SQ_COUNT(qwen2_keys), .has_layer_types = true, .complete = complete_qwen2},
};

const struct sq_architecture sq_arch_qwen3 = {
    LLAMA_LIKE,
    .name = "Qwen3ForCausalLM",
    .config = {qwen3_keys, SQ_COUNT(qwen3_keys), .has_layer_types = true, .complete = complete_qwen3},
};
