/* Gemma, Gemma 2 and Gemma 3 (text): scaled embeddings, norms of 1 + weight. From Gemma 2 on a norm before and one
 * after attention and MLP, and blocks with and without a sliding window; Gemma 2 caps scores and logits, Gemma 3 has
 * norms of queries and keys, and other angles in blocks with a window. */
#include "model/architecture.h"

#include <math.h>

#define LINEARS_QKV                                                                                                    \
    SQ_LINEARS(INPUT, 3, SQ_TO(Q, "self_attn.q_proj", QKV), SQ_TO(K, "self_attn.k_proj", QKV),                         \
               SQ_TO(V, "self_attn.v_proj", QKV))
#define LINEARS_GATE_UP SQ_LINEARS(INPUT, 2, SQ_TO(GATE, "mlp.gate_proj", NEVER), SQ_TO(UP, "mlp.up_proj", NEVER))

static const struct sq_step block[] = {
    {SQ_NORM(RESIDUAL, INPUT, "input_layernorm", NEVER)},
    {LINEARS_QKV},
    {SQ_ROPE(Q)},
    {SQ_ROPE(K)},
    {SQ_ATTENTION},
    {SQ_LINEAR(ATTENDED, OUTPUT, "self_attn.o_proj", QKV)},
    {SQ_ADD(OUTPUT)},
    {SQ_NORM(RESIDUAL, INPUT, "post_attention_layernorm", NEVER)},
    {LINEARS_GATE_UP},
    {SQ_ACTIVATE_GATED},
    {SQ_LINEAR(ACTIVE, OUTPUT, "mlp.down_proj", NEVER)},
    {SQ_ADD(OUTPUT)},
};

static const struct sq_step block2[] = {
    {SQ_NORM(RESIDUAL, INPUT, "input_layernorm", NEVER)},
    {LINEARS_QKV},
    {SQ_HEAD_NORM(Q, "self_attn.q_norm", NEVER), .when = SQ_VARIANT_QK_NORM},
    {SQ_HEAD_NORM(K, "self_attn.k_norm", NEVER), .when = SQ_VARIANT_QK_NORM},
    {SQ_ROPE(Q)},
    {SQ_ROPE(K)},
    {SQ_ATTENTION},
    {SQ_LINEAR(ATTENDED, OUTPUT, "self_attn.o_proj", QKV)},
    {SQ_NORM(OUTPUT, OUTPUT, "post_attention_layernorm", NEVER)},
    {SQ_ADD(OUTPUT)},
    {SQ_NORM(RESIDUAL, INPUT, "pre_feedforward_layernorm", NEVER)},
    {LINEARS_GATE_UP},
    {SQ_ACTIVATE_GATED},
    {SQ_LINEAR(ACTIVE, OUTPUT, "mlp.down_proj", NEVER)},
    {SQ_NORM(OUTPUT, OUTPUT, "post_feedforward_layernorm", NEVER)},
    {SQ_ADD(OUTPUT)},
};

static const struct sq_step head[] = {
    {SQ_NORM(RESIDUAL, INPUT, "norm", NEVER)},
    {SQ_LINEAR(INPUT, LOGITS, "lm_head", NEVER)},
};

#define GEMMA_KEYS                                                                                                     \
    SQ_KEYS_SHAPE, SQ_KEY_REQUIRED("num_key_value_heads", SQ_KEY_INT, n_kv_heads),                                     \
        SQ_KEY_DEFAULT("head_dim", SQ_KEY_INT, head_dim, "256"),                                                       \
        SQ_KEY_DEFAULT("rms_norm_eps", SQ_KEY_FLOAT, epsilon, "1e-6"),                                                 \
        SQ_KEY_DEFAULT("attention_bias", SQ_KEY_BOOL, bias[SQ_BIAS_QKV], "false"),                                     \
        SQ_KEY_DEFAULT("tie_word_embeddings", SQ_KEY_BOOL, tied, "true")

