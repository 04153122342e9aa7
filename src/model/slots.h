/* Where a sample's buffers ("slots") live. What is alive at a LINEAR or EXPERTS step stays for every sample of the
 * rank, the rest is scratch memory of the worker that has a sample in hand; slots that are never alive together share
 * memory. */
#ifndef SQ_MODEL_SLOTS_H
#define SQ_MODEL_SLOTS_H

#include <stdbool.h>
#include <stdint.h>

#include "model/steps.h"

struct sq_slot_place {
    bool is_persistent; /* one row per token of every sample; else one row per token of one sample */
    int area;           /* which of the persistent, or of the scratch, areas */
    int64_t width;      /* entries of a row */
    int64_t stride;     /* bytes from one token's row to the next: of whole SQ_ALIGNMENT */
    enum sq_dtype dtype;
};

struct sq_slot_map {
    struct sq_slot_place places[SQ_N_SLOTS];
    /* Bytes per token of every area: the widest slot's stride. All slots of a persistent area have this stride, so that
     * samples at different steps do not overlap. Persistent area 0 is the residual stream. */
    int64_t persistent_stride[SQ_N_SLOTS], scratch_stride[SQ_N_SLOTS];
    int n_persistent, n_scratch;
};

/* From the steps of every kind of block (the head uses no slot that the blocks do not keep). Local. */
void sq_slot_map_make(const struct sq_program *programs, int n_programs, const struct sq_dimensions *dims,
                      enum sq_dtype compute, struct sq_slot_map *map);

/* Persistent areas, as bits: those whose rows are looked at as they were before the steps, and those whose rows the
 * steps change. */
struct sq_slot_traffic {
    uint32_t in, out;
};

/* Of steps [first, end), after which the `checked` slots are looked at. What all samples do together (EXPERTS) is none
 * of them. Local. */
struct sq_slot_traffic sq_slot_map_traffic(const struct sq_slot_map *map, const struct sq_step *steps, int first,
                                           int end, const enum sq_slot *checked, int n_checked);

/* Bytes per token: of what stays, and of a worker's scratch memory. */
int64_t sq_slot_map_persistent_bytes(const struct sq_slot_map *map);
int64_t sq_slot_map_scratch_bytes(const struct sq_slot_map *map);

#endif
