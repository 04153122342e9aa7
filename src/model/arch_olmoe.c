/* OLMoE: Llama with experts in every block, and norms of all queries and all keys together. */
#include "model/architecture.h"

static const struct sq_step block[] = {
    {SQ_NORM(RESIDUAL, INPUT, "input_layernorm", NEVER)},
    {SQ_LINEARS(INPUT, 3, SQ_TO(Q, "self_attn.q_proj", QKV), SQ_TO(K, "self_attn.k_proj", QKV),
                SQ_TO(V, "self_attn.v_proj", QKV))},
    {SQ_NORM(Q, Q, "self_attn.q_norm", NEVER)},
    {SQ_NORM(K, K, "self_attn.k_norm", NEVER)},
    {SQ_ROPE(Q)},
    {SQ_ROPE(K)},
    {SQ_ATTENTION},
    {SQ_LINEAR(ATTENDED, OUTPUT, "self_attn.o_proj", QKV)},
    {SQ_ADD(OUTPUT)},
    {SQ_NORM(RESIDUAL, INPUT, "post_attention_layernorm", NEVER)},
    {SQ_COPY(INPUT, ROUTER_INPUT)},
    {SQ_ROUTE("mlp.gate")},
    {SQ_EXPERTS(INPUT, OUTPUT, "mlp.experts.#.gate_proj", "mlp.experts.#.up_proj", "mlp.experts.#.down_proj")},
    {SQ_ADD(OUTPUT)},
};

static const struct sq_step head[] = {
    {SQ_NORM(RESIDUAL, INPUT, "norm", NEVER)},
    {SQ_LINEAR(INPUT, LOGITS, "lm_head", NEVER)},
};

static const struct sq_config_key keys[] = {
    SQ_KEYS_SHAPE,
    SQ_KEY_DEFAULT("num_key_value_heads", SQ_KEY_INT, n_kv_heads, "0"),
    SQ_KEY_DEFAULT("hidden_act", SQ_KEY_ACTIVATION, activation, "\"silu\""),
    SQ_KEY_DEFAULT("rms_norm_eps", SQ_KEY_FLOAT, epsilon, "1e-5"),
    SQ_KEY_DEFAULT("attention_bias", SQ_KEY_BOOL, bias[SQ_BIAS_QKV], "false"),
    SQ_KEY_DEFAULT("tie_word_embeddings", SQ_KEY_BOOL, tied, "false"),
    SQ_KEY_REQUIRED_OR("num_experts", "num_local_experts", SQ_KEY_INT, n_experts),
    SQ_KEY_REQUIRED("num_experts_per_tok", SQ_KEY_INT, n_chosen),
    SQ_KEY_DEFAULT("norm_topk_prob", SQ_KEY_BOOL, normalise_routes, "false"),
};

static const struct sq_config_fixed fixed[] = {{"clip_qkv", NULL}};

static void complete(struct sq_dimensions *dims)
{
    dims->expert_ffn = dims->ffn;
}

const struct sq_architecture sq_arch_olmoe = {
    .name = "OlmoeForCausalLM",
    .config = {keys, SQ_COUNT(keys), fixed, SQ_COUNT(fixed), .complete = complete},
    .block = SQ_PROGRAM(block),
    .head = SQ_PROGRAM(head),
    .norm = SQ_NORM_RMS,
    .rope = {.use = SQ_ROPE_EVERYWHERE},
    .routing = {.kind = SQ_ROUTER_SOFTMAX},
    .prefixes = {"model.", ""},
    .embedding = "embed_tokens",
    .blocks = "layers",
};
