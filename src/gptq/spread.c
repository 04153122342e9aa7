#include "gptq/spread.h"

#include <string.h>

#include "base/memory.h"
#include "mpi/comm_memory.h"

int sq_spread_list(const struct sq_model *model, const struct sq_layers *layers, int block, int group,
                   struct sq_spread_member *members)
{
    int first, n = 0, count = sq_model_group_linears(model, block, group, &first);
    for (int i = first; i < first + count; i++) {
        int layer = layers->of_linear[i];
        if (layer < 0) continue;
        members[n++] = (struct sq_spread_member){
            .linear = sq_model_linear(model, i), .layer = layer, .grid = layers->layers[layer].grid};
    }
    return n;
}

static size_t aligned(size_t bytes)
{
    return (bytes + 7) / 8 * 8;
}

/* Codes and zeros; scales begin behind them. */
static size_t codes_bytes(const struct sq_spread_member *member, int64_t tile_rows)
{
    return aligned((size_t)(tile_rows * (member->linear->in_features + member->n_groups)));
}

static size_t record_bytes(const struct sq_spread_member *member, int64_t tile_rows)
{
    return codes_bytes(member, tile_rows) + aligned((size_t)(tile_rows * member->n_groups) * sizeof(float));
}

/* Three errors of each row, rounds of refinement, limited scales. */
static size_t figure_bytes(int64_t tile_rows)
{
    return 3 * (size_t)tile_rows * sizeof(double) + 2 * sizeof(int64_t);
}

static void derive(struct sq_spread_member *members, int n_members, int64_t tile_rows)
{
    int64_t tile = 0;
    size_t byte = 0;
    for (int m = 0; m < n_members; m++) {
        struct sq_spread_member *member = &members[m];
        member->n_groups = sq_grid_n_groups(&member->grid, member->linear->in_features);
        member->n_tiles = (member->linear->out_features + tile_rows - 1) / tile_rows;
        member->record_bytes = record_bytes(member, tile_rows);
        member->first_tile = tile;
        member->first_byte = byte;
        tile += member->n_tiles;
        byte += (size_t)member->n_tiles * member->record_bytes;
    }
}

static size_t all_records(const struct sq_spread_member *derived, int n_members)
{
    const struct sq_spread_member *last = &derived[n_members - 1];
    return n_members ? last->first_byte + (size_t)last->n_tiles * last->record_bytes : 0;
}

static int64_t all_tiles(const struct sq_spread_member *derived, int n_members)
{
    const struct sq_spread_member *last = &derived[n_members - 1];
    return n_members ? last->first_tile + last->n_tiles : 0;
}

size_t sq_spread_bytes(const struct sq_spread_member *members, int n_members, int64_t tile_rows)
{
    struct sq_spread_member derived[SQ_STEP_MAX];
    memcpy(derived, members, (size_t)n_members * sizeof *members);
    derive(derived, n_members, tile_rows);
    return all_records(derived, n_members) + (size_t)all_tiles(derived, n_members) * figure_bytes(tile_rows);
}

const struct sq_spread_member *sq_spread_member_at(const struct sq_spread *spread, int64_t t)
{
    const struct sq_spread_member *member = spread->members;
    while (t >= member->first_tile + member->n_tiles)
        member++;
    return member;
}

/* First byte of tile t's record; t may be one past the last. */
static size_t tile_offset(const struct sq_spread *spread, int64_t t)
{
    if (t == spread->n_tiles) return spread->bytes;
    const struct sq_spread_member *member = sq_spread_member_at(spread, t);
    return member->first_byte + (size_t)(t - member->first_tile) * member->record_bytes;
}

struct sq_spread sq_spread_describe(const struct sq_comm *comm, struct sq_spread_member *members, int n_members,
                                    int64_t tile_rows, void *buffer)
{
    struct sq_spread spread = {.n_members = n_members, .tile_rows = tile_rows, .records = buffer};
    derive(members, n_members, tile_rows);
    memcpy(spread.members, members, (size_t)n_members * sizeof *members);
    spread.bytes = all_records(members, n_members);
    spread.figure_bytes = figure_bytes(tile_rows);
    spread.figures = spread.records + spread.bytes;
    spread.n_tiles = all_tiles(members, n_members);
    spread.mine = sq_split(spread.n_tiles, comm->rank, comm->size);
    return spread;
}

enum sq_status sq_spread_make(const struct sq_comm *comm, struct sq_spread_member *members, int n_members,
                              int64_t tile_rows, void *buffer, struct sq_spread *spread_p)
{
    struct sq_spread spread = sq_spread_describe(comm, members, n_members, tile_rows, buffer);
    void *memory = NULL;
    SQ_TRY(sq_alloc("shares of rows", 2 * (int64_t)comm->size, sizeof *spread.offsets, &memory));
    spread.offsets = memory;
    spread.sizes = spread.offsets + comm->size;
    *spread_p = spread;
    return SQ_OK;
}

void sq_spread_release(struct sq_spread *spread)
{
    sq_free(spread->offsets);
    memset(spread, 0, sizeof *spread);
}

struct sq_spread_tile sq_spread_tile(const struct sq_spread *spread, int64_t t)
{
    const struct sq_spread_member *member = sq_spread_member_at(spread, t);
    struct sq_spread_tile tile = {.member = member, .tile = t - member->first_tile};
    tile.row = tile.tile * spread->tile_rows;
    int64_t left = member->linear->out_features - tile.row;
    tile.rows = left < spread->tile_rows ? left : spread->tile_rows;

