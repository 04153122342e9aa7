/* StableLM: layer norms, rotary embedding on a part of each head; StableLM 2 12B has attention and MLP after one norm,
 * and norms of queries and keys with weights of their own for each head. */
#include "model/architecture.h"

static const struct sq_step block[] = {
    {SQ_NORM(RESIDUAL, INPUT, "input_layernorm", ALWAYS)},
    {SQ_LINEARS(INPUT, 3, SQ_TO(Q, "self_attn.q_proj", QKV), SQ_TO(K, "self_attn.k_proj", QKV),
                SQ_TO(V, "self_attn.v_proj", QKV)),
     .unless = SQ_VARIANT_PARALLEL},
    {SQ_LINEARS(INPUT, 5, SQ_TO(Q, "self_attn.q_proj", QKV), SQ_TO(K, "self_attn.k_proj", QKV),
                SQ_TO(V, "self_attn.v_proj", QKV), SQ_TO(GATE, "mlp.gate_proj", NEVER),
                SQ_TO(UP, "mlp.up_proj", NEVER)),
     .when = SQ_VARIANT_PARALLEL},
    {SQ_ACTIVATE_GATED, .when = SQ_VARIANT_PARALLEL},
    {SQ_HEAD_NORM(Q, "self_attn.q_layernorm.norms.#", NEVER), .heads = SQ_HEADS_TENSORS, .when = SQ_VARIANT_QK_NORM},
    {SQ_HEAD_NORM(K, "self_attn.k_layernorm.norms.#", NEVER), .heads = SQ_HEADS_TENSORS, .when = SQ_VARIANT_QK_NORM},
    {SQ_ROPE(Q)},
    {SQ_ROPE(K)},
    {SQ_ATTENTION},
    {SQ_LINEAR(ATTENDED, OUTPUT, "self_attn.o_proj", NEVER)},
    {SQ_ADD(OUTPUT)},
    {SQ_NORM(RESIDUAL, INPUT, "post_attention_layernorm", ALWAYS), .unless = SQ_VARIANT_PARALLEL},
    {SQ_LINEARS(INPUT, 2, SQ_TO(GATE, "mlp.gate_proj", NEVER), SQ_TO(UP, "mlp.up_proj", NEVER)),
     .unless = SQ_VARIANT_PARALLEL},
    {SQ_ACTIVATE_GATED, .unless = SQ_VARIANT_PARALLEL},
    {SQ_LINEAR(ACTIVE, OUTPUT, "mlp.down_proj", NEVER)},
    {SQ_ADD(OUTPUT)},
};

static const struct sq_step head[] = {
    {SQ_NORM(RESIDUAL, INPUT, "norm", ALWAYS)},
    {SQ_LINEAR(INPUT, LOGITS, "lm_head", NEVER)},
};

static const struct sq_config_key keys[] = {
    SQ_KEYS_SHAPE,
    SQ_KEY_DEFAULT("num_key_value_heads", SQ_KEY_INT, n_kv_heads, "0"),
    SQ_KEY_DEFAULT("hidden_act", SQ_KEY_ACTIVATION, activation, "\"silu\""),
    SQ_KEY_DEFAULT("layer_norm_eps", SQ_KEY_FLOAT, epsilon, "1e-5"),
    SQ_KEY_DEFAULT("use_qkv_bias", SQ_KEY_BOOL, bias[SQ_BIAS_QKV], "false"),
    SQ_KEY_DEFAULT("qk_layernorm", SQ_KEY_BOOL, variant[SQ_VARIANT_QK_NORM], "false"),
    SQ_KEY_DEFAULT("use_parallel_residual", SQ_KEY_BOOL, variant[SQ_VARIANT_PARALLEL], "false"),
    SQ_KEY_DEFAULT("tie_word_embeddings", SQ_KEY_BOOL, tied, "false"),
};

const struct sq_architecture sq_arch_stablelm = {
    .name = "StableLmForCausalLM",
    .config = {.keys = keys, .n_keys = SQ_COUNT(keys)},
    .block = SQ_PROGRAM(block),
    .head = SQ_PROGRAM(head),
    .norm = SQ_NORM_LAYER,
    .rope = {.use = SQ_ROPE_EVERYWHERE, .part = 0.25},
    .prefixes = {"model.", ""},
    .embedding = "embed_tokens",
    .blocks = "layers",
};
