/* A block as a short straight program: the steps, and the buffers of a sample ("slots") they work on.
 * The blocks of a model may differ: rows with .when = SQ_VARIANT_EXPERTS are there in blocks with experts only, rows
 * with .unless = SQ_VARIANT_EXPERTS in the others.
 * A table of steps has one row per step, made by the macros below and followed by its condition where it has one:
 *
 *      {SQ_NORM(RESIDUAL, INPUT, "input_layernorm", NEVER)},
 *      {SQ_LINEARS(INPUT, 2, SQ_TO(GATE, "mlp.gate_proj", MLP), SQ_TO(UP, "mlp.up_proj", MLP))},
 *      {SQ_HEAD_NORM(Q, "self_attn.q_norm", NEVER), .when = SQ_VARIANT_QK_NORM}, */
#ifndef SQ_MODEL_STEPS_H
#define SQ_MODEL_STEPS_H

#include "model/dimensions.h"
#include "model/model.h"

/* --- slots -------------------------------------------------------------------------------------------------------- */

/* F32: the residual stream, what is added to it, and what routing works on; the others are of the compute dtype. One
 * that no step of a block uses takes no memory. */
enum sq_slot {
    SQ_SLOT_RESIDUAL,  /* between blocks only this one is alive */
    SQ_SLOT_INPUT,     /* of attention, or of both */
    SQ_SLOT_MLP_INPUT, /* where it is another one */
    SQ_SLOT_QKV,       /* queries, keys and values of a fused linear */
    SQ_SLOT_Q,
    SQ_SLOT_K,
    SQ_SLOT_V,
    SQ_SLOT_Q_LATENT,  /* what queries are made from (MLA) */
    SQ_SLOT_LATENTS,   /* the next two, of one linear */
    SQ_SLOT_KV_LATENT, /* what keys and values are made from */
    SQ_SLOT_K_TURNING, /* the part of every key that turns, one for all heads */
    SQ_SLOT_KV,        /* by head: the other part of its key, then its value */
    SQ_SLOT_ATTENDED,
    SQ_SLOT_OUTPUT,  /* of attention or MLP */
    SQ_SLOT_GATE_UP, /* of a fused linear: the gate, then what it gates */
    SQ_SLOT_GATE,
    SQ_SLOT_UP,
    SQ_SLOT_ACTIVE,      /* after the activation function */
    SQ_SLOT_SHARED_GATE, /* the same three of the expert that every token goes to */
    SQ_SLOT_SHARED_UP,
    SQ_SLOT_SHARED_ACTIVE,
    SQ_SLOT_ROUTER_INPUT,  /* in F32: routing is done in full precision */
    SQ_SLOT_SCORES,        /* of all experts */
    SQ_SLOT_CHOSEN,        /* the token's experts: I32 */
    SQ_SLOT_ROUTE_WEIGHTS, /* their weights in the sum of what they give */
    SQ_SLOT_LOGITS,        /* written by lm_head (evaluate.h), by no step */
    SQ_N_SLOTS
};

bool sq_slot_is_f32(enum sq_slot slot);

/* Entries of a token's row. */
int64_t sq_slot_width(const struct sq_dimensions *dims, enum sq_slot slot);

/* --- steps -------------------------------------------------------------------------------------------------------- */

