/* What an architecture file says: two tables (config keys, steps with tensor names) and a few names.
 * To add one: a new arch_*.c with a const struct sq_architecture, and its line in the list of architecture.c. */
#ifndef SQ_MODEL_ARCHITECTURE_H
#define SQ_MODEL_ARCHITECTURE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "model/model.h"
#include "tensor/backend.h"

/* --- dimensions, from config.json --------------------------------------------------------------------------------- */

/* Linears that have a bias together. */
enum sq_bias { SQ_BIAS_NEVER, SQ_BIAS_QKV, SQ_BIAS_ATTENTION_OUT, SQ_BIAS_MLP, SQ_N_BIASES };

struct sq_dimensions {
    int64_t hidden, ffn, n_blocks, n_heads, n_kv_heads, head_dim, vocab;
    int64_t max_length;           /* positions the model knows */
    int64_t window, first_window; /* sliding window (0: none) of the blocks from first_window on */
    bool use_window;              /* false: window is ignored */
    bool tied, bias[SQ_N_BIASES];
    double epsilon;
    enum sq_activation activation;
    int64_t embedding_dim; /* width of the embedding where it can differ from hidden; 0: not given */
};

enum sq_key_kind { SQ_KEY_INT, SQ_KEY_FLOAT, SQ_KEY_BOOL, SQ_KEY_ACTIVATION };

/* One key of config.json; null counts as absent. A required whole number is at least 1, another one at least 0. */
struct sq_config_key {
    const char *name;
    enum sq_key_kind kind;
    size_t offset; /* in struct sq_dimensions */
    bool required;
    const char *fallback; /* JSON text of the value when absent and not required */
};

#define SQ_KEY_REQUIRED(name, kind, field)                                                                             \
    {                                                                                                                  \
        name, kind, offsetof(struct sq_dimensions, field), true, NULL                                                  \
    }
#define SQ_KEY_DEFAULT(name, kind, field, fallback)                                                                    \
    {                                                                                                                  \
        name, kind, offsetof(struct sq_dimensions, field), false, fallback                                             \
    }

/* A key whose other values change the computation in a way that is not supported. */
struct sq_config_fixed {
    const char *name;
    const char *only; /* JSON text of the one value; NULL: the key may not be there (null is fine) */
};

/* --- the block as a program --------------------------------------------------------------------------------------- */

/* What a step does. Buffers of a sample ("slots") are numbered by the architecture; slot 0 is the residual stream. */
enum sq_step_kind {
    SQ_STEP_NORM,      /* out = norm(in) with tensor.weight [and .bias] */
    SQ_STEP_LINEAR,    /* out[i] = in tensor[i]' + bias, for every i: a group of linears with one input */
    SQ_STEP_HEAD_NORM, /* norm over every head of in, in place (q/k norm) */
    SQ_STEP_ROPE,      /* in place on every head of in */
    SQ_STEP_ATTENTION, /* out = attention(in[0], in[1], in[2]) */
    SQ_STEP_ACTIVATE,  /* out = act(in[0]) * in[1], or act(in[0]) when there is one input */
    SQ_STEP_ADD        /* slot 0 += in */
};

#define SQ_MAX_SLOTS 32
#define SQ_MAX_STEPS 32

struct sq_step {
    enum sq_step_kind kind;
    int n_in, in[SQ_STEP_MAX], n_out, out[SQ_STEP_MAX]; /* slots; SQ_STEP_MAX holds for linears and slots */
    const char *tensors[SQ_STEP_MAX];                   /* names inside the block: "self_attn.q_proj" */
    enum sq_bias bias;
};

enum sq_width { SQ_WIDTH_HIDDEN, SQ_WIDTH_HEADS, SQ_WIDTH_KV, SQ_WIDTH_FFN };

struct sq_slot {
    enum sq_width width;
    bool is_f32; /* else of the compute dtype */
};

struct sq_program {
    const struct sq_step *steps;
    int n_steps;
};

/* --- the architecture --------------------------------------------------------------------------------------------- */

#define SQ_MAX_PREFIXES 3

struct sq_architecture {
    const char *name; /* in `architectures` of config.json */
    const struct sq_config_key *keys;
    int n_keys;
    const struct sq_config_fixed *fixed;
    int n_fixed;
    const struct sq_slot *slots;
    int n_slots;
    struct sq_program block;
    struct sq_program head; /* NORM and LINEAR (lm_head): slot 0 -> final norm -> logits */
    enum sq_norm_kind norm;
    bool has_rope, has_layer_types;
    const char *prefixes[SQ_MAX_PREFIXES];        /* of every tensor but lm_head, tried in this order */
    const char *embedding, *blocks;               /* after the prefix: "embed_tokens", "layers" */
    const char *positions;                        /* learned positions, or NULL */
    int64_t position_offset;                      /* row of position 0 */
    void (*complete)(struct sq_dimensions *dims); /* what follows from other keys */
};

#define SQ_COUNT(array) ((int)(sizeof(array) / sizeof *(array)))

extern const struct sq_architecture sq_arch_llama, sq_arch_mistral, sq_arch_qwen2, sq_arch_qwen3; /* arch_llama.c */
extern const struct sq_architecture sq_arch_opt;                                                  /* arch_opt.c */

/* The architecture that config.json names. SQ_ERR_INPUT names it and lists those known. Local. */
enum sq_status sq_architecture_find(const json_t *config, const char *folder,
                                    const struct sq_architecture **architecture_p) SQ_MUST_CHECK;

/* Dimensions by the architecture's keys; each missing, wrong or unsupported value is SQ_ERR_INPUT naming the key.
 * Local. */
enum sq_status sq_dimensions_read(const struct sq_architecture *architecture, const json_t *config, const char *folder,
                                  struct sq_dimensions *dims_p) SQ_MUST_CHECK;

/* windows[n_blocks]: sliding window of every block, 0 for none, by `layer_types` where the key is there. Local. */
enum sq_status sq_windows_read(const struct sq_architecture *architecture, const json_t *config, const char *folder,
                               const struct sq_dimensions *dims, int64_t *windows) SQ_MUST_CHECK;

/* Entries of a row of that width. */
int64_t sq_width_value(const struct sq_dimensions *dims, enum sq_width width);

#endif
