/* GLM (glm-4-9b) and GLM-4 (0414): a fused gate, rotary pairs of neighbours on half of each head; GLM-4 also has a norm
 * after attention and MLP. */
#include "model/architecture.h"

static const struct sq_step block[] = {
    {SQ_NORM(RESIDUAL, INPUT, "input_layernorm", NEVER)},
    {SQ_LINEARS(INPUT, 3, SQ_TO(Q, "self_attn.q_proj", QKV), SQ_TO(K, "self_attn.k_proj", QKV),
                SQ_TO(V, "self_attn.v_proj", QKV))},
    {SQ_ROPE(Q)},
    {SQ_ROPE(K)},
    {SQ_ATTENTION},
    {SQ_LINEAR(ATTENDED, OUTPUT, "self_attn.o_proj", NEVER)},
    {SQ_NORM(OUTPUT, OUTPUT, "post_self_attn_layernorm", NEVER), .when = SQ_VARIANT_POST_NORMS},
    {SQ_ADD(OUTPUT)},
    {SQ_NORM(RESIDUAL, INPUT, "post_attention_layernorm", NEVER)},
    {SQ_LINEAR(INPUT, GATE_UP, "mlp.gate_up_proj", NEVER)},
    {SQ_SPLIT_GATE_UP},
    {SQ_ACTIVATE_GATED},
    {SQ_LINEAR(ACTIVE, OUTPUT, "mlp.down_proj", NEVER)},
    {SQ_NORM(OUTPUT, OUTPUT, "post_mlp_layernorm", NEVER), .when = SQ_VARIANT_POST_NORMS},
    {SQ_ADD(OUTPUT)},
};

static const struct sq_step head[] = {
    {SQ_NORM(RESIDUAL, INPUT, "norm", NEVER)},
    {SQ_LINEAR(INPUT, LOGITS, "lm_head", NEVER)},
};

static const struct sq_config_key keys[] = {
    SQ_KEYS_SHAPE,
    SQ_KEY_DEFAULT("num_key_value_heads", SQ_KEY_INT, n_kv_heads, "2"),
    SQ_KEY_DEFAULT("head_dim", SQ_KEY_INT, head_dim, "128"),
    SQ_KEY_DEFAULT("hidden_act", SQ_KEY_ACTIVATION, activation, "\"silu\""),
    SQ_KEY_DEFAULT("rms_norm_eps", SQ_KEY_FLOAT, epsilon, "1.5625e-7"),
    SQ_KEY_DEFAULT("attention_bias", SQ_KEY_BOOL, bias[SQ_BIAS_QKV], "true"),
    SQ_KEY_DEFAULT("tie_word_embeddings", SQ_KEY_BOOL, tied, "false"),
};

static void complete4(struct sq_dimensions *dims)
{
    dims->variant[SQ_VARIANT_POST_NORMS] = true;
}

#define GLM_LIKE                                                                                                       \
    .block = SQ_PROGRAM(block), .head = SQ_PROGRAM(head), .norm = SQ_NORM_RMS,                                         \
    .rope = {.use = SQ_ROPE_EVERYWHERE, .pairs = SQ_ROPE_NEIGHBOURS, .part = 0.5}, .prefixes = {"model.", ""},         \
    .embedding = "embed_tokens", .blocks = "layers"

const struct sq_architecture sq_arch_glm = {
    GLM_LIKE,
    .name = "GlmForCausalLM",
    .config = {.keys = keys, .n_keys = SQ_COUNT(keys)},
};

const struct sq_architecture sq_arch_glm4 = {
    GLM_LIKE,
    .name = "Glm4ForCausalLM",
    .config = {keys, SQ_COUNT(keys), .complete = complete4},
};