#define GEMMA2_KEYS                                                                                                    \
    GEMMA_KEYS, SQ_KEY_DEFAULT("hidden_activation", SQ_KEY_ACTIVATION, activation, "\"gelu_pytorch_tanh\""),           \
        SQ_KEY_DEFAULT("query_pre_attn_scalar", SQ_KEY_INVERSE_ROOT, attention_scale, "256"),                          \
        SQ_KEY_DEFAULT("sliding_window", SQ_KEY_INT_OR_NULL, window, "4096")

static const struct sq_config_key gemma_keys[] = {
    GEMMA_KEYS,
    SQ_KEY_DEFAULT("hidden_act", SQ_KEY_ACTIVATION, activation, "\"gelu_pytorch_tanh\""),
};

static const struct sq_config_key gemma2_keys[] = {
    GEMMA2_KEYS,
    SQ_KEY_DEFAULT("attn_logit_softcapping", SQ_KEY_FLOAT_OR_NULL, attention_cap, "50"),
    SQ_KEY_DEFAULT("final_logit_softcapping", SQ_KEY_FLOAT_OR_NULL, logit_cap, "30"),
};

static const struct sq_config_key gemma3_keys[] = {
    GEMMA2_KEYS,
    SQ_KEY_DEFAULT("final_logit_softcapping", SQ_KEY_FLOAT_OR_NULL, logit_cap, "null"),
    SQ_KEY_DEFAULT("sliding_window_pattern", SQ_KEY_INT, window_pattern, "6"),
};

static const struct sq_config_fixed fixed[] = {
    {"use_bidirectional_attention", "false"},
    {"attn_logit_softcapping", NULL}, /* the last is Gemma 3's alone: its attention has no cap */
};

static void complete(struct sq_dimensions *dims)
{
    dims->embedding_scale = sqrt((double)dims->hidden);
    /* the configurations that came with the weights say gelu where they mean this */
    if (dims->activation == SQ_ACT_GELU) dims->activation = SQ_ACT_GELU_TANH;
}

static void complete2(struct sq_dimensions *dims)
{
    dims->embedding_scale = sqrt((double)dims->hidden);
    dims->use_window = true;
    dims->window_pattern = 2;
}

static void complete3(struct sq_dimensions *dims)
{
    dims->embedding_scale = sqrt((double)dims->hidden);
    dims->use_window = true;
    dims->variant[SQ_VARIANT_QK_NORM] = true;
}

#define GEMMA_LIKE                                                                                                     \
    .head = SQ_PROGRAM(head), .norm = SQ_NORM_RMS, .norm_adds_one = true, .prefixes = {"model.", ""},                  \
    .embedding = "embed_tokens", .blocks = "layers"

const struct sq_architecture sq_arch_gemma = {
    GEMMA_LIKE,
    .name = "GemmaForCausalLM",
    .config = {gemma_keys, SQ_COUNT(gemma_keys), fixed, SQ_COUNT(fixed) - 1, .complete = complete},
    .block = SQ_PROGRAM(block),
    .rope = {.use = SQ_ROPE_EVERYWHERE},
};

const struct sq_architecture sq_arch_gemma2 = {
    GEMMA_LIKE,
    .name = "Gemma2ForCausalLM",
    .config = {gemma2_keys, SQ_COUNT(gemma2_keys), fixed, SQ_COUNT(fixed) - 1, .has_layer_types = true,
               .complete = complete2},
    .block = SQ_PROGRAM(block2),
    .rope = {.use = SQ_ROPE_EVERYWHERE},
};

const struct sq_architecture sq_arch_gemma3 = {
    GEMMA_LIKE,
    .name = "Gemma3ForCausalLM",
    .config = {gemma3_keys, SQ_COUNT(gemma3_keys), fixed, SQ_COUNT(fixed), .has_layer_types = true,
               .complete = complete3},
    .block = SQ_PROGRAM(block2),
    .rope = {.use = SQ_ROPE_BY_WINDOW, .theta = 1e6, .window_theta_key = "rope_local_base_freq"},
};
