/* Weights of the group to come, read into device memory while the device computes. Only the main thread reads, between
 * sq_ahead_begin() and sq_ahead_end(); only then do workers look. */
#include "gptq/beside.h"
#include "gptq/group.h"

void sq_ahead_begin(struct sq_job *job, const struct sq_group *group)
{
    struct sq_ahead *ahead = &job->ahead;
    ahead->is_open = false;
    ahead->spread.n_members = 0;
    ahead->status = SQ_OK;
    if (ahead->bytes == 0 || group->n_layers == 0 || group->is_expert || sq_group_is_done(job, group)) return;
    ahead->spread = sq_group_describe(job, group);
    ahead->block = group->block;
    ahead->index = group->index;
    ahead->tile = ahead->row = 0;
    ahead->offset = 0;
    ahead->is_open = true;
}

static struct sq_spread_tile tile_at(const struct sq_ahead *ahead, int64_t index)
{
    return sq_spread_tile(&ahead->spread, ahead->spread.mine.first + index);
}

static size_t tile_bytes(const struct sq_spread_tile *tile)
{
    return (size_t)(tile->rows * tile->member->linear->in_features) * sizeof(float);
}

/* Some rows of a tile by way of the next lane. */
static enum sq_status read_rows(struct sq_job *job, const struct sq_spread_tile *tile, int64_t rows)
{
    struct sq_ahead *ahead = &job->ahead;
    const struct sq_backend_ops *ops = job->backend->ops;
    const struct sq_linear *linear = tile->member->linear;
    struct sq_checkpoint_linear in_folder = sq_linear_in_folder(linear);
    size_t row_bytes = (size_t)linear->in_features * sizeof(float);
    float *values = ahead->lanes[ahead->lane];
    SQ_TRY(ops->sent(job->backend, ahead->lane));
    SQ_TRY(sq_checkpoint_read_linear(job->checkpoint, &in_folder, tile->row + ahead->row, rows, values));
    SQ_TRY(ops->send(job->backend, ahead->lane, values, (size_t)rows * row_bytes,
                     ahead->memory + ahead->offset + (size_t)ahead->row * row_bytes));
    ahead->lane = (ahead->lane + 1) % SQ_LANES;
    return SQ_OK;
}

bool sq_ahead_step(struct sq_job *job)
{
    struct sq_ahead *ahead = &job->ahead;
    if (!ahead->is_open || ahead->tile == ahead->spread.mine.count) return false;
    struct sq_spread_tile tile = tile_at(ahead, ahead->tile);
    int64_t rest = tile.rows - ahead->row, rows = rest < SQ_MEMORY_STAGING_ROWS ? rest : SQ_MEMORY_STAGING_ROWS;
    if (ahead->offset + tile_bytes(&tile) > ahead->bytes) return false;
    ahead->status = read_rows(job, &tile, rows);
    if (ahead->status != SQ_OK) ahead->is_open = false;
    if (ahead->status != SQ_OK) return false;
    ahead->row += rows;
    if (ahead->row < tile.rows) return true;
    ahead->offset += tile_bytes(&tile);
    ahead->row = 0;
    ahead->tile++;
    return true;
}

enum sq_status sq_ahead_end(struct sq_job *job)
{
    job->ahead.is_open = false;
    return job->ahead.status == SQ_ERR_NUMERIC ? SQ_OK : job->ahead.status;
}

bool sq_ahead_find(const struct sq_job *job, const struct sq_group *group, int64_t index, struct sq_matrix *weights_p)
{
    const struct sq_ahead *ahead = &job->ahead;
    bool is_this = ahead->spread.n_members > 0 && ahead->block == group->block && ahead->index == group->index;
    size_t offset = 0;
    if (!is_this || index >= ahead->tile) return false;
    for (int64_t i = 0; i < index; i++) {
        struct sq_spread_tile before = tile_at(ahead, i);
        offset += tile_bytes(&before);
    }
    struct sq_spread_tile tile = tile_at(ahead, index);
    *weights_p = sq_matrix_view(ahead->memory + offset, SQ_F32, tile.rows, tile.member->linear->in_features);
    return true;
}
