/* The forward pass from inside; only src/model includes it. */
#ifndef SQ_MODEL_FORWARD_PRIVATE_H
#define SQ_MODEL_FORWARD_PRIVATE_H

#include "model/activations.h"
#include "model/forward.h"
#include "model/model_private.h"
#include "model/slots.h"
#include "model/weights.h"

/* A group whose weights are on their way. */
struct sq_upcoming {
    int64_t block;
    int group;
    char *area; /* backend memory, laid out as forward->weights */
    struct sq_weights linears[SQ_STEP_MAX];
    int n_linears;
    int64_t n_pieces, n_read; /* of all linears, one after another: this rank's, and those on their way */
    int lane;                 /* of its gather */
    bool is_gathering;
};

/* Weights of the groups to come (forward_ahead.c). */
struct sq_forward_ahead {
    char *areas[1 + SQ_FORWARD_AHEAD]; /* backend memory: of the group in work and those to come, in turn */
    struct sq_upcoming queue[SQ_FORWARD_AHEAD];
    int count;
    int lane, gather_lane;      /* the next ones */
    void *rooms[SQ_LANES];      /* alloc_host, sq_weights_piece_bytes(): rows on their way */
    bool is_open;               /* for reading */
    enum sq_status status;      /* of the reading */
    size_t *shares;             /* of a weight's rows, when it is gathered; NULL: nothing is on its way */
    const struct sq_comm *comm; /* of the last sq_forward_load_group() */
};

struct sq_forward {
    struct sq_backend *backend;
    const struct sq_model *model;
    struct sq_forward_options options;
    struct sq_slot_map map;
    struct sq_activations activations;   /* what stays, all samples */
    char *scratch;                       /* backend memory [n_workers, scratch_bytes] */
    size_t scratch_bytes, desk_bytes;    /* desk: the end of it, where the sample in hand is when activations are on the
                                          * host; else 0 */
    float *parameters, *host_parameters; /* of the block: norms and biases */
    struct sq_forward_ahead ahead;
    char *weights;                /* backend memory: the linears of one group; one of ahead.areas */
    float *cosines[2], *sines[2]; /* by rope: backend memory [length, n_frequencies]; NULL where it has none */
    float *slopes;                /* backend memory [n_heads]: of ALiBi; NULL without */
    void *pieces;                 /* host [n_workers, sq_weights_piece_bytes()] */
    bool *failed;                 /* by sample: a NaN or infinity was found */
    struct sq_experts *experts;   /* the EXPERTS step in work, and what is kept from one to the next; or NULL */
    /* where it stands */
    int64_t block;
    const struct sq_section *section;
    int group;     /* the last one reached; -1: none yet */
    int next_step; /* first step that has not run */
};

/* Where the weights of a member of a group of the present block are; gate, up and down of an expert lie one after the
 * other. */
struct sq_matrix sq_forward_weight_of(const struct sq_forward *forward, int group, int member);

/* Likewise of a group of any block, in memory that is laid out as the present weights are. */
struct sq_matrix sq_forward_weight_at(const struct sq_forward *forward, char *area, int64_t block, int group,
                                      int member);

/* Takes the areas for weights of a group, of so many bytes each; gives them back when nothing is on its way to them. */
enum sq_status sq_forward_ahead_create(struct sq_forward *forward, size_t area_bytes) SQ_MUST_CHECK;
void sq_forward_ahead_destroy(struct sq_forward *forward);

/* The weight or bias of a member of a step of the present section, in backend memory; NULL where it has none. */
const float *sq_forward_parameter(const struct sq_forward *forward, int step, int member, bool is_bias);

/* Bytes of the pieces of tables that embedding has in hand. */
size_t sq_forward_table_bytes(const struct sq_model *model, int64_t length);

/* Runs steps [next_step, end) on every sample (forward_run.c). Local. */
enum sq_status sq_forward_run_steps(struct sq_forward *forward, int end) SQ_MUST_CHECK;

/* Where a sample's part of a persistent area begins on a desk, in bytes; of n_persistent: where the last one ends. At
 * multiples of SQ_ALIGNMENT, as among all samples. */
static inline int64_t sq_forward_desk_offset(const struct sq_slot_map *map, int area, int64_t length)
{
    int64_t offset = 0;
    for (int i = 0; i < area; i++)
        offset += sq_aligned(length * map->persistent_stride[i]);
    return offset;
}

/* Rows of `slot` of every sample: [n_samples * length, width]; persistent slots only. */
struct sq_matrix sq_forward_slot(const struct sq_forward *forward, int slot);

#endif
