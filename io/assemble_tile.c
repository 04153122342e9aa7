#include "base/memory.h"
#include "io/assemble_private.h"

enum sq_status sq_assemble_tile_alloc(const struct sq_store_layer *layer, struct sq_assemble_tile *tile_p)
{
    struct sq_assemble_tile tile = {0};
    int64_t in = layer->in_features, groups = sq_grid_n_groups(&layer->grid, in), rows = SQ_STORE_TILE_ROWS;
    enum sq_status status = sq_alloc("codes of a tile", rows * in, 1, (void **)&tile.rows.codes);
    if (status == SQ_OK) status = sq_alloc("scales of a tile", rows * groups, 4, (void **)&tile.rows.scales);
    if (status == SQ_OK) status = sq_alloc("zeros of a tile", rows * groups, 1, (void **)&tile.rows.zeros);
    if (status == SQ_OK) status = sq_alloc("weights of a tile", rows * in, 4, (void **)&tile.weights);
    if (status != SQ_OK) {
        sq_assemble_tile_release(&tile);
        return status;
    }
    *tile_p = tile;
    return SQ_OK;
}

void sq_assemble_tile_release(struct sq_assemble_tile *tile)
{
    sq_free(tile->rows.codes);
    sq_free(tile->rows.scales);
    sq_free(tile->rows.zeros);
    sq_free(tile->weights);
    *tile = (struct sq_assemble_tile){0};
}
