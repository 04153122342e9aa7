/* What an architecture file says: a table of config keys, a table of steps with tensor names, and a few names.
 * To add one: a new arch_*.c with a const struct sq_architecture, and its line in SQ_ARCHITECTURES below. */
#ifndef SQ_MODEL_ARCHITECTURE_H
#define SQ_MODEL_ARCHITECTURE_H

#include "model/rope.h"
#include "model/steps.h"

#define SQ_MAX_PREFIXES 3

/* Keys that many families have under the same names. */
#define SQ_KEYS_SHAPE                                                                                                  \
    SQ_KEY_REQUIRED("hidden_size", SQ_KEY_INT, hidden), SQ_KEY_REQUIRED("intermediate_size", SQ_KEY_INT, ffn),         \
        SQ_KEY_REQUIRED("num_hidden_layers", SQ_KEY_INT, n_blocks),                                                    \
        SQ_KEY_REQUIRED("num_attention_heads", SQ_KEY_INT, n_heads), SQ_KEY_REQUIRED("vocab_size", SQ_KEY_INT, vocab), \
        SQ_KEY_REQUIRED("max_position_embeddings", SQ_KEY_INT, max_length)

/* The same under the names that GPT-2 began with. */
#define SQ_KEYS_GPT                                                                                                    \
    SQ_KEY_REQUIRED_OR("n_embd", "hidden_size", SQ_KEY_INT, hidden), SQ_KEY_DEFAULT("n_inner", SQ_KEY_INT, ffn, "0"),  \
        SQ_KEY_REQUIRED_OR("n_layer", "num_hidden_layers", SQ_KEY_INT, n_blocks),                                      \
        SQ_KEY_REQUIRED_OR("n_head", "num_attention_heads", SQ_KEY_INT, n_heads),                                      \
        SQ_KEY_REQUIRED("vocab_size", SQ_KEY_INT, vocab),                                                              \
        SQ_KEY_REQUIRED_OR("n_positions", "max_position_embeddings", SQ_KEY_INT, max_length),                          \
        SQ_KEY_DEFAULT("layer_norm_epsilon", SQ_KEY_FLOAT, epsilon, "1e-5")

/* How the router of a block with experts chooses; numbers are among the dimensions. */
struct sq_routing_form {
    enum sq_router_kind kind;
    enum sq_group_score group_score;
};

struct sq_architecture {
    const char *name; /* in `architectures` of config.json */
    struct sq_config_table config;
    struct sq_program stem; /* on the residual stream after the embedding; may be empty */
    struct sq_program block;
    struct sq_program head; /* a norm, then lm_head: residual -> input -> logits */
    enum sq_norm_kind norm;
    bool norm_adds_one; /* norms multiply by 1 + weight */
    bool has_alibi;     /* scores fall with the distance (Press et al., "Train short, test long") */
    struct sq_rope_form rope;
    struct sq_routing_form routing; /* where blocks have experts */
    bool experts_in_turn; /* outputs of an expert's gate, then up, are in truth gate and up in turn (io/fused.h) */
    bool is_transposed;   /* the weights of a block's linears are stored [in_features, out_features] */
    const char *prefixes[SQ_MAX_PREFIXES]; /* of every tensor but lm_head, tried in this order */
    const char *embedding, *blocks;        /* after the prefix: "embed_tokens", "layers" */
    const char *positions;                 /* learned positions, or NULL */
    int64_t position_offset;               /* row of position 0 */
    const char *new_name; /* a tensor of a block that folders with SQ_VARIANT_NEW_NAMES have; or NULL */
};

/* clang-format off */
#define SQ_ARCHITECTURES(X) /* one line per file arch_*.c */ \
    X(llama) X(mistral) X(qwen2) X(qwen3) \
    X(bloom) \
    X(cohere) X(cohere2) \
    X(deepseek_v2) X(deepseek_v3) \
    X(falcon) \
    X(gemma) X(gemma2) X(gemma3) \
    X(glm) X(glm4) \
    X(gpt2) X(gpt_bigcode) \
    X(gpt_neox) \
    X(gptj) \
    X(gpt_oss) \
    X(granite) \
    X(internlm2) \
    X(mixtral) \
    X(olmo2) \
    X(olmoe) \
    X(opt) \
    X(phi) \
    X(phi3) \
    X(qwen2_moe) X(qwen3_moe) \
    X(stablelm)
/* clang-format on */

#define X(name) extern const struct sq_architecture sq_arch_##name;
SQ_ARCHITECTURES(X)
#undef X

/* The architecture that config.json names. SQ_ERR_INPUT names it and lists those known. Local. */
enum sq_status sq_architecture_find(const json_t *config, const char *folder,
                                    const struct sq_architecture **architecture_p) SQ_MUST_CHECK;

#endif
