/* Cohere (Command-R) and Cohere 2 (Command R7B, Command A): one layer norm without bias before attention and MLP,
 * rotary pairs of neighbours, scaled logits. Cohere 2 turns heads only in blocks with a sliding window. */
#include "model/architecture.h"

static const struct sq_step block[] = {
    {SQ_NORM(RESIDUAL, INPUT, "input_layernorm", NEVER)},
    {SQ_LINEARS(INPUT, 5, SQ_TO(Q, "self_attn.q_proj", QKV), SQ_TO(K, "self_attn.k_proj", QKV),
                SQ_TO(V, "self_attn.v_proj", QKV), SQ_TO(GATE, "mlp.gate_proj", NEVER),
                SQ_TO(UP, "mlp.up_proj", NEVER))},
    {SQ_ACTIVATE_GATED},
    {SQ_HEAD_NORM(Q, "self_attn.q_norm", NEVER), .heads = SQ_HEADS_ROWS, .when = SQ_VARIANT_QK_NORM},
    {SQ_HEAD_NORM(K, "self_attn.k_norm", NEVER), .heads = SQ_HEADS_ROWS, .when = SQ_VARIANT_QK_NORM},
    {SQ_ROPE(Q)},
    {SQ_ROPE(K)},
    {SQ_ATTENTION},
    {SQ_LINEAR(ATTENDED, OUTPUT, "self_attn.o_proj", QKV)},
    {SQ_ADD(OUTPUT)},
    {SQ_LINEAR(ACTIVE, OUTPUT, "mlp.down_proj", NEVER)},
    {SQ_ADD(OUTPUT)},
};

static const struct sq_step head[] = {
    {SQ_NORM(RESIDUAL, INPUT, "norm", NEVER)},
    {SQ_LINEAR(INPUT, LOGITS, "lm_head", NEVER)},
};

#define COHERE_KEYS                                                                                                    \
    SQ_KEYS_SHAPE, SQ_KEY_DEFAULT("num_key_value_heads", SQ_KEY_INT, n_kv_heads, "0"),                                 \
        SQ_KEY_DEFAULT("hidden_act", SQ_KEY_ACTIVATION, activation, "\"silu\""),                                       \
        SQ_KEY_DEFAULT("layer_norm_eps", SQ_KEY_FLOAT, epsilon, "1e-5"),                                               \
        SQ_KEY_DEFAULT("logit_scale", SQ_KEY_FLOAT, logit_scale, "0.0625"),                                            \
        SQ_KEY_DEFAULT("attention_bias", SQ_KEY_BOOL, bias[SQ_BIAS_QKV], "false"),                                     \
        SQ_KEY_DEFAULT("tie_word_embeddings", SQ_KEY_BOOL, tied, "true")

static const struct sq_config_key cohere_keys[] = {
    COHERE_KEYS,
    SQ_KEY_DEFAULT("use_qk_norm", SQ_KEY_BOOL, variant[SQ_VARIANT_QK_NORM], "false"),
};

static const struct sq_config_key cohere2_keys[] = {
    COHERE_KEYS,
    SQ_KEY_DEFAULT("sliding_window", SQ_KEY_INT_OR_NULL, window, "4096"),
    SQ_KEY_DEFAULT("sliding_window_pattern", SQ_KEY_INT, window_pattern, "4"),
};

static void complete2(struct sq_dimensions *dims)
{
    dims->use_window = true;
}

#define COHERE_LIKE                                                                                                    \
    .block = SQ_PROGRAM(block), .head = SQ_PROGRAM(head), .norm = SQ_NORM_LAYER, .prefixes = {"model.", ""},           \
    .embedding = "embed_tokens", .blocks = "layers"

const struct sq_architecture sq_arch_cohere = {
    COHERE_LIKE,
    .name = "CohereForCausalLM",
    .config = {.keys = cohere_keys, .n_keys = SQ_COUNT(cohere_keys)},
    .rope = {.use = SQ_ROPE_EVERYWHERE, .pairs = SQ_ROPE_NEIGHBOURS, .theta = 500000},
};

const struct sq_architecture sq_arch_cohere2 = {
    COHERE_LIKE,
    .name = "Cohere2ForCausalLM",
    .config = {cohere2_keys, SQ_COUNT(cohere2_keys), .has_layer_types = true, .complete = complete2},
    .rope = {.use = SQ_ROPE_IN_WINDOWS, .pairs = SQ_ROPE_NEIGHBOURS},
};
