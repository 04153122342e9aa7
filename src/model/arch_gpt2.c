/* GPT-2 and GPT-BigCode (StarCoder): learned positions; queries, keys and values from one linear. GPT-2 has its weights
 * transposed, BigCode one key head for all queries. */
#include "model/architecture.h"

static const struct sq_step block[] = {
    {SQ_NORM(RESIDUAL, INPUT, "ln_1", ALWAYS)},
    {SQ_LINEAR(INPUT, QKV, "attn.c_attn", ALWAYS)},
    {SQ_SPLIT_QKV, .unless = SQ_VARIANT_BY_HEAD},
    {SQ_SPLIT_HEADS, .when = SQ_VARIANT_BY_HEAD},
    {SQ_ATTENTION},
    {SQ_LINEAR(ATTENDED, OUTPUT, "attn.c_proj", ALWAYS)},
    {SQ_ADD(OUTPUT)},
    {SQ_NORM(RESIDUAL, INPUT, "ln_2", ALWAYS)},
    {SQ_LINEAR(INPUT, UP, "mlp.c_fc", ALWAYS)},
    {SQ_ACTIVATE},
    {SQ_LINEAR(ACTIVE, OUTPUT, "mlp.c_proj", ALWAYS)},
    {SQ_ADD(OUTPUT)},
};

static const struct sq_step head[] = {
    {SQ_NORM(RESIDUAL, INPUT, "ln_f", ALWAYS)},
    {SQ_LINEAR(INPUT, LOGITS, "lm_head", NEVER)},
};

static const struct sq_config_key gpt2_keys[] = {
    SQ_KEYS_GPT,
    SQ_KEY_DEFAULT("activation_function", SQ_KEY_ACTIVATION, activation, "\"gelu_new\""),
    SQ_KEY_DEFAULT("tie_word_embeddings", SQ_KEY_BOOL, tied, "true"),
};

static const struct sq_config_key bigcode_keys[] = {
    SQ_KEYS_GPT,
    SQ_KEY_DEFAULT("activation_function", SQ_KEY_ACTIVATION, activation, "\"gelu_pytorch_tanh\""),
    SQ_KEY_DEFAULT("multi_query", SQ_KEY_BOOL, variant[SQ_VARIANT_MULTI_QUERY], "true"),
    SQ_KEY_DEFAULT("tie_word_embeddings", SQ_KEY_BOOL, tied, "true"),
};

static const struct sq_config_fixed fixed[] = {
    {"scale_attn_weights", "true"},
    {"scale_attn_by_inverse_layer_idx", "false"},
    {"add_cross_attention", "false"},
};

static void complete_bigcode(struct sq_dimensions *dims)
{
    dims->variant[SQ_VARIANT_BY_HEAD] = true;
    dims->n_kv_heads = dims->variant[SQ_VARIANT_MULTI_QUERY] ? 1 : dims->n_heads;
}

#define GPT2_LIKE                                                                                                      \
    .block = SQ_PROGRAM(block), .head = SQ_PROGRAM(head), .norm = SQ_NORM_LAYER, .prefixes = {"transformer.", ""},     \
    .embedding = "wte", .positions = "wpe", .blocks = "h"

const struct sq_architecture sq_arch_gpt2 = {
    GPT2_LIKE,
    .name = "GPT2LMHeadModel",
    .config = {.keys = gpt2_keys, .n_keys = SQ_COUNT(gpt2_keys), .fixed = fixed, .n_fixed = SQ_COUNT(fixed)},
    .is_transposed = true,
};

const struct sq_architecture sq_arch_gpt_bigcode = {
    GPT2_LIKE,
    .name = "GPTBigCodeForCausalLM",
    .config = {bigcode_keys, SQ_COUNT(bigcode_keys), fixed, SQ_COUNT(fixed), .complete = complete_bigcode},
};
