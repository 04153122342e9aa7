/* What config.json says of a model, by a table of keys. */
#ifndef SQ_MODEL_DIMENSIONS_H
#define SQ_MODEL_DIMENSIONS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "tensor/backend.h"

/* Tensors that have a bias together. */
enum sq_bias {
    SQ_BIAS_NEVER,
    SQ_BIAS_ALWAYS,
    SQ_BIAS_LINEAR, /* all linears of a block */
    SQ_BIAS_QKV,
    SQ_BIAS_ATTENTION_OUT,
    SQ_BIAS_MLP,
    SQ_N_BIASES
};

/* What decides which steps a block has. */
enum sq_variant {
    SQ_VARIANT_NONE,
    SQ_VARIANT_QK_NORM,     /* norms of queries and keys */
    SQ_VARIANT_PARALLEL,    /* attention and MLP from the same residual stream */
    SQ_VARIANT_TWO_NORMS,   /* ... each with a norm of its own */
    SQ_VARIANT_POST_NORMS,  /* norms after attention and MLP as well */
    SQ_VARIANT_BY_HEAD,     /* fused queries, keys and values lie head by head */
    SQ_VARIANT_MULTI_QUERY, /* one key head for all queries */
    SQ_VARIANT_GROUPED,     /* groups of queries with a key head each */
    SQ_VARIANT_Q_LATENT,    /* queries are made from a narrow slot (MLA) */
    SQ_VARIANT_EXPERTS,     /* differs from block to block: it has experts in place of an MLP */
    SQ_VARIANT_NO_SHARED,   /* there is no expert that every token goes to */
    SQ_VARIANT_NEW_NAMES,   /* experts have the names that GPTQModel gives (new_name of a table) */
    SQ_N_VARIANTS
};

struct sq_dimensions {
    int64_t hidden, ffn, n_blocks, n_heads, n_kv_heads, head_dim, vocab;
    int64_t value_dim;            /* of a head of values; 0: as head_dim */
    int64_t rotary_dim;           /* entries of a head that turn, where a key says it; 0: none does */
    int64_t still_dim;            /* those that do not, likewise */
    int64_t q_rank, kv_rank;      /* widths of what queries, and keys and values, are made from (MLA); 0: hidden */
    int64_t max_length;           /* positions the model knows; 0: no bound */
    int64_t n_parallel_norms;     /* norms before a parallel attention and MLP, where a key says it; 0: none does */
    int64_t embedding_dim;        /* width of the embedding where it can differ from hidden; 0: not given */
    int64_t window, first_window; /* sliding window (0: none) of the blocks from first_window on */
    int64_t window_pattern;       /* every so-many-th block has no window; 0: all have it */
    bool use_window;              /* false: window is ignored */
    int64_t n_experts, n_chosen;  /* experts of a block (0: none), and those that a token goes to */
    int64_t n_expert_groups, n_chosen_groups; /* groups of experts, and those that a token goes to; 0: no groups */
    int64_t expert_ffn, shared_ffn;           /* widths of an expert, and of the one that every token goes to */
    int64_t n_shared;                         /* experts that the latter stands for, where a key says it */
    bool limits_groups;                       /* the choice of groups counts, where a key says it */
    int64_t first_sparse, sparse_step; /* from first_sparse on every sparse_step-th block has experts; 0: every one */
    bool normalise_routes;             /* the weights of a token's experts are divided by their sum */
    double route_scale;                /* and multiplied by this */
    bool tied, bias[SQ_N_BIASES], variant[SQ_N_VARIANTS];
    enum sq_activation activation;
    double epsilon;
    double embedding_scale, residual_scale, logit_scale; /* factors on the embedding, on what is added, on the logits */
    double attention_scale;                              /* factor on q.k; 1 / sqrt(head_dim) where no key says it */
    double attention_cap, logit_cap;                     /* scores, logits become cap tanh(x / cap); 0: they stay */
};

enum sq_key_kind {
    SQ_KEY_INT,           /* at least 1 where it is required, else at least 0 */
    SQ_KEY_INT_OR_NULL,   /* null: 0 */
    SQ_KEY_FLOAT,         /* above zero */
    SQ_KEY_FLOAT_OR_NULL, /* above zero; null: 0 */
    SQ_KEY_INVERSE,       /* x above zero: the field is 1 / x */
    SQ_KEY_INVERSE_ROOT,  /* x above zero: the field is 1 / sqrt(x) */
    SQ_KEY_BOOL,
    SQ_KEY_TOPK_METHOD, /* bool: group_limited_greedy, not greedy */
    SQ_KEY_ACTIVATION
};

/* One key of config.json; null counts as absent where its kind does not say otherwise. */
struct sq_config_key {
    const char *name;
    const char *alias; /* another name of the same, or NULL */
    enum sq_key_kind kind;
    size_t offset; /* in struct sq_dimensions */
    bool required;
    const char *fallback; /* JSON text of the value when absent and not required */
};

#define SQ_KEY_REQUIRED_OR(name, alias, kind, field)                                                                   \
    {                                                                                                                  \
        name, alias, kind, offsetof(struct sq_dimensions, field), true, NULL                                           \
    }
#define SQ_KEY_DEFAULT_OR(name, alias, kind, field, fallback)                                                          \
    {                                                                                                                  \
        name, alias, kind, offsetof(struct sq_dimensions, field), false, fallback                                      \
    }
#define SQ_KEY_REQUIRED(name, kind, field) SQ_KEY_REQUIRED_OR(name, NULL, kind, field)
#define SQ_KEY_DEFAULT(name, kind, field, fallback) SQ_KEY_DEFAULT_OR(name, NULL, kind, field, fallback)

/* A key whose other values change the computation in a way that is not supported. */
struct sq_config_fixed {
    const char *name;
    const char *only; /* JSON text of the one value; NULL: the key may not be there (null is fine) */
};

/* Which keys an architecture reads. */
struct sq_config_table {
    const struct sq_config_key *keys;
    int n_keys;
    const struct sq_config_fixed *fixed;
    int n_fixed;
    bool has_layer_types;                         /* `layer_types` says which blocks have the window */
    void (*complete)(struct sq_dimensions *dims); /* what follows from other keys; may be NULL */
    bool has_dense_list;                          /* `mlp_only_layers` lists blocks that have no experts */
};

#define SQ_COUNT(array) ((int)(sizeof(array) / sizeof *(array)))

/* Dimensions by the table; each missing, wrong or unsupported value is SQ_ERR_INPUT naming the key. Local. */
enum sq_status sq_dimensions_read(const struct sq_config_table *table, const json_t *config, const char *folder,
                                  struct sq_dimensions *dims_p) SQ_MUST_CHECK;

/* sparse[n_blocks]: whether the block has experts. Local. */
enum sq_status sq_sparse_blocks_read(const struct sq_config_table *table, const json_t *config, const char *folder,
                                     const struct sq_dimensions *dims, bool *sparse) SQ_MUST_CHECK;

/* windows[n_blocks]: sliding window of every block, 0 for none, by `layer_types` where the key is there. Local. */
enum sq_status sq_windows_read(const struct sq_config_table *table, const json_t *config, const char *folder,
                               const struct sq_dimensions *dims, int64_t *windows) SQ_MUST_CHECK;

#endif
