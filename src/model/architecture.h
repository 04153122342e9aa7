/* What an architecture file says: a table of config keys, a table of steps with tensor names, and a few names.
 * To add one: a new arch_*.c with a const struct sq_architecture, and its line in SQ_ARCHITECTURES below. */
#ifndef SQ_MODEL_ARCHITECTURE_H
#define SQ_MODEL_ARCHITECTURE_H

#include "model/rope.h"
#include "model/steps.h"

#define SQ_MAX_PREFIXES 3

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
    bool is_transposed;                    /* the weights of a block's linears are stored [in_features, out_features] */
    const char *prefixes[SQ_MAX_PREFIXES]; /* of every tensor but lm_head, tried in this order */
    const char *embedding, *blocks;        /* after the prefix: "embed_tokens", "layers" */
    const char *positions;                 /* learned positions, or NULL */
    int64_t position_offset;               /* row of position 0 */
};

/* One line per file. */
#define SQ_ARCHITECTURES(X)                                                                                            \
    X(llama)                                                                                                           \
    X(mistral)                                                                                                         \
    X(qwen2)                                                                                                           \
    X(qwen3) /* arch_llama.c */                                                                                        \
    X(opt)   /* arch_opt.c */

#define X(name) extern const struct sq_architecture sq_arch_##name;
SQ_ARCHITECTURES(X)
#undef X

/* The architecture that config.json names. SQ_ERR_INPUT names it and lists those known. Local. */
enum sq_status sq_architecture_find(const json_t *config, const char *folder,
                                    const struct sq_architecture **architecture_p) SQ_MUST_CHECK;

#endif
