#include "gptq/beside.h"

#include "base/clock.h"
#include "base/trace.h"
#include "gptq/job.h"

/* One step, and what it was in the trace. */
static bool take(struct sq_job *job, bool (*fn)(struct sq_job *job), const char *name)
{
    double since = sq_trace_now();
    bool has_more = fn(job);
    if (has_more && since > 0) sq_trace_add_beside(SQ_TRACE_FILES, 0, name, since, sq_seconds() - since, 0);
    return has_more;
}

/* Reading first: the weights are needed before the records. */
static bool step(void *context)
{
    struct sq_job *job = context;
    return take(job, sq_ahead_step, "read weights") || sq_forward_ahead_step(job->forward) ||
           take(job, sq_behind_step, "write rows");
}

enum sq_status sq_beside_create(struct sq_job *job)
{
    struct sq_backend *backend = job->backend;
    struct sq_ahead *ahead = &job->ahead;
    size_t lane_bytes = (size_t)job->staging_elements * sizeof(float);
    backend->beside = (struct sq_beside){step, job};
    if (job->memory.groups_ahead == 0) ahead->bytes = (size_t)job->memory.ahead; /* else the forward pass has it */
    if (ahead->bytes == 0) return SQ_OK;
    SQ_TRY(backend->ops->alloc(backend, "weights read ahead", ahead->bytes, (void **)&ahead->memory));
    for (int lane = 0; lane < SQ_LANES; lane++)
        SQ_TRY(backend->ops->alloc_host(backend, "rows read ahead", lane_bytes, (void **)&ahead->lanes[lane]));
    return SQ_OK;
}

void sq_beside_destroy(struct sq_job *job)
{
    struct sq_backend *backend = job->backend;
    struct sq_ahead *ahead = &job->ahead;
    backend->beside = (struct sq_beside){NULL, NULL};
    for (int lane = 0; lane < SQ_LANES; lane++) {
        if (ahead->lanes[lane]) (void)backend->ops->sent(backend, lane);
        backend->ops->free_host(backend, ahead->lanes[lane]);
    }
    backend->ops->free(backend, ahead->memory);
    *ahead = (struct sq_ahead){.bytes = 0};
    job->behind = (struct sq_behind){.tile = 0};
}

/* --- writing ------------------------------------------------------------------------------------------------------ */

struct sq_store_rows sq_tile_rows_from(const struct sq_spread_tile *tile, int64_t row)
{
    int64_t cell = row * tile->member->n_groups;
    return (struct sq_store_rows){.codes = tile->result.codes + row * tile->member->linear->in_features,
                                  .scales = tile->result.scales + cell,
                                  .zeros = tile->result.zeros + cell};
}

void sq_behind_begin(struct sq_job *job, const struct sq_spread *spread)
{
    job->behind = (struct sq_behind){.spread = *spread, .tile = spread->mine.first, .status = SQ_OK};
    job->behind.spread.offsets = job->behind.spread.sizes = NULL; /* the group's, which ends before */
}

/* One tile of the store: each of the solver's is one or several of these. After a failure the rest is left out. */
bool sq_behind_step(struct sq_job *job)
{
    struct sq_behind *behind = &job->behind;
    const struct sq_spread *spread = &behind->spread;
    bool has_more = spread->n_members > 0 && behind->tile < spread->mine.first + spread->mine.count;
    if (!has_more || behind->status != SQ_OK) return false;
    struct sq_spread_tile tile = sq_spread_tile(spread, behind->tile);
    struct sq_store_rows rows = sq_tile_rows_from(&tile, behind->row);
    behind->status =
        sq_store_write_tile(job->store, tile.member->layer, (tile.row + behind->row) / SQ_STORE_TILE_ROWS, &rows);
    behind->row += SQ_STORE_TILE_ROWS;
    if (behind->row < tile.rows) return true;
    behind->row = 0;
    behind->tile++;
    return true;
}

enum sq_status sq_behind_finish(struct sq_job *job)
{
    while (sq_behind_step(job))
        continue;
    enum sq_status status = job->behind.status;
    job->behind = (struct sq_behind){.status = SQ_OK};
    return status;
}
