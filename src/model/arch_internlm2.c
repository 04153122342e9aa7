/* InternLM2: Llama under names of its own, with queries, keys and values from one linear, group by group. */
#include "model/architecture.h"

static const struct sq_step block[] = {
    {SQ_NORM(RESIDUAL, INPUT, "attention_norm", NEVER)},
    {SQ_LINEAR(INPUT, QKV, "attention.wqkv", QKV)},
    {SQ_SPLIT_HEADS},
    {SQ_ROPE(Q)},
    {SQ_ROPE(K)},
    {SQ_ATTENTION},
    {SQ_LINEAR(ATTENDED, OUTPUT, "attention.wo", QKV)},
    {SQ_ADD(OUTPUT)},
    {SQ_NORM(RESIDUAL, INPUT, "ffn_norm", NEVER)},
    {SQ_LINEARS(INPUT, 2, SQ_TO(GATE, "feed_forward.w1", NEVER), SQ_TO(UP, "feed_forward.w3", NEVER))},
    {SQ_ACTIVATE_GATED},
    {SQ_LINEAR(ACTIVE, OUTPUT, "feed_forward.w2", NEVER)},
    {SQ_ADD(OUTPUT)},
};

static const struct sq_step head[] = {
    {SQ_NORM(RESIDUAL, INPUT, "norm", NEVER)},
    {SQ_LINEAR(INPUT, LOGITS, "output", NEVER)},
};

static const struct sq_config_key keys[] = {
    SQ_KEYS_SHAPE,
    SQ_KEY_DEFAULT("num_key_value_heads", SQ_KEY_INT, n_kv_heads, "0"),
    SQ_KEY_DEFAULT("hidden_act", SQ_KEY_ACTIVATION, activation, "\"silu\""),
    SQ_KEY_DEFAULT("rms_norm_eps", SQ_KEY_FLOAT, epsilon, "1e-6"),
    SQ_KEY_DEFAULT("bias", SQ_KEY_BOOL, bias[SQ_BIAS_QKV], "true"),
    SQ_KEY_DEFAULT("tie_word_embeddings", SQ_KEY_BOOL, tied, "false"),
};

const struct sq_architecture sq_arch_internlm2 = {
    .name = "InternLM2ForCausalLM",
    .config = {.keys = keys, .n_keys = SQ_COUNT(keys)},
    .block = SQ_PROGRAM(block),
    .head = SQ_PROGRAM(head),
    .norm = SQ_NORM_RMS,
    .rope = {.use = SQ_ROPE_EVERYWHERE},
    .prefixes = {"model.", ""},
    .embedding = "tok_embeddings",
    .blocks = "layers",
};
