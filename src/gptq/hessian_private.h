/* What the files of the Hessian share: its lower triangle in panels of rows, panels in slices, and one in the making.
 */
#ifndef SQ_GPTQ_HESSIAN_PRIVATE_H
#define SQ_GPTQ_HESSIAN_PRIVATE_H

#include "gptq/hessian.h"
#include "gptq/links_clock.h"

/* The lower triangle of a matrix [n, n] in panels of rows, one after another. */
struct sq_panels {
    struct sq_sizes sizes;
    int64_t n;
};

/* Rows [row, row + rows) of the lower triangle: columns [0, columns). */
struct sq_panel {
    int64_t row, rows, columns;
    int64_t offset; /* of its first element */
};

/* With slices as these rooms have them. */
struct sq_panels sq_panels_make(const struct sq_sizes *sizes, int64_t n, const struct sq_hessian_rooms *rooms);
int64_t sq_panels_count(const struct sq_panels *panels);
struct sq_panel sq_panels_at(const struct sq_panels *panels, int64_t p);

/* Panels of the slice that starts with panel `first`. */
int64_t sq_panels_slice(const struct sq_panels *panels, int64_t first);

/* Makes slices half as large, so that two are in the room of one. Returns whether it did: where one slice is all, or
 * half of it has no room for each panel, nothing changes. */
bool sq_panels_halve(struct sq_panels *panels);

/* A slice in work. */
struct sq_slice {
    int64_t first_panel, n_panels; /* 0: none */
    int lane;                      /* of its sum over ranks; its half of the workspace's sums, where these are halved */
    double there, on_links;        /* on a dry communicator: when that sum is there, after so many seconds on links */
};

/* One making of a Hessian, as the parallel items see it. */
struct sq_making {
    struct sq_backend *backend;
    const struct sq_comm *comm;
    int root;
    const struct sq_hessian_inputs *inputs;
    struct sq_panels panels;
    int n_lanes;                   /* slices in work at once: 2, each in a half of the sums, or 1 */
    const struct sq_slice *slice;  /* in hand */
    struct sq_links_clock clock;   /* on a dry communicator */
    double links_free;             /* there: when the sums that were started are all on the ranks */
    int64_t first_piece, n_pieces; /* of the inputs, in hand */
    bool is_begun;                 /* the slice has sums */
    bool is_backward;              /* the pieces of the slice come last first */
    int64_t held[SQ_LANES];        /* piece in each room; -1: none */
    struct sq_hessian_workspace *workspace;
    struct sq_matrix hessian;
    double to_mean; /* 2 / T */
};

/* Inputs of one of this rank's shards. */
struct sq_matrix sq_making_shard(const struct sq_making *making, int64_t shard);

/* Where the sums of the slice in hand are. */
int64_t *sq_slice_memory(const struct sq_making *making);

/* Its sums over all of this rank's inputs; without any they are zero. */
enum sq_status sq_slice_sum(struct sq_making *making) SQ_MUST_CHECK;

/* Its rows of the Hessian, of sums over all ranks. */
enum sq_status sq_slice_get(struct sq_making *making) SQ_MUST_CHECK;

#endif