enum sq_step_kind {
    SQ_STEP_NORM,        /* out = norm(in) with the tensor's .weight [and .bias] */
    SQ_STEP_LINEAR,      /* out[i] = in tensor[i]' + bias, for every i: a group of linears with one input */
    SQ_STEP_HEAD_NORM,   /* norm over every head of in, in place (q/k norm) */
    SQ_STEP_ROPE,        /* in place on every head of in */
    SQ_STEP_ATTENTION,   /* out = attention(in[0], in[1], in[2]); its tensor: a whole name, sinks [heads]; or NULL */
    SQ_STEP_ACTIVATE,    /* out = act(in[0]) * in[1], or act(in[0]) when there is one input */
    SQ_STEP_ADD,         /* residual += in */
    SQ_STEP_COPY,        /* out = in, in out's type */
    SQ_STEP_SCALE,       /* in *= residual_scale, in place; F32 */
    SQ_STEP_SPLIT,       /* columns of in: those of out[0], those of out[1], ... */
    SQ_STEP_SPLIT_HEADS, /* columns of in by key head: its queries (out[0]), its key (out[1]), its value (out[2]) */
    SQ_STEP_JOIN_KEYS,   /* by head, in[0] is part of a key and a value (out[1]); the key (out[0]) ends in in[1] */
    SQ_STEP_ROUTE,       /* scores, chosen, weights (out[0 .. 2]) from in and the router (out[0].tensor), as the
                          * architecture's routing says; out[1].tensor: a whole name, what is added to scores to choose */
    SQ_STEP_EXPERTS,  /* out = sum over the token's experts e of weight * down_e(act(gate_e in[0]) * up_e in[0]); in[1]
                       * chosen, in[2] weights, in[3] scores; the tensors of out are gate, up, down, with '#' for e, and
                       * as with a group of linears each may have a bias */
    SQ_STEP_GATE_ROWS /* out *= sigmoid(in tensor'), tensor [1, width of in]; F32 */
};

/* Which weights a norm of heads has. */
enum sq_head_weights {
    SQ_HEADS_SHARE,  /* one tensor [head_dim] for all heads */
    SQ_HEADS_ROWS,   /* one tensor [heads, head_dim] */
    SQ_HEADS_TENSORS /* a tensor [head_dim] for each head, its number where the name has '#' */
};

/* Where a result goes, and the tensor that makes it, named inside the block: "self_attn.q_proj". */
struct sq_step_out {
    enum sq_slot slot;
    const char *tensor;
    enum sq_bias bias;
};

#define SQ_STEP_INPUTS 4

struct sq_step {
    enum sq_step_kind kind;
    int n_in;
    enum sq_slot in[SQ_STEP_INPUTS];
    int n_out;
    struct sq_step_out out[SQ_STEP_MAX];
    enum sq_head_weights heads;
    double epsilon;               /* of a norm; 0: that of config.json */
    enum sq_variant when, unless; /* the step is there only in this variant, or only in others */
};

struct sq_program {
    const struct sq_step *steps;
    int n_steps;
};

#define SQ_PROGRAM(table)                                                                                              \
    {                                                                                                                  \
        table, SQ_COUNT(table)                                                                                         \
    }

/* clang-format off */
#define SQ_TO(to, tensor, bias) {SQ_SLOT_##to, tensor, SQ_BIAS_##bias}
#define SQ_ONE_IN(from)           .n_in = 1, .in = {SQ_SLOT_##from}

#define SQ_NORM(from, to, tensor, bias)   .kind = SQ_STEP_NORM, SQ_ONE_IN(from), .n_out = 1, .out = {SQ_TO(to, tensor, bias)}
#define SQ_HEAD_NORM(what, tensor, bias)  .kind = SQ_STEP_HEAD_NORM, SQ_ONE_IN(what), .n_out = 1, .out = {SQ_TO(what, tensor, bias)}
#define SQ_LINEAR(from, to, tensor, bias) .kind = SQ_STEP_LINEAR, SQ_ONE_IN(from), .n_out = 1, .out = {SQ_TO(to, tensor, bias)}
#define SQ_LINEARS(from, n, ...)          .kind = SQ_STEP_LINEAR, SQ_ONE_IN(from), .n_out = n, .out = {__VA_ARGS__}
#define SQ_ROPE(what)      .kind = SQ_STEP_ROPE, SQ_ONE_IN(what), .n_out = 1, .out = {{.slot = SQ_SLOT_##what}}
#define SQ_ATTENTION       SQ_ATTENTION_SINKS(NULL)
#define SQ_ATTENTION_SINKS(sinks) .kind = SQ_STEP_ATTENTION, .n_in = 3, .in = {SQ_SLOT_Q, SQ_SLOT_K, SQ_SLOT_V}, \
                           .n_out = 1, .out = {{SQ_SLOT_ATTENDED, sinks, SQ_BIAS_NEVER}}
