/* Phi-1, Phi-1.5, Phi-2: one norm before attention and MLP, rotary embedding on a part of each head, biases everywhere.
 */
#include "model/architecture.h"

static const struct sq_step block[] = {
    {SQ_NORM(RESIDUAL, INPUT, "input_layernorm", ALWAYS)},
    {SQ_LINEARS(INPUT, 4, SQ_TO(Q, "self_attn.q_proj", ALWAYS), SQ_TO(K, "self_attn.k_proj", ALWAYS),
                SQ_TO(V, "self_attn.v_proj", ALWAYS), SQ_TO(UP, "mlp.fc1", ALWAYS))},
    {SQ_ACTIVATE},
    {SQ_HEAD_NORM(Q, "self_attn.q_layernorm", ALWAYS), .when = SQ_VARIANT_QK_NORM},
    {SQ_HEAD_NORM(K, "self_attn.k_layernorm", ALWAYS), .when = SQ_VARIANT_QK_NORM},
    {SQ_ROPE(Q)},
    {SQ_ROPE(K)},
    {SQ_ATTENTION},
    {SQ_LINEAR(ATTENDED, OUTPUT, "self_attn.dense", ALWAYS)},
    {SQ_ADD(OUTPUT)},
    {SQ_LINEAR(ACTIVE, OUTPUT, "mlp.fc2", ALWAYS)},
    {SQ_ADD(OUTPUT)},
};

static const struct sq_step head[] = {
    {SQ_NORM(RESIDUAL, INPUT, "final_layernorm", ALWAYS)},
    {SQ_LINEAR(INPUT, LOGITS, "lm_head", ALWAYS)},
};

static const struct sq_config_key keys[] = {
    SQ_KEYS_SHAPE,
    SQ_KEY_DEFAULT("num_key_value_heads", SQ_KEY_INT, n_kv_heads, "0"),
    SQ_KEY_DEFAULT("hidden_act", SQ_KEY_ACTIVATION, activation, "\"gelu_new\""),
    SQ_KEY_DEFAULT("layer_norm_eps", SQ_KEY_FLOAT, epsilon, "1e-5"),
    SQ_KEY_DEFAULT("qk_layernorm", SQ_KEY_BOOL, variant[SQ_VARIANT_QK_NORM], "false"),
    SQ_KEY_DEFAULT("tie_word_embeddings", SQ_KEY_BOOL, tied, "false"),
};

const struct sq_architecture sq_arch_phi = {
    .name = "PhiForCausalLM",
    .config = {.keys = keys, .n_keys = SQ_COUNT(keys)},
    .block = SQ_PROGRAM(block),
    .head = SQ_PROGRAM(head),
    .norm = SQ_NORM_LAYER,
    .rope = {.use = SQ_ROPE_EVERYWHERE, .part = 0.5},
    .prefixes = {"model.", ""},
    .embedding = "embed_tokens",
    .blocks = "layers",
};
