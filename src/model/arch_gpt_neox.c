/* GPT-NeoX (Pythia): a fused linear by head, rotary embedding on a part of each head, attention and MLP from the same
 * residual stream, each with its own norm. */
#include "model/architecture.h"

static const struct sq_step block[] = {
    {SQ_NORM(RESIDUAL, INPUT, "input_layernorm", ALWAYS)},
    {SQ_NORM(RESIDUAL, MLP_INPUT, "post_attention_layernorm", ALWAYS), .when = SQ_VARIANT_PARALLEL},
    {SQ_LINEAR(INPUT, QKV, "attention.query_key_value", QKV)},
    {SQ_SPLIT_HEADS},
    {SQ_ROPE(Q)},
    {SQ_ROPE(K)},
    {SQ_ATTENTION},
    {SQ_LINEAR(ATTENDED, OUTPUT, "attention.dense", QKV)},
    {SQ_ADD(OUTPUT)},
    {SQ_NORM(RESIDUAL, MLP_INPUT, "post_attention_layernorm", ALWAYS), .unless = SQ_VARIANT_PARALLEL},
    {SQ_LINEAR(MLP_INPUT, UP, "mlp.dense_h_to_4h", ALWAYS)},
    {SQ_ACTIVATE},
    {SQ_LINEAR(ACTIVE, OUTPUT, "mlp.dense_4h_to_h", ALWAYS)},
    {SQ_ADD(OUTPUT)},
};

static const struct sq_step head[] = {
    {SQ_NORM(RESIDUAL, INPUT, "final_layer_norm", ALWAYS)},
    {SQ_LINEAR(INPUT, LOGITS, "embed_out", NEVER)},
};

static const struct sq_config_key keys[] = {
    SQ_KEYS_SHAPE,
    SQ_KEY_DEFAULT("hidden_act", SQ_KEY_ACTIVATION, activation, "\"gelu\""),
    SQ_KEY_DEFAULT("layer_norm_eps", SQ_KEY_FLOAT, epsilon, "1e-5"),
    SQ_KEY_DEFAULT("use_parallel_residual", SQ_KEY_BOOL, variant[SQ_VARIANT_PARALLEL], "true"),
    SQ_KEY_DEFAULT("attention_bias", SQ_KEY_BOOL, bias[SQ_BIAS_QKV], "true"),
    SQ_KEY_DEFAULT("tie_word_embeddings", SQ_KEY_BOOL, tied, "false"),
};

const struct sq_architecture sq_arch_gpt_neox = {
    .name = "GPTNeoXForCausalLM",
    .config = {.keys = keys, .n_keys = SQ_COUNT(keys)},
    .block = SQ_PROGRAM(block),
    .head = SQ_PROGRAM(head),
    .norm = SQ_NORM_LAYER,
    .rope = {.use = SQ_ROPE_EVERYWHERE, .theta_key = "rotary_emb_base", .part_key = "rotary_pct", .part = 0.25},
    .prefixes = {"gpt_neox.", ""},
    .embedding = "embed_in",
    .blocks = "layers",
};
