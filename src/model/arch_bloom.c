/* BLOOM: ALiBi, a fused linear with queries, keys and values by head, a norm after the embedding. */
#include "model/architecture.h"

static const struct sq_step stem[] = {
    {SQ_NORM(RESIDUAL, RESIDUAL, "word_embeddings_layernorm", ALWAYS)},
};

static const struct sq_step block[] = {
    {SQ_NORM(RESIDUAL, INPUT, "input_layernorm", ALWAYS)},
    {SQ_LINEAR(INPUT, QKV, "self_attention.query_key_value", ALWAYS)},
    {SQ_SPLIT_HEADS},
    {SQ_ATTENTION},
    {SQ_LINEAR(ATTENDED, OUTPUT, "self_attention.dense", ALWAYS)},
    {SQ_ADD(OUTPUT)},
    {SQ_NORM(RESIDUAL, INPUT, "post_attention_layernorm", ALWAYS)},
    {SQ_LINEAR(INPUT, UP, "mlp.dense_h_to_4h", ALWAYS)},
    {SQ_ACTIVATE},
    {SQ_LINEAR(ACTIVE, OUTPUT, "mlp.dense_4h_to_h", ALWAYS)},
    {SQ_ADD(OUTPUT)},
};

static const struct sq_step head[] = {
    {SQ_NORM(RESIDUAL, INPUT, "ln_f", ALWAYS)},
    {SQ_LINEAR(INPUT, LOGITS, "lm_head", NEVER)},
};

static const struct sq_config_key keys[] = {
    SQ_KEY_REQUIRED_OR("n_embed", "hidden_size", SQ_KEY_INT, hidden),
    SQ_KEY_REQUIRED_OR("n_layer", "num_hidden_layers", SQ_KEY_INT, n_blocks),
    SQ_KEY_REQUIRED_OR("n_head", "num_attention_heads", SQ_KEY_INT, n_heads),
    SQ_KEY_REQUIRED("vocab_size", SQ_KEY_INT, vocab),
    SQ_KEY_DEFAULT("layer_norm_epsilon", SQ_KEY_FLOAT, epsilon, "1e-5"),
    SQ_KEY_DEFAULT("tie_word_embeddings", SQ_KEY_BOOL, tied, "true"),
};

static const struct sq_config_fixed fixed[] = {
    {"apply_residual_connection_post_layernorm", "false"},
};

static void complete(struct sq_dimensions *dims)
{
    dims->activation = SQ_ACT_GELU_TANH; /* no key */
}

const struct sq_architecture sq_arch_bloom = {
    .name = "BloomForCausalLM",
    .config = {keys, SQ_COUNT(keys), fixed, SQ_COUNT(fixed), .complete = complete},
    .stem = SQ_PROGRAM(stem),
    .block = SQ_PROGRAM(block),
    .head = SQ_PROGRAM(head),
    .norm = SQ_NORM_LAYER,
    .has_alibi = true,
    .prefixes = {"transformer.", ""},
    .embedding = "word_embeddings",
    .blocks = "h",
};
