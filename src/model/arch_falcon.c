/* Falcon: attention and MLP from the same residual stream, with one norm (7B, 11B) or one for each (40B, 180B); queries
 * lie in groups, each before its key and value (7B: one group). Falcon-RW (ALiBi, one after the other) is not read. */
#include "model/architecture.h"

static const struct sq_step block[] = {
    {SQ_NORM(RESIDUAL, INPUT, "input_layernorm", ALWAYS), .unless = SQ_VARIANT_TWO_NORMS},
    {SQ_LINEARS(INPUT, 2, SQ_TO(QKV, "self_attention.query_key_value", LINEAR), SQ_TO(UP, "mlp.dense_h_to_4h", LINEAR)),
     .unless = SQ_VARIANT_TWO_NORMS},
    {SQ_ACTIVATE, .unless = SQ_VARIANT_TWO_NORMS},
    {SQ_NORM(RESIDUAL, INPUT, "ln_attn", ALWAYS), .when = SQ_VARIANT_TWO_NORMS},
    {SQ_NORM(RESIDUAL, MLP_INPUT, "ln_mlp", ALWAYS), .when = SQ_VARIANT_TWO_NORMS},
    {SQ_LINEAR(INPUT, QKV, "self_attention.query_key_value", LINEAR), .when = SQ_VARIANT_TWO_NORMS},
    {SQ_SPLIT_HEADS},
    {SQ_ROPE(Q)},
    {SQ_ROPE(K)},
    {SQ_ATTENTION},
    {SQ_LINEAR(ATTENDED, OUTPUT, "self_attention.dense", LINEAR)},
    {SQ_ADD(OUTPUT)},
    {SQ_LINEAR(MLP_INPUT, UP, "mlp.dense_h_to_4h", LINEAR), .when = SQ_VARIANT_TWO_NORMS},
    {SQ_ACTIVATE, .when = SQ_VARIANT_TWO_NORMS},
    {SQ_LINEAR(ACTIVE, OUTPUT, "mlp.dense_4h_to_h", LINEAR)},
    {SQ_ADD(OUTPUT)},
};

static const struct sq_step head[] = {
    {SQ_NORM(RESIDUAL, INPUT, "ln_f", ALWAYS)},
    {SQ_LINEAR(INPUT, LOGITS, "lm_head", NEVER)},
};

static const struct sq_config_key keys[] = {
    SQ_KEY_REQUIRED_OR("hidden_size", "n_embed", SQ_KEY_INT, hidden),
    SQ_KEY_DEFAULT("ffn_hidden_size", SQ_KEY_INT, ffn, "0"),
    SQ_KEY_REQUIRED("num_hidden_layers", SQ_KEY_INT, n_blocks),
    SQ_KEY_REQUIRED("num_attention_heads", SQ_KEY_INT, n_heads),
    SQ_KEY_DEFAULT("num_kv_heads", SQ_KEY_INT, n_kv_heads, "0"),
    SQ_KEY_REQUIRED("vocab_size", SQ_KEY_INT, vocab),
    SQ_KEY_DEFAULT("max_position_embeddings", SQ_KEY_INT, max_length, "2048"),
    SQ_KEY_DEFAULT("layer_norm_epsilon", SQ_KEY_FLOAT, epsilon, "1e-5"),
    SQ_KEY_DEFAULT("activation", SQ_KEY_ACTIVATION, activation, "\"gelu\""),
    SQ_KEY_DEFAULT("bias", SQ_KEY_BOOL, bias[SQ_BIAS_LINEAR], "false"),
    SQ_KEY_DEFAULT("multi_query", SQ_KEY_BOOL, variant[SQ_VARIANT_MULTI_QUERY], "true"),
    SQ_KEY_DEFAULT("new_decoder_architecture", SQ_KEY_BOOL, variant[SQ_VARIANT_GROUPED], "false"),
    SQ_KEY_DEFAULT("num_ln_in_parallel_attn", SQ_KEY_INT, n_parallel_norms, "0"),
    SQ_KEY_DEFAULT("tie_word_embeddings", SQ_KEY_BOOL, tied, "true"),
};

static const struct sq_config_fixed fixed[] = {{"alibi", "false"}, {"parallel_attn", "true"}};

static void complete(struct sq_dimensions *dims)
{
    bool is_grouped = dims->variant[SQ_VARIANT_GROUPED];
    if (!is_grouped) dims->n_kv_heads = dims->variant[SQ_VARIANT_MULTI_QUERY] ? 1 : dims->n_heads;
    dims->variant[SQ_VARIANT_TWO_NORMS] = is_grouped && dims->n_parallel_norms != 1;
}

const struct sq_architecture sq_arch_falcon = {
    .name = "FalconForCausalLM",
    .config = {keys, SQ_COUNT(keys), fixed, SQ_COUNT(fixed), .complete = complete},
    .block = SQ_PROGRAM(block),
    .head = SQ_PROGRAM(head),
    .norm = SQ_NORM_LAYER,
    .rope = {.use = SQ_ROPE_EVERYWHERE},
    .prefixes = {"transformer.", ""},
    .embedding = "word_embeddings",
    .blocks = "h",
};
