/* GPT-J: one norm before attention and MLP, whose first linears so have one input; rotary pairs are neighbours. */
#include "model/architecture.h"

static const struct sq_step block[] = {
    {SQ_NORM(RESIDUAL, INPUT, "ln_1", ALWAYS)},
    {SQ_LINEARS(INPUT, 4, SQ_TO(Q, "attn.q_proj", NEVER), SQ_TO(K, "attn.k_proj", NEVER),
                SQ_TO(V, "attn.v_proj", NEVER), SQ_TO(UP, "mlp.fc_in", ALWAYS))},
    {SQ_ACTIVATE},
    {SQ_ROPE(Q)},
    {SQ_ROPE(K)},
    {SQ_ATTENTION},
    {SQ_LINEAR(ATTENDED, OUTPUT, "attn.out_proj", NEVER)},
    {SQ_ADD(OUTPUT)},
    {SQ_LINEAR(ACTIVE, OUTPUT, "mlp.fc_out", ALWAYS)},
    {SQ_ADD(OUTPUT)},
};

static const struct sq_step head[] = {
    {SQ_NORM(RESIDUAL, INPUT, "ln_f", ALWAYS)},
    {SQ_LINEAR(INPUT, LOGITS, "lm_head", ALWAYS)},
};

static const struct sq_config_key keys[] = {
    SQ_KEYS_GPT,
    SQ_KEY_DEFAULT("rotary_dim", SQ_KEY_INT, rotary_dim, "64"),
    SQ_KEY_DEFAULT("activation_function", SQ_KEY_ACTIVATION, activation, "\"gelu_new\""),
    SQ_KEY_DEFAULT("tie_word_embeddings", SQ_KEY_BOOL, tied, "false"),
};

const struct sq_architecture sq_arch_gptj = {
    .name = "GPTJForCausalLM",
    .config = {.keys = keys, .n_keys = SQ_COUNT(keys)},
    .block = SQ_PROGRAM(block),
    .head = SQ_PROGRAM(head),
    .norm = SQ_NORM_LAYER,
    .rope = {.use = SQ_ROPE_EVERYWHERE, .pairs = SQ_ROPE_NEIGHBOURS},
    .prefixes = {"transformer.", ""},
    .embedding = "wte",
    .blocks = "h",
};
