/* Mixtral: Mistral with experts in every block. Experts and routers have one name on the hub and another in what
 * GPTQModel writes. */
#include "model/architecture.h"

static const struct sq_step block[] = {
    {SQ_NORM(RESIDUAL, INPUT, "input_layernorm", NEVER)},
    {SQ_LINEARS(INPUT, 3, SQ_TO(Q, "self_attn.q_proj", NEVER), SQ_TO(K, "self_attn.k_proj", NEVER),
                SQ_TO(V, "self_attn.v_proj", NEVER))},
    {SQ_ROPE(Q)},
    {SQ_ROPE(K)},
    {SQ_ATTENTION},
    {SQ_LINEAR(ATTENDED, OUTPUT, "self_attn.o_proj", NEVER)},
    {SQ_ADD(OUTPUT)},
    {SQ_NORM(RESIDUAL, INPUT, "post_attention_layernorm", NEVER)},
    {SQ_COPY(INPUT, ROUTER_INPUT)},
    {SQ_ROUTE("block_sparse_moe.gate"), .unless = SQ_VARIANT_NEW_NAMES},
    {SQ_EXPERTS(INPUT, OUTPUT, "block_sparse_moe.experts.#.w1", "block_sparse_moe.experts.#.w3",
                "block_sparse_moe.experts.#.w2"),
     .unless = SQ_VARIANT_NEW_NAMES},
    {SQ_ROUTE("mlp.gate"), .when = SQ_VARIANT_NEW_NAMES},
    {SQ_EXPERTS(INPUT, OUTPUT, "mlp.experts.#.gate_proj", "mlp.experts.#.up_proj", "mlp.experts.#.down_proj"),
     .when = SQ_VARIANT_NEW_NAMES},
    {SQ_ADD(OUTPUT)},
};

static const struct sq_step head[] = {
    {SQ_NORM(RESIDUAL, INPUT, "norm", NEVER)},
    {SQ_LINEAR(INPUT, LOGITS, "lm_head", NEVER)},
};

static const struct sq_config_key keys[] = {
    SQ_KEYS_SHAPE,
    SQ_KEY_REQUIRED("num_key_value_heads", SQ_KEY_INT, n_kv_heads),
    SQ_KEY_DEFAULT("head_dim", SQ_KEY_INT, head_dim, "0"),
    SQ_KEY_DEFAULT("hidden_act", SQ_KEY_ACTIVATION, activation, "\"silu\""),
    SQ_KEY_DEFAULT("rms_norm_eps", SQ_KEY_FLOAT, epsilon, "1e-5"),
    SQ_KEY_DEFAULT("sliding_window", SQ_KEY_INT, window, "0"),
    SQ_KEY_DEFAULT("tie_word_embeddings", SQ_KEY_BOOL, tied, "false"),
    SQ_KEY_REQUIRED_OR("num_local_experts", "num_experts", SQ_KEY_INT, n_experts),
    SQ_KEY_REQUIRED("num_experts_per_tok", SQ_KEY_INT, n_chosen),
};

static void complete(struct sq_dimensions *dims)
{
    dims->use_window = true;
    dims->expert_ffn = dims->ffn;
    dims->normalise_routes = true;
}

const struct sq_architecture sq_arch_mixtral = {
    .name = "MixtralForCausalLM",
    .config = {.keys = keys, .n_keys = SQ_COUNT(keys), .complete = complete},
    .block = SQ_PROGRAM(block),
    .head = SQ_PROGRAM(head),
    .norm = SQ_NORM_RMS,
    .rope = {.use = SQ_ROPE_EVERYWHERE},
    .routing = {.kind = SQ_ROUTER_SOFTMAX},
    .prefixes = {"model.", ""},
    .embedding = "embed_tokens",
    .blocks = "layers",
    .new_name = "mlp.gate.weight",
};
