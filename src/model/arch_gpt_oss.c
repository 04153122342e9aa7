/* GPT-OSS: attention with sinks, every other block with a sliding window, experts in every block; all linears and the
 * router have biases. The experts of published models are fused, in bf16 or MXFP4 (io/fused.h). */
#include "model/architecture.h"

static const struct sq_step block[] = {
    {SQ_NORM(RESIDUAL, INPUT, "input_layernorm", NEVER)},
    {SQ_LINEARS(INPUT, 3, SQ_TO(Q, "self_attn.q_proj", QKV), SQ_TO(K, "self_attn.k_proj", QKV),
                SQ_TO(V, "self_attn.v_proj", QKV))},
    {SQ_ROPE(Q)},
    {SQ_ROPE(K)},
    {SQ_ATTENTION_SINKS("self_attn.sinks")},
    {SQ_LINEAR(ATTENDED, OUTPUT, "self_attn.o_proj", QKV)},
    {SQ_ADD(OUTPUT)},
    {SQ_NORM(RESIDUAL, INPUT, "post_attention_layernorm", NEVER)},
    {SQ_COPY(INPUT, ROUTER_INPUT)},
    {SQ_ROUTE_BY("mlp.router", ALWAYS, NULL)},
    {SQ_EXPERTS_BY(INPUT, OUTPUT, "mlp.experts.#.gate_proj", "mlp.experts.#.up_proj", "mlp.experts.#.down_proj",
                   ALWAYS)},
    {SQ_ADD(OUTPUT)},
};

static const struct sq_step head[] = {
    {SQ_NORM(RESIDUAL, INPUT, "norm", NEVER)},
    {SQ_LINEAR(INPUT, LOGITS, "lm_head", NEVER)},
};

static const struct sq_config_key keys[] = {
    SQ_KEYS_SHAPE,
    SQ_KEY_REQUIRED("num_key_value_heads", SQ_KEY_INT, n_kv_heads),
    SQ_KEY_DEFAULT("head_dim", SQ_KEY_INT, head_dim, "64"),
    SQ_KEY_DEFAULT("rms_norm_eps", SQ_KEY_FLOAT, epsilon, "1e-5"),
    SQ_KEY_DEFAULT("sliding_window", SQ_KEY_INT_OR_NULL, window, "128"),
    SQ_KEY_DEFAULT("attention_bias", SQ_KEY_BOOL, bias[SQ_BIAS_QKV], "true"),
    SQ_KEY_DEFAULT("tie_word_embeddings", SQ_KEY_BOOL, tied, "false"),
    SQ_KEY_REQUIRED_OR("num_local_experts", "num_experts", SQ_KEY_INT, n_experts),
    SQ_KEY_REQUIRED("num_experts_per_tok", SQ_KEY_INT, n_chosen),
};

/* SQ_CLAMP and SQ_CLAMPED_SLOPE; whatever hidden_act says */
static const struct sq_config_fixed fixed[] = {{"swiglu_limit", "7.0"}, {"swiglu_alpha", "1.702"}};

static void complete(struct sq_dimensions *dims)
{
    dims->use_window = true;
    dims->window_pattern = 2;
    dims->expert_ffn = dims->ffn;
    dims->activation = SQ_ACT_CLAMPED;
}

const struct sq_architecture sq_arch_gpt_oss = {
    .name = "GptOssForCausalLM",
    .config = {keys, SQ_COUNT(keys), fixed, SQ_COUNT(fixed), .has_layer_types = true, .complete = complete},
    .block = SQ_PROGRAM(block),
    .head = SQ_PROGRAM(head),
    .norm = SQ_NORM_RMS,
    .rope = {.use = SQ_ROPE_EVERYWHERE, .theta = 150000},
    .routing = {.kind = SQ_ROUTER_SOFTMAX_CHOSEN},
    .experts_in_turn = true,
    .prefixes = {"model.", ""},
    .embedding = "embed_tokens",
    .blocks = "layers",
};
