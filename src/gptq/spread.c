#include "gptq/spread.h"

#include <string.h>

#include "base/memory.h"

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

/* A record: codes, zeros, then (8-byte aligned) scales, three error figures per row, rounds of refinement. */
static size_t record_bytes(const struct sq_spread_member *member, int64_t tile_rows)
{
    size_t rows = (size_t)tile_rows, bytes = rows * (size_t)(member->linear->in_features + member->n_groups);
    bytes = (bytes + 7) / 8 * 8;
    return bytes + rows * ((size_t)member->n_groups * sizeof(float) + 3 * sizeof(double)) + sizeof(int64_t);
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

size_t sq_spread_bytes(const struct sq_spread_member *members, int n_members, int64_t tile_rows)
{
    struct sq_spread_member derived[SQ_STEP_MAX];
    memcpy(derived, members, (size_t)n_members * sizeof *members);
    derive(derived, n_members, tile_rows);
    const struct sq_spread_member *last = &derived[n_members - 1];
    return n_members ? last->first_byte + (size_t)last->n_tiles * last->record_bytes : 0;
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
    spread.bytes = sq_spread_bytes(members, n_members, tile_rows);
    for (int m = 0; m < n_members; m++)
        spread.n_tiles += members[m].n_tiles;
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
    for (int r = 0; r < comm->size; r++) {
        struct sq_range share = sq_split(spread.n_tiles, r, comm->size);
        spread.offsets[r] = tile_offset(&spread, share.first);
        spread.sizes[r] = tile_offset(&spread, share.first + share.count) - spread.offsets[r];
    }
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
    size_t scale_count = (size_t)(spread->tile_rows * member->n_groups);
    int64_t *n_rounds = (int64_t *)(record + member->record_bytes) - 1;
    double *figures = (double *)n_rounds - 3 * spread->tile_rows;
    tile.result = (struct sq_solve_result){.codes = (uint8_t *)record,
                                           .zeros = (uint8_t *)record + spread->tile_rows * member->linear->in_features,
                                           .scales = (float *)figures - scale_count,
                                           .error = figures,
                                           .error_rtn = figures + spread->tile_rows,
                                           .norm = figures + 2 * spread->tile_rows,
                                           .n_rounds = n_rounds};
    return tile;
}

enum sq_status sq_spread_gather(const struct sq_spread *spread, const struct sq_comm *comm)
{
    return sq_comm_all_gather(comm, spread->records, spread->offsets, spread->sizes);
}

int64_t sq_spread_n_limited(const struct sq_spread *spread, int member)
{
    int64_t count = 0;
    const struct sq_spread_member *m = &spread->members[member];
    for (int64_t t = m->first_tile; t < m->first_tile + m->n_tiles; t++) {
        struct sq_spread_tile tile = sq_spread_tile(spread, t);
        for (int64_t i = 0; i < tile.rows * m->n_groups; i++)
            count += sq_grid_is_scale_limited(m->grid.scale_dtype, tile.result.scales[i]);
    }
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
