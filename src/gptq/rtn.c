/* Plain rounding: data-free, the baseline. */
#include "gptq/solve_tile.h"

enum sq_status sq_tile_rtn(struct sq_tile *tile)
{
    SQ_TRY(sq_tile_find_scales(tile, NULL));
    return tile->backend->ops->solve->nearest(tile->backend, &tile->options->grid, tile->n, tile->weights, tile->scales,
                                              tile->codes);
}