    char *record = spread->records + tile_offset(spread, t);
    double *figures = (double *)(void *)(spread->figures + (size_t)t * spread->figure_bytes);
    int64_t *counts = (int64_t *)(figures + 3 * spread->tile_rows);
    tile.result = (struct sq_solve_result){.codes = (uint8_t *)record,
                                           .zeros = (uint8_t *)record + spread->tile_rows * member->linear->in_features,
                                           .scales = (float *)(void *)(record + codes_bytes(member, spread->tile_rows)),
                                           .error = figures,
                                           .error_rtn = figures + spread->tile_rows,
                                           .norm = figures + 2 * spread->tile_rows,
                                           .n_rounds = counts};
    tile.n_limited = counts + 1;
    return tile;
}

/* --- gathers ------------------------------------------------------------------------------------------------------ */

static size_t figure_offset(const struct sq_spread *spread, int64_t t)
{
    return (size_t)t * spread->figure_bytes;
}

/* Each rank's part in a gather of what begins at byte offset(t) for tile t; for one past the last, ends there. */
static void set_parts(const struct sq_spread *spread, int n_ranks,
                      size_t (*offset)(const struct sq_spread *spread, int64_t t))
{
    for (int rank = 0; rank < n_ranks; rank++) {
        struct sq_range share = sq_split(spread->n_tiles, rank, n_ranks);
        spread->offsets[rank] = offset(spread, share.first);
        spread->sizes[rank] = offset(spread, share.first + share.count) - spread->offsets[rank];
    }
}

enum sq_status sq_spread_gather_figures(const struct sq_spread *spread, const struct sq_comm *comm)
{
    set_parts(spread, comm->size, figure_offset);
    return sq_comm_all_gather(comm, spread->figures, spread->offsets, spread->sizes);
}

enum sq_status sq_spread_gather_records(const struct sq_spread *spread, const struct sq_comm *comm)
{
    set_parts(spread, comm->size, tile_offset);
    return sq_comm_all_gather(comm, spread->records, spread->offsets, spread->sizes);
}

/* Rows of the member in tiles before t, of whichever member that is. */
static size_t rows_before(const struct sq_spread *spread, const struct sq_spread_member *member, int64_t t)
{
    int64_t rows = (t - member->first_tile) * spread->tile_rows, all = member->linear->out_features;
    return (size_t)(rows < 0 ? 0 : rows < all ? rows : all);
}

enum sq_status sq_spread_gather_weight(const struct sq_spread *spread, const struct sq_comm *comm,
                                       struct sq_backend *backend, int member, struct sq_matrix weight)
{
    size_t row_bytes = (size_t)weight.cols * sq_dtype_size(weight.dtype);
    for (int rank = 0; rank < comm->size; rank++) {
        struct sq_range share = sq_split(spread->n_tiles, rank, comm->size);
        size_t first = rows_before(spread, &spread->members[member], share.first);
        size_t end = rows_before(spread, &spread->members[member], share.first + share.count);
        spread->offsets[rank] = first * row_bytes;
        spread->sizes[rank] = (end - first) * row_bytes;
    }
    return sq_comm_memory_all_gather(comm, backend, weight.data, spread->offsets, spread->sizes);
}

/* --- reports ------------------------------------------------------------------------------------------------------ */

void sq_spread_count_limited(const struct sq_spread *spread)
{
    for (int64_t t = spread->mine.first; t < spread->mine.first + spread->mine.count; t++) {
        struct sq_spread_tile tile = sq_spread_tile(spread, t);
        *tile.n_limited = 0;
        for (int64_t i = 0; i < tile.rows * tile.member->n_groups; i++)
            *tile.n_limited += sq_grid_is_scale_limited(tile.member->grid.scale_dtype, tile.result.scales[i]);
    }
}

int64_t sq_spread_n_limited(const struct sq_spread *spread, int member)
{
    int64_t count = 0;
    const struct sq_spread_member *m = &spread->members[member];
    for (int64_t t = m->first_tile; t < m->first_tile + m->n_tiles; t++)
        count += *sq_spread_tile(spread, t).n_limited;
    return count;
}

double sq_spread_rounds(const struct sq_spread *spread, int member)
{
    int64_t sum = 0;
    const struct sq_spread_member *m = &spread->members[member];
    for (int64_t t = m->first_tile; t < m->first_tile + m->n_tiles; t++) {
        struct sq_spread_tile tile = sq_spread_tile(spread, t);
        sum += tile.rows * *tile.result.n_rounds;
    }
    return (double)sum / (double)m->linear->out_features;
}

void sq_spread_errors(const struct sq_spread *spread, int member, double *error_p, double *error_rtn_p)
{
    double error = 0, error_rtn = 0, norm = 0;
    const struct sq_spread_member *m = &spread->members[member];
    for (int64_t t = m->first_tile; t < m->first_tile + m->n_tiles; t++) {
        struct sq_spread_tile tile = sq_spread_tile(spread, t);
        for (int64_t r = 0; r < tile.rows; r++) {
            error += tile.result.error[r];
            error_rtn += tile.result.error_rtn[r];
            norm += tile.result.norm[r];
        }
    }
    *error_p = norm == 0 ? 0 : error / norm; /* a norm that is not finite must show */
    *error_rtn_p = norm == 0 ? 0 : error_rtn / norm;
}
