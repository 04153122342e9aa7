#include "model/steps.h"

/* What a slot holds per token. */
enum width {
    HIDDEN,
    QUERIES,
    KEYS,
    VALUES,
    Q_RANK,
    LATENTS,
    KV_RANK,
    TURNING,
    KV,
    ATTENDED,
    QKV,
    FFN,
    TWO_FFN,
    SHARED,
    EXPERTS,
    CHOSEN,
    VOCAB
};

static const struct {
    enum width width;
    bool is_f32;
} slots[SQ_N_SLOTS] = {
    [SQ_SLOT_RESIDUAL] = {HIDDEN, true},
    [SQ_SLOT_INPUT] = {HIDDEN, false},
    [SQ_SLOT_MLP_INPUT] = {HIDDEN, false},
    [SQ_SLOT_QKV] = {QKV, false},
    [SQ_SLOT_Q] = {QUERIES, false},
    [SQ_SLOT_K] = {KEYS, false},
    [SQ_SLOT_V] = {VALUES, false},
    [SQ_SLOT_Q_LATENT] = {Q_RANK, false},
    [SQ_SLOT_LATENTS] = {LATENTS, false},
    [SQ_SLOT_KV_LATENT] = {KV_RANK, false},
    [SQ_SLOT_K_TURNING] = {TURNING, false},
    [SQ_SLOT_KV] = {KV, false},
    [SQ_SLOT_ATTENDED] = {ATTENDED, false},
    [SQ_SLOT_OUTPUT] = {HIDDEN, true},
    [SQ_SLOT_GATE_UP] = {TWO_FFN, false},
    [SQ_SLOT_GATE] = {FFN, false},
    [SQ_SLOT_UP] = {FFN, false},
    [SQ_SLOT_ACTIVE] = {FFN, false},
    [SQ_SLOT_SHARED_GATE] = {SHARED, false},
    [SQ_SLOT_SHARED_UP] = {SHARED, false},
    [SQ_SLOT_SHARED_ACTIVE] = {SHARED, false},
    [SQ_SLOT_ROUTER_INPUT] = {HIDDEN, true},
    [SQ_SLOT_SCORES] = {EXPERTS, true},
    [SQ_SLOT_CHOSEN] = {CHOSEN, true},
    [SQ_SLOT_ROUTE_WEIGHTS] = {CHOSEN, true},
    [SQ_SLOT_LOGITS] = {VOCAB, true},
};

bool sq_slot_is_f32(enum sq_slot slot)
{
    return slots[slot].is_f32;
}

int64_t sq_slot_width(const struct sq_dimensions *dims, enum sq_slot slot)
{
    switch (slots[slot].width) {
    case QUERIES:
        return dims->n_heads * dims->head_dim;
    case KEYS:
        return dims->n_kv_heads * dims->head_dim;
    case VALUES:
        return dims->n_kv_heads * dims->value_dim;
    case Q_RANK:
        return dims->q_rank;
    case LATENTS:
        return dims->kv_rank + dims->rotary_dim;
    case KV_RANK:
        return dims->kv_rank;
    case TURNING:
        return dims->rotary_dim;
    case KV:
        return dims->n_kv_heads * (dims->still_dim + dims->value_dim);
    case ATTENDED:
        return dims->n_heads * dims->value_dim;
    case QKV:
        return (dims->n_heads + dims->n_kv_heads) * dims->head_dim + dims->n_kv_heads * dims->value_dim;
    case FFN:
        return dims->ffn;
    case TWO_FFN:
        return 2 * dims->ffn;
    case SHARED:
        return dims->shared_ffn;
    case EXPERTS:
        return dims->n_experts;
    case CHOSEN:
        return dims->n_chosen;
    case VOCAB:
        return dims->vocab;
    case HIDDEN:
        break;
    }
    return dims->hidden;
}
