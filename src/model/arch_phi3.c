/* Phi-3 and Phi-4: Llama with fused linears, LongRoPE, and in Phi-4-mini a part of each head that does not turn. */
#include "model/architecture.h"

static const struct sq_step block[] = {
    {SQ_NORM(RESIDUAL, INPUT, "input_layernorm", NEVER)},
    {SQ_LINEAR(INPUT, QKV, "self_attn.qkv_proj", NEVER)},
    {SQ_SPLIT_QKV},
    {SQ_ROPE(Q)},
    {SQ_ROPE(K)},
    {SQ_ATTENTION},
    {SQ_LINEAR(ATTENDED, OUTPUT, "self_attn.o_proj", NEVER)},
    {SQ_ADD(OUTPUT)},
    {SQ_NORM(RESIDUAL, INPUT, "post_attention_layernorm", NEVER)},
    {SQ_LINEAR(INPUT, GATE_UP, "mlp.gate_up_proj", NEVER)},
    {SQ_SPLIT_GATE_UP},
    {SQ_ACTIVATE_GATED},
    {SQ_LINEAR(ACTIVE, OUTPUT, "mlp.down_proj", NEVER)},
    {SQ_ADD(OUTPUT)},
};

static const struct sq_step head[] = {
    {SQ_NORM(RESIDUAL, INPUT, "norm", NEVER)},
    {SQ_LINEAR(INPUT, LOGITS, "lm_head", NEVER)},
};

static const struct sq_config_key keys[] = {
    SQ_KEYS_SHAPE,
    SQ_KEY_DEFAULT("num_key_value_heads", SQ_KEY_INT, n_kv_heads, "0"),
    SQ_KEY_DEFAULT("head_dim", SQ_KEY_INT, head_dim, "0"),
    SQ_KEY_DEFAULT("hidden_act", SQ_KEY_ACTIVATION, activation, "\"silu\""),
    SQ_KEY_DEFAULT("rms_norm_eps", SQ_KEY_FLOAT, epsilon, "1e-5"),
    SQ_KEY_DEFAULT("sliding_window", SQ_KEY_INT, window, "0"),
    SQ_KEY_DEFAULT("tie_word_embeddings", SQ_KEY_BOOL, tied, "false"),
};

static const struct sq_config_fixed fixed[] = {{"attention_bias", "false"}, {"mlp_bias", "false"}};

static void complete(struct sq_dimensions *dims)
{
    dims->use_window = true;
}

const struct sq_architecture sq_arch_phi3 = {
    .name = "Phi3ForCausalLM",
    .config = {keys, SQ_COUNT(keys), fixed, SQ_COUNT(fixed), .complete = complete},
    .block = SQ_PROGRAM(block),
    .head = SQ_PROGRAM(head),
    .norm = SQ_NORM_RMS,
    .rope = {.use = SQ_ROPE_EVERYWHERE, .part = 1},
    .prefixes = {"model.", ""},
    .embedding = "embed_tokens",
    .blocks = "layers",
};
