/* Granite: Llama with factors on the embedding, the scores, what is added to the residual stream, and the logits. */
#include "model/architecture.h"

static const struct sq_step block[] = {
    {SQ_NORM(RESIDUAL, INPUT, "input_layernorm", NEVER)},
    {SQ_LINEARS(INPUT, 3, SQ_TO(Q, "self_attn.q_proj", QKV), SQ_TO(K, "self_attn.k_proj", QKV),
                SQ_TO(V, "self_attn.v_proj", QKV))},
    {SQ_ROPE(Q)},
    {SQ_ROPE(K)},
    {SQ_ATTENTION},
    {SQ_LINEAR(ATTENDED, OUTPUT, "self_attn.o_proj", QKV)},
    {SQ_SCALE(OUTPUT)},
    {SQ_ADD(OUTPUT)},
    {SQ_NORM(RESIDUAL, INPUT, "post_attention_layernorm", NEVER)},
    {SQ_LINEARS(INPUT, 2, SQ_TO(GATE, "mlp.gate_proj", MLP), SQ_TO(UP, "mlp.up_proj", MLP))},
    {SQ_ACTIVATE_GATED},
    {SQ_LINEAR(ACTIVE, OUTPUT, "mlp.down_proj", MLP)},
    {SQ_SCALE(OUTPUT)},
    {SQ_ADD(OUTPUT)},
};

static const struct sq_step head[] = {
    {SQ_NORM(RESIDUAL, INPUT, "norm", NEVER)},
    {SQ_LINEAR(INPUT, LOGITS, "lm_head", NEVER)},
};

static const struct sq_config_key keys[] = {
    SQ_KEYS_SHAPE,
    SQ_KEY_DEFAULT("num_key_value_heads", SQ_KEY_INT, n_kv_heads, "0"),
    SQ_KEY_DEFAULT("hidden_act", SQ_KEY_ACTIVATION, activation, "\"silu\""),
    SQ_KEY_DEFAULT("rms_norm_eps", SQ_KEY_FLOAT, epsilon, "1e-6"),
    SQ_KEY_DEFAULT("embedding_multiplier", SQ_KEY_FLOAT, embedding_scale, "1"),
    SQ_KEY_DEFAULT("residual_multiplier", SQ_KEY_FLOAT, residual_scale, "1"),
    SQ_KEY_DEFAULT("attention_multiplier", SQ_KEY_FLOAT, attention_scale, "1"),
    SQ_KEY_DEFAULT("logits_scaling", SQ_KEY_INVERSE, logit_scale, "1"),
    SQ_KEY_DEFAULT("attention_bias", SQ_KEY_BOOL, bias[SQ_BIAS_QKV], "false"),
    SQ_KEY_DEFAULT("mlp_bias", SQ_KEY_BOOL, bias[SQ_BIAS_MLP], "false"),
    SQ_KEY_DEFAULT("tie_word_embeddings", SQ_KEY_BOOL, tied, "false"),
};

const struct sq_architecture sq_arch_granite = {
    .name = "GraniteForCausalLM",
    .config = {.keys = keys, .n_keys = SQ_COUNT(keys)},
    .block = SQ_PROGRAM(block),
    .head = SQ_PROGRAM(head),
    .norm = SQ_NORM_RMS,
    .rope = {.use = SQ_ROPE_EVERYWHERE},
    .prefixes = {"model.", ""},
    .embedding = "embed_tokens",
    .blocks = "layers",
};
