/* OPT: layer norm, biases everywhere, learned positions (shifted by two), ReLU, no gate. */
#include "model/architecture.h"

static const struct sq_step block[] = {
    {SQ_NORM(RESIDUAL, INPUT, "self_attn_layer_norm", ALWAYS)},
    {SQ_LINEARS(INPUT, 3, SQ_TO(Q, "self_attn.q_proj", LINEAR), SQ_TO(K, "self_attn.k_proj", LINEAR),
                SQ_TO(V, "self_attn.v_proj", LINEAR))},
    {SQ_ATTENTION},
    {SQ_LINEAR(ATTENDED, OUTPUT, "self_attn.out_proj", LINEAR)},
    {SQ_ADD(OUTPUT)},
    {SQ_NORM(RESIDUAL, INPUT, "final_layer_norm", ALWAYS)},
    {SQ_LINEAR(INPUT, UP, "fc1", LINEAR)},
    {SQ_ACTIVATE},
    {SQ_LINEAR(ACTIVE, OUTPUT, "fc2", LINEAR)},
    {SQ_ADD(OUTPUT)},
};

static const struct sq_step head[] = {
    {SQ_NORM(RESIDUAL, INPUT, "final_layer_norm", ALWAYS)},
    {SQ_LINEAR(INPUT, LOGITS, "lm_head", NEVER)},
};

static const struct sq_config_key keys[] = {
    SQ_KEY_REQUIRED("hidden_size", SQ_KEY_INT, hidden),
    SQ_KEY_REQUIRED("ffn_dim", SQ_KEY_INT, ffn),
    SQ_KEY_REQUIRED("num_hidden_layers", SQ_KEY_INT, n_blocks),
    SQ_KEY_REQUIRED("num_attention_heads", SQ_KEY_INT, n_heads),
    SQ_KEY_REQUIRED("vocab_size", SQ_KEY_INT, vocab),
    SQ_KEY_REQUIRED("max_position_embeddings", SQ_KEY_INT, max_length),
    SQ_KEY_DEFAULT("word_embed_proj_dim", SQ_KEY_INT, embedding_dim, "0"),
    SQ_KEY_DEFAULT("activation_function", SQ_KEY_ACTIVATION, activation, "\"relu\""),
    SQ_KEY_DEFAULT("enable_bias", SQ_KEY_BOOL, bias[SQ_BIAS_LINEAR], "true"),
    SQ_KEY_DEFAULT("tie_word_embeddings", SQ_KEY_BOOL, tied, "true"),
};

static const struct sq_config_fixed fixed[] = {
    {"do_layer_norm_before", "true"},
    {"_remove_final_layer_norm", "false"},
    {"layer_norm_elementwise_affine", "true"},
};

static void complete(struct sq_dimensions *dims)
{
    dims->epsilon = 1e-5; /* no key: PyTorch's default for a layer norm */
}

const struct sq_architecture sq_arch_opt = {
    .name = "OPTForCausalLM",
    .config = {keys, SQ_COUNT(keys), fixed, SQ_COUNT(fixed), .complete = complete},
    .block = SQ_PROGRAM(block),
    .head = SQ_PROGRAM(head),
    .norm = SQ_NORM_LAYER,
    .prefixes = {"model.decoder.", "decoder."},
    .embedding = "embed_tokens",
    .blocks = "layers",
    .positions = "embed_positions",
    .position_offset = 2,
};
