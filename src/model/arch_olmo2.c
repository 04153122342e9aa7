/* OLMo 2: norms after attention and MLP instead of before, and of all queries and all keys together. */
#include "model/architecture.h"

static const struct sq_step block[] = {
    {SQ_COPY(RESIDUAL, INPUT)},
    {SQ_LINEARS(INPUT, 3, SQ_TO(Q, "self_attn.q_proj", QKV), SQ_TO(K, "self_attn.k_proj", QKV),
                SQ_TO(V, "self_attn.v_proj", QKV))},
    {SQ_NORM(Q, Q, "self_attn.q_norm", NEVER)},
    {SQ_NORM(K, K, "self_attn.k_norm", NEVER)},
    {SQ_ROPE(Q)},
    {SQ_ROPE(K)},
    {SQ_ATTENTION},
    {SQ_LINEAR(ATTENDED, OUTPUT, "self_attn.o_proj", QKV)},
    {SQ_NORM(OUTPUT, OUTPUT, "post_attention_layernorm", NEVER)},
    {SQ_ADD(OUTPUT)},
    {SQ_COPY(RESIDUAL, INPUT)},
    {SQ_LINEARS(INPUT, 2, SQ_TO(GATE, "mlp.gate_proj", NEVER), SQ_TO(UP, "mlp.up_proj", NEVER))},
    {SQ_ACTIVATE_GATED},
    {SQ_LINEAR(ACTIVE, OUTPUT, "mlp.down_proj", NEVER)},
    {SQ_NORM(OUTPUT, OUTPUT, "post_feedforward_layernorm", NEVER)},
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
    SQ_KEY_DEFAULT("rms_norm_eps", SQ_KEY_FLOAT, epsilon, "1e-5"),
    SQ_KEY_DEFAULT("attention_bias", SQ_KEY_BOOL, bias[SQ_BIAS_QKV], "false"),
    SQ_KEY_DEFAULT("tie_word_embeddings", SQ_KEY_BOOL, tied, "false"),
};

const struct sq_architecture sq_arch_olmo2 = {
    .name = "Olmo2ForCausalLM",
    .config = {.keys = keys, .n_keys = SQ_COUNT(keys)},
    .block = SQ_PROGRAM(block),
    .head = SQ_PROGRAM(head),
    .norm = SQ_NORM_RMS,
    .rope = {.use = SQ_ROPE_EVERYWHERE},
    .prefixes = {"model.", ""},
    .embedding = "embed_tokens",
    .blocks = "layers",
};