#define SQ_ACTIVATE        .kind = SQ_STEP_ACTIVATE, SQ_ONE_IN(UP), .n_out = 1, .out = {{.slot = SQ_SLOT_ACTIVE}}
#define SQ_ACTIVATE_GATED  .kind = SQ_STEP_ACTIVATE, .n_in = 2, .in = {SQ_SLOT_GATE, SQ_SLOT_UP}, \
                           .n_out = 1, .out = {{.slot = SQ_SLOT_ACTIVE}}
#define SQ_SPLIT_QKV       SQ_SPLIT_INTO(SQ_STEP_SPLIT)
#define SQ_SPLIT_HEADS     SQ_SPLIT_INTO(SQ_STEP_SPLIT_HEADS)
#define SQ_SPLIT_INTO(how) .kind = how, SQ_ONE_IN(QKV), .n_out = 3, \
                           .out = {{.slot = SQ_SLOT_Q}, {.slot = SQ_SLOT_K}, {.slot = SQ_SLOT_V}}
#define SQ_SPLIT_GATE_UP   .kind = SQ_STEP_SPLIT, SQ_ONE_IN(GATE_UP), .n_out = 2, \
                           .out = {{.slot = SQ_SLOT_GATE}, {.slot = SQ_SLOT_UP}}
#define SQ_SPLIT_LATENTS   .kind = SQ_STEP_SPLIT, SQ_ONE_IN(LATENTS), .n_out = 2, \
                           .out = {{.slot = SQ_SLOT_KV_LATENT}, {.slot = SQ_SLOT_K_TURNING}}
#define SQ_JOIN_KEYS       .kind = SQ_STEP_JOIN_KEYS, .n_in = 2, .in = {SQ_SLOT_KV, SQ_SLOT_K_TURNING}, \
                           .n_out = 2, .out = {{.slot = SQ_SLOT_K}, {.slot = SQ_SLOT_V}}
#define SQ_COPY(from, to)  .kind = SQ_STEP_COPY, SQ_ONE_IN(from), .n_out = 1, .out = {{.slot = SQ_SLOT_##to}}
#define SQ_SCALE(what)     .kind = SQ_STEP_SCALE, SQ_ONE_IN(what), .n_out = 1, .out = {{.slot = SQ_SLOT_##what}}
#define SQ_ROUTE(tensor)              SQ_ROUTE_BY(tensor, NEVER, NULL)
#define SQ_ROUTE_BIASED(tensor, added) SQ_ROUTE_BY(tensor, NEVER, added)
#define SQ_ROUTE_BY(tensor, bias, added) .kind = SQ_STEP_ROUTE, SQ_ONE_IN(ROUTER_INPUT), .n_out = 3, \
                           .out = {SQ_TO(SCORES, tensor, bias), {SQ_SLOT_CHOSEN, added, SQ_BIAS_NEVER}, \
                                   {.slot = SQ_SLOT_ROUTE_WEIGHTS}}
#define SQ_EXPERTS(from, to, gate, up, down) SQ_EXPERTS_BY(from, to, gate, up, down, NEVER)
#define SQ_EXPERTS_BY(from, to, gate, up, down, bias) .kind = SQ_STEP_EXPERTS, .n_in = 4, \
                           .in = {SQ_SLOT_##from, SQ_SLOT_CHOSEN, SQ_SLOT_ROUTE_WEIGHTS, SQ_SLOT_SCORES}, .n_out = 3, \
                           .out = {SQ_TO(to, gate, bias), SQ_TO(to, up, bias), SQ_TO(to, down, bias)}
#define SQ_GATE_ROWS(from, what, tensor) .kind = SQ_STEP_GATE_ROWS, SQ_ONE_IN(from), .n_out = 1, .out = {SQ_TO(what, tensor, NEVER)}
#define SQ_ACTIVATE_SHARED .kind = SQ_STEP_ACTIVATE, .n_in = 2, .in = {SQ_SLOT_SHARED_GATE, SQ_SLOT_SHARED_UP}, \
                           .n_out = 1, .out = {{.slot = SQ_SLOT_SHARED_ACTIVE}}
#define SQ_ADD(what)       .kind = SQ_STEP_ADD, SQ_ONE_IN(what)
/* clang-format on */

#endif
