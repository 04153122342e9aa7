/* DeepSeek-V2, V3, R1: attention from latents (MLA). Queries, keys and values are made from narrow vectors; a key is a
 * part of its head's own, and a part that turns with the position and is the same for all heads. Models without experts
 * only. */
#include "model/architecture.h"

#define LATENT_EPSILON 1e-6 /* whatever config.json says of the other norms */

static const struct sq_step block[] = {
    {SQ_NORM(RESIDUAL, INPUT, "input_layernorm", NEVER)},
    {SQ_LINEARS(INPUT, 2, SQ_TO(Q_LATENT, "self_attn.q_a_proj", QKV),
                SQ_TO(LATENTS, "self_attn.kv_a_proj_with_mqa", QKV)),
     .when = SQ_VARIANT_Q_LATENT},
    {SQ_LINEARS(INPUT, 2, SQ_TO(Q, "self_attn.q_proj", NEVER), SQ_TO(LATENTS, "self_attn.kv_a_proj_with_mqa", QKV)),
     .unless = SQ_VARIANT_Q_LATENT},
    {SQ_SPLIT_LATENTS},
    {SQ_NORM(KV_LATENT, KV_LATENT, "self_attn.kv_a_layernorm", NEVER), .epsilon = LATENT_EPSILON},
    {SQ_NORM(Q_LATENT, Q_LATENT, "self_attn.q_a_layernorm", NEVER), .epsilon = LATENT_EPSILON,
     .when = SQ_VARIANT_Q_LATENT},
    {SQ_LINEAR(Q_LATENT, Q, "self_attn.q_b_proj", NEVER), .when = SQ_VARIANT_Q_LATENT},
    {SQ_LINEAR(KV_LATENT, KV, "self_attn.kv_b_proj", NEVER)},
    {SQ_ROPE(Q)},
    {SQ_ROPE(K_TURNING)},
    {SQ_JOIN_KEYS},
    {SQ_ATTENTION},
    {SQ_LINEAR(ATTENDED, OUTPUT, "self_attn.o_proj", QKV)},
    {SQ_ADD(OUTPUT)},
    {SQ_NORM(RESIDUAL, INPUT, "post_attention_layernorm", NEVER)},
    {SQ_LINEARS(INPUT, 2, SQ_TO(GATE, "mlp.gate_proj", NEVER), SQ_TO(UP, "mlp.up_proj", NEVER))},
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
    SQ_KEY_DEFAULT("q_lora_rank", SQ_KEY_INT_OR_NULL, q_rank, "1536"),
    SQ_KEY_REQUIRED("kv_lora_rank", SQ_KEY_INT, kv_rank),
    SQ_KEY_REQUIRED("qk_nope_head_dim", SQ_KEY_INT, still_dim),
    SQ_KEY_REQUIRED("qk_rope_head_dim", SQ_KEY_INT, rotary_dim),
    SQ_KEY_REQUIRED("v_head_dim", SQ_KEY_INT, value_dim),
    SQ_KEY_DEFAULT("hidden_act", SQ_KEY_ACTIVATION, activation, "\"silu\""),
    SQ_KEY_DEFAULT("rms_norm_eps", SQ_KEY_FLOAT, epsilon, "1e-6"),
    SQ_KEY_DEFAULT("attention_bias", SQ_KEY_BOOL, bias[SQ_BIAS_QKV], "false"),
    SQ_KEY_DEFAULT("tie_word_embeddings", SQ_KEY_BOOL, tied, "false"),
};

static const struct sq_config_fixed fixed[] = {{"n_routed_experts", NULL}, {"mlp_bias", "false"}};

static void complete(struct sq_dimensions *dims)
{
    dims->head_dim = dims->still_dim + dims->rotary_dim;
    dims->variant[SQ_VARIANT_Q_LATENT] = dims->q_rank > 0;
}

#define DEEPSEEK                                                                                                       \
    .config = {keys, SQ_COUNT(keys), fixed, SQ_COUNT(fixed), .complete = complete}, .block = SQ_PROGRAM(block),        \
    .head = SQ_PROGRAM(head), .norm = SQ_NORM_RMS, .prefixes = {"model.", ""}, .embedding = "embed_tokens",            \
    .blocks = "layers"

const struct sq_architecture sq_arch_deepseek_v2 = {
    DEEPSEEK,
    .name = "DeepseekV2ForCausalLM",
    .rope = {.use = SQ_ROPE_EVERYWHERE, .pairs = SQ_ROPE_NEIGHBOURS, .at_end = true, .scales_scores = true},
};

const struct sq_architecture sq_arch_deepseek_v3 = {
    DEEPSEEK,
    .name = "DeepseekV3ForCausalLM",
    .rope = {.use = SQ_ROPE_EVERYWHERE,
             .pairs = SQ_ROPE_NEIGHBOURS,
             .pairs_key = "rope_interleave",
             .at_end = true,
             .scales_scores = true},
};
