/* OPT: layer norm, biases everywhere, learned positions (shifted by two), ReLU, no gate. */
#include "model/architecture.h"

enum { RESIDUAL, INPUT, Q, K, V, ATTENDED, OUTPUT, WIDE, ACTIVE, N_SLOTS };

static const struct sq_slot slots[N_SLOTS] = {
    [RESIDUAL] = {SQ_WIDTH_HIDDEN, true}, [INPUT] = {SQ_WIDTH_HIDDEN, false}, [Q] = {SQ_WIDTH_HEADS, false},
    [K] = {SQ_WIDTH_KV, false},           [V] = {SQ_WIDTH_KV, false},         [ATTENDED] = {SQ_WIDTH_HEADS, false},
    [OUTPUT] = {SQ_WIDTH_HIDDEN, true},   [WIDE] = {SQ_WIDTH_FFN, false},     [ACTIVE] = {SQ_WIDTH_FFN, false},
};

/* clang-format off */
static const struct sq_step steps[] = {
    {SQ_STEP_NORM, 1, {RESIDUAL}, 1, {INPUT}, {"self_attn_layer_norm"}, SQ_BIAS_NEVER},
    {SQ_STEP_LINEAR, 1, {INPUT}, 3, {Q, K, V}, {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"},
     SQ_BIAS_QKV},
    {SQ_STEP_ATTENTION, 3, {Q, K, V}, 1, {ATTENDED}, {NULL}, SQ_BIAS_NEVER},
    {SQ_STEP_LINEAR, 1, {ATTENDED}, 1, {OUTPUT}, {"self_attn.out_proj"}, SQ_BIAS_ATTENTION_OUT},
    {SQ_STEP_ADD, 1, {OUTPUT}, 1, {RESIDUAL}, {NULL}, SQ_BIAS_NEVER},
    {SQ_STEP_NORM, 1, {RESIDUAL}, 1, {INPUT}, {"final_layer_norm"}, SQ_BIAS_NEVER},
    {SQ_STEP_LINEAR, 1, {INPUT}, 1, {WIDE}, {"fc1"}, SQ_BIAS_MLP},
    {SQ_STEP_ACTIVATE, 1, {WIDE}, 1, {ACTIVE}, {NULL}, SQ_BIAS_NEVER},
    {SQ_STEP_LINEAR, 1, {ACTIVE}, 1, {OUTPUT}, {"fc2"}, SQ_BIAS_MLP},
    {SQ_STEP_ADD, 1, {OUTPUT}, 1, {RESIDUAL}, {NULL}, SQ_BIAS_NEVER},
};
static const struct sq_step head_steps[] = {
    {SQ_STEP_NORM, 1, {RESIDUAL}, 1, {INPUT}, {"final_layer_norm"}, SQ_BIAS_NEVER},
    {SQ_STEP_LINEAR, 1, {INPUT}, 0, {0}, {"lm_head"}, SQ_BIAS_NEVER},
};
/* clang-format on */

static const struct sq_config_key keys[] = {
    SQ_KEY_REQUIRED("hidden_size", SQ_KEY_INT, hidden),
    SQ_KEY_REQUIRED("ffn_dim", SQ_KEY_INT, ffn),
    SQ_KEY_REQUIRED("num_hidden_layers", SQ_KEY_INT, n_blocks),
    SQ_KEY_REQUIRED("num_attention_heads", SQ_KEY_INT, n_heads),
    SQ_KEY_REQUIRED("vocab_size", SQ_KEY_INT, vocab),
    SQ_KEY_REQUIRED("max_position_embeddings", SQ_KEY_INT, max_length),
    SQ_KEY_DEFAULT("word_embed_proj_dim", SQ_KEY_INT, embedding_dim, "0"),
    SQ_KEY_DEFAULT("activation_function", SQ_KEY_ACTIVATION, activation, "\"relu\""),
    SQ_KEY_DEFAULT("enable_bias", SQ_KEY_BOOL, bias[SQ_BIAS_QKV], "true"),
    SQ_KEY_DEFAULT("tie_word_embeddings", SQ_KEY_BOOL, tied, "true"),
};

static const struct sq_config_fixed fixed[] = {
    {"do_layer_norm_before", "true"},
    {"_remove_final_layer_norm", "false"},
    {"layer_norm_elementwise_affine", "true"},
};

static void complete(struct sq_dimensions *dims)
{
    dims->bias[SQ_BIAS_ATTENTION_OUT] = dims->bias[SQ_BIAS_QKV];
    dims->bias[SQ_BIAS_MLP] = dims->bias[SQ_BIAS_QKV];
    dims->epsilon = 1e-5; /* no key: PyTorch's default for a layer norm */
}

const struct sq_architecture sq_arch_opt = {
    .name = "OPTForCausalLM",
    .keys = keys,
    .n_keys = SQ_COUNT(keys),
    .fixed = fixed,
    .n_fixed = SQ_COUNT(fixed),
    .slots = slots,
    .n_slots = N_SLOTS,
    .block = {steps, SQ_COUNT(steps)},
    .head = {head_steps, SQ_COUNT(head_steps)},
    .norm = SQ_NORM_LAYER,
    .prefixes = {"model.decoder.", "decoder."},
    .embedding = "embed_tokens",
    .blocks = "layers",
    .positions = "embed_positions",
    .position_offset = 2,
    .complete = complete,
};
