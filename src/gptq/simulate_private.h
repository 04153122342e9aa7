/* What the files of the simulation share. */
#ifndef SQ_GPTQ_SIMULATE_PRIVATE_H
#define SQ_GPTQ_SIMULATE_PRIVATE_H

#include "gptq/group.h"
#include "gptq/simulate.h"

#define SQ_SIMULATE_SHAPES 32 /* different ones that are remembered; others are gone through again */

/* A Hessian or a factor that was gone through once: the next of the same width takes as many ranks as long. */
struct sq_width_cost {
    int64_t n;
    int n_ranks;
    double seconds;
    struct sq_traffic traffic;
};

/* One tile of a layer. */
struct sq_tile_cost {
    int64_t n;
    struct sq_grid grid;
    struct sq_dry_span span;
};

/* The links of a machine between so many ranks that take part in a collective. */
struct sq_machine_links {
    struct sq_dry_links base; /* first */
    const struct sq_machine *machine;
    int n_ranks;
};

/* n_ranks may be changed. */
struct sq_machine_links sq_machine_links(const struct sq_machine *machine, int n_ranks);

struct sq_dry_run {
    const struct sq_memory_request *request;
    const struct sq_machine *machine;
    struct sq_comm world, team; /* dry */
    int n_teams;
    bool has_experts; /* their lists were made */
    /* what goes on now */
    int n_at_once;                 /* teams that do the same, with files of their own */
    struct sq_machine_links links; /* between the ranks that take part in its collectives */
    struct sq_simulation result;
    struct sq_backend *backend;
    struct sq_forward *forward;
    struct sq_shards shards;
    struct sq_hessian_workspace hessian;
    struct sq_factor factor;
    void *scratch, *records, *block_hessians; /* addresses alone */
    struct sq_width_cost expert_hessians[SQ_SIMULATE_SHAPES];
    struct sq_width_cost hessians[SQ_SIMULATE_SHAPES], factors[SQ_SIMULATE_SHAPES];
    struct sq_tile_cost tiles[SQ_SIMULATE_SHAPES];
    int n_hessians, n_expert_hessians, n_factors, n_tiles;
    /* where the present stage began */
    double since;
    struct sq_traffic traffic;
};

/* What the collectives since `before` took on a machine's links, but for what went by beside the work. */
double sq_dry_link_seconds(const struct sq_machine_links *links, const struct sq_traffic *before,
                           const struct sq_traffic *traffic);

/* What has gone by since the last call is the stage's. file_bytes: read from or written to files by all ranks together,
 * meanwhile. */
void sq_dry_run_clock(struct sq_dry_run *run, enum sq_stage stage);
void sq_dry_run_files(struct sq_dry_run *run, enum sq_stage stage, double read_bytes, double written_bytes);

/* From now on so many teams each do for themselves what the run's team does; then all ranks together again. */
void sq_dry_run_begin_teams(struct sq_dry_run *run, int count);
void sq_dry_run_end_teams(struct sq_dry_run *run);

/* Whether anything of the group is. Local. */
bool sq_dry_run_is_quantized(const struct sq_dry_run *run, int block, int group);

/* simulate.c: reports of layers that are done, and their marks in the store. */
enum sq_status sq_dry_run_finish_layers(struct sq_dry_run *run) SQ_MUST_CHECK;
enum sq_status sq_dry_run_mark_layers(struct sq_dry_run *run) SQ_MUST_CHECK;

/* simulate_experts.c: all experts of a block, from the first group of theirs on. */
enum sq_status sq_dry_run_experts(struct sq_dry_run *run, int block, int first_group, bool is_last) SQ_MUST_CHECK;

/* simulate_group.c: Hessian, factor, solve, store and gather of a group. root as for sq_run_hessian(). */
enum sq_status sq_dry_run_hessian(struct sq_dry_run *run, int64_t n, int root) SQ_MUST_CHECK;
enum sq_status sq_dry_run_expert_hessian(struct sq_dry_run *run, int64_t n,
                                         const struct sq_shards *shards) SQ_MUST_CHECK; /* of the team's expert */
enum sq_status sq_dry_run_solve(struct sq_dry_run *run, int block, int group) SQ_MUST_CHECK;
enum sq_status sq_dry_run_set_weights(struct sq_dry_run *run, int block, int group, bool is_solved) SQ_MUST_CHECK;

#endif
