/* The rows of a group of linears, spread over ranks: fixed tiles of output rows, each with a record and with figures in
 * a buffer:
 *
 *      records of tile 0, 1, ...    codes, zeros, scales       what the store gets, and weights are made from
 *      figures of tile 0, 1, ...    errors, counts             what the reports say
 *
 * A rank fills those of its own tiles, by solving or from the store. Figures are gathered for the reports; for the
 * forward pass either records are, and every rank makes all weights, or the weights that each rank makes of its own. */
#ifndef SQ_GPTQ_SPREAD_H
#define SQ_GPTQ_SPREAD_H

#include "base/status.h"
#include "gptq/layers.h"
#include "gptq/solve.h"
#include "io/store.h"
#include "mpi/comm.h"
#include "mpi/split.h"
#include "model/architecture.h"
#include "model/model.h"
#include "tensor/backend.h"

/* One quantized linear of the group. */
struct sq_spread_member {
    const struct sq_linear *linear;
    int layer; /* index in the store */
    struct sq_grid grid;
    int64_t n_groups, first_tile, n_tiles;
    size_t record_bytes, first_byte;
};

struct sq_spread {
    struct sq_spread_member members[SQ_STEP_MAX];
    int n_members;
    int64_t tile_rows; /* of a tile; a multiple of SQ_STORE_TILE_ROWS */
    int64_t n_tiles;
    struct sq_range mine;    /* this rank's tiles */
    size_t *offsets, *sizes; /* [ranks] of each rank's part in a gather; NULL: only described */
    size_t bytes;            /* of all records */
    size_t figure_bytes;     /* of a tile */
    char *records, *figures; /* point into the caller's buffer */
};

/* One tile of the group. */
struct sq_spread_tile {
    const struct sq_spread_member *member;
    int64_t tile, row, rows; /* tile and first row within the member */
    struct sq_solve_result result;
    int64_t *n_limited; /* [1] scales at the limits of their type */
};

/* The quantized linears of a group (block == n_blocks: lm_head), at most SQ_STEP_MAX; returns how many. Local. */
int sq_spread_list(const struct sq_model *model, const struct sq_layers *layers, int block, int group,
                   struct sq_spread_member *members);

/* Bytes of records and figures of these members in tiles of tile_rows; the most of any group sizes the buffer. Local.
 */
size_t sq_spread_bytes(const struct sq_spread_member *members, int n_members, int64_t tile_rows);

/* Fills in the derived fields of the members (linear, layer and grid are given) and who owns what. `buffer` holds at
 * least sq_spread_bytes(). Released with sq_spread_release(). Local. */
enum sq_status sq_spread_make(const struct sq_comm *comm, struct sq_spread_member *members, int n_members,
                              int64_t tile_rows, void *buffer, struct sq_spread *spread_p) SQ_MUST_CHECK;
void sq_spread_release(struct sq_spread *spread);

/* The same without what a gather needs: nothing is to be released. Local. */
struct sq_spread sq_spread_describe(const struct sq_comm *comm, struct sq_spread_member *members, int n_members,
                                    int64_t tile_rows, void *buffer);

/* Whose tile t of the group is. Local. */
const struct sq_spread_member *sq_spread_member_at(const struct sq_spread *spread, int64_t t);

/* Tile t of the group, with pointers into its record and figures. Local. */
struct sq_spread_tile sq_spread_tile(const struct sq_spread *spread, int64_t t);

/* Fills in n_limited of this rank's tiles, once they are solved. Local. */
void sq_spread_count_limited(const struct sq_spread *spread);

/* Gives every rank the figures of all tiles, when each has those of its own. Collective. */
enum sq_status sq_spread_gather_figures(const struct sq_spread *spread, const struct sq_comm *comm) SQ_MUST_CHECK;

/* Gives every rank the records of all tiles, when each has those of its own. Collective. */
enum sq_status sq_spread_gather_records(const struct sq_spread *spread, const struct sq_comm *comm) SQ_MUST_CHECK;

/* Gives every rank all rows of a member's weight, dense [out_features, in_features] in backend memory, when each has
 * made those of its own tiles. Collective. */
enum sq_status sq_spread_gather_weight(const struct sq_spread *spread, const struct sq_comm *comm,
                                       struct sq_backend *backend, int member, struct sq_matrix weight) SQ_MUST_CHECK;

/* Scales of a member that stand at the limits of their type. Local, after the gather of figures. */
int64_t sq_spread_n_limited(const struct sq_spread *spread, int member);

/* Rounds of refinement of a member, the mean over its rows. Local, after the gather of figures. */
double sq_spread_rounds(const struct sq_spread *spread, int member);

/* Error figures of a member, summed over its rows in order. Local, after the gather of figures. */
void sq_spread_errors(const struct sq_spread *spread, int member, double *error_p, double *error_rtn_p);

#endif
