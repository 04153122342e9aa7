/* GPTQ on one tile: Q_j = grid(W_j + sum_{k<j} (W_k - Q_k) M_kj), in blocks of columns. What comes from earlier columns
 * is one product (left-looking) for as many blocks as the backend likes; the rest is a product for each block and what
 * happens inside it.
 *
 * What it loses is the layer's error: with H + damping = R R', e (H + damping) e' is the sum over columns of
 * (sum_{k<=j} e_k R_kj)^2 = R_jj^2 (X_j - Q_j)^2, X_j being what grid() rounds. */
#include "gptq/solve_tile.h"

/* Columns [j, j + columns) in processing order, with products = what the columns before j add to them. */
static enum sq_status quantize_block(struct sq_tile *tile, int64_t j, int64_t columns, const float *products)
{
    const struct sq_factor *factor = tile->factor;
    struct sq_column_block block = {.columns = columns,
                                    .index = (const int32_t *)factor->backend_order + j,
                                    .unit = sq_matrix_part(factor->unit, j, columns, j, columns).data,
                                    .unit_stride = factor->unit.stride,
                                    .products = products,
                                    .weights = tile->weights,
                                    .scales = tile->scales,
                                    .group_size = tile->options->grid.group_size,
                                    .max_code = sq_grid_max_code(&tile->options->grid),
                                    .errors = sq_tile_columns(tile, tile->errors, j),
                                    .codes = tile->codes,
                                    .loss = tile->loss,
                                    .variance = factor->diagonal.data,
                                    .ridge = (float)factor->ridge};
    return tile->backend->ops->solve->quantize(tile->backend, &block);
}

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* products = what the columns before `first` add to columns [first, end). */
static enum sq_status earlier_products(struct sq_tile *tile, int64_t first, int64_t end, float *products)
{
    struct sq_matrix unit = sq_matrix_part(tile->factor->unit, first, end - first, 0, first);
    return sq_tile_product(tile, unit, tile->errors, false, products);
}

/* Columns [first, end), block by block; products are overwritten. */
static enum sq_status quantize_blocks(struct sq_tile *tile, int64_t first, int64_t end, float *products)
{
    for (int64_t j = first; j < end; j += SQ_SOLVE_BLOCK) {
        int64_t columns = smaller(end - j, SQ_SOLVE_BLOCK);
        struct sq_matrix inside = sq_matrix_part(tile->factor->unit, j, columns, first, j - first);
        float *block_products = sq_tile_columns(tile, products, j - first);
        SQ_TRY(sq_tile_product(tile, inside, sq_tile_columns(tile, tile->errors, first), true, block_products));
        SQ_TRY(quantize_block(tile, j, columns, block_products));
    }
    return SQ_OK;
}

/* Grids fixed beforehand from the original weights, any order. */
static enum sq_status solve_static(struct sq_tile *tile)
{
    int64_t step = tile->reach > SQ_SOLVE_BLOCK ? tile->reach : SQ_SOLVE_BLOCK;
    SQ_TRY(sq_tile_find_scales(tile, tile->factor->diagonal.data));
    for (int64_t j = 0; j < tile->n; j += step) {
        int64_t end = smaller(tile->n, j + step);
        SQ_TRY(earlier_products(tile, j, end, tile->parts[0]));
        SQ_TRY(quantize_blocks(tile, j, end, tile->parts[0]));
    }
    return SQ_OK;
}

/* The grid of the group at column j from its weights as updated by the columns before it; products: what those add. */
static enum sq_status find_group_scales(struct sq_tile *tile, int64_t j, int64_t columns, const float *products)
{
    const struct sq_solve_ops *solve = tile->backend->ops->solve;
    const struct sq_grid *grid = &tile->options->grid;
    int64_t group = j / grid->group_size * tile->lanes;
    struct sq_matrix unit = sq_matrix_part(tile->factor->unit, j, columns, j, columns);
    struct sq_tile_scales scales = {tile->scales.scale + group, tile->scales.inverse + group,
                                    tile->scales.zero + group};
    float *updated = tile->parts[1];
    SQ_TRY(solve->settle(tile->backend, columns, unit.data, unit.stride, products,
                         sq_tile_columns(tile, tile->weights, j), updated));
    return solve->find_scales(tile->backend, grid, sq_tile_scale_rule(tile), columns, updated,
                              (const float *)tile->factor->diagonal.data + j, scales);
}

/* Columns [first, end): one group, in natural order. */
static enum sq_status solve_group(struct sq_tile *tile, int64_t first, int64_t end)
{
    float *products = tile->parts[0];
    SQ_TRY(earlier_products(tile, first, end, products));
    SQ_TRY(find_group_scales(tile, first, end - first, products));
    return quantize_blocks(tile, first, end, products);
}

enum sq_status sq_tile_gptq(struct sq_tile *tile)
{
    int64_t group_size = tile->options->grid.group_size;
    bool natural = tile->options->order == SQ_ORDER_NATURAL;
    if (!natural || tile->options->static_groups || group_size >= tile->n) return solve_static(tile);
    for (int64_t j = 0; j < tile->n; j += group_size)
        SQ_TRY(solve_group(tile, j, j + group_size < tile->n ? j + group_size : tile->n));
    return SQ_OK;
}
