/* Tiles of a backend's solver with known values: for tests of its operations at sizes that leave vectors, warps, spans
 * and groups half full. */
#ifndef SQ_TESTS_TILE_FIXTURE_H
#define SQ_TESTS_TILE_FIXTURE_H

#include "backend_fixture.h"
#include "oracle.h"
#include "tensor/solve_ops.h"

enum { MOST = 512 };

/* A tile [columns, ROWS] of noise of this size. */
static inline struct sq_matrix make_tile(int64_t columns, float size, uint32_t seed)
{
    int64_t lanes = backend->sizes.solve_rows;
    struct sq_matrix noise = make(SQ_F32, columns, lanes, seed);
    struct sq_matrix tile = sq_matrix_view(malloc((size_t)(columns * lanes) * sizeof(float)), SQ_F32, columns, lanes);
    for (int64_t i = 0; i < columns * lanes; i++)
        ((float *)tile.data)[i] = size * (float)at(noise, i / lanes, i % lanes);
    free(noise.data);
    return tile;
}

static const struct sq_grid grids[] = {
    {2, true, 32, SQ_F16},  {3, false, 48, SQ_F16}, {4, true, 128, SQ_F16},
    {4, false, 33, SQ_F16}, {8, true, 300, SQ_F16}, {8, false, 1, SQ_F16},
};
#define N_GRIDS ((int)(sizeof grids / sizeof *grids))
static const int64_t counts[] = {1, 31, 32, 33, 127, 128, 129, 256};
#define N_COUNTS ((int)(sizeof counts / sizeof *counts))

/* Grids of all groups of n columns, here and in the backend's memory. */
struct tile_grids {
    struct sq_matrix scale, inverse, zero; /* [groups, ROWS] */
    struct sq_tile_scales there;
};

static inline struct tile_grids make_grids(const struct sq_grid *grid, int64_t n)
{
    int64_t groups = sq_grid_n_groups(grid, n), count = groups * backend->sizes.solve_rows;
    struct tile_grids g = {make_tile(groups, 0.3f, 6), make_tile(groups, 1, 7), make_tile(groups, 1, 8), {0}};
    float *scale = g.scale.data, *inverse = g.inverse.data, *zero = g.zero.data,
          max_code = (float)sq_grid_max_code(grid);
    for (int64_t i = 0; i < count; i++) {
        scale[i] = (0.7f + scale[i]) / max_code; /* some weights are outside */
        inverse[i] = 1 / scale[i];
        zero[i] = grid->symmetric ? (float)(1 << (grid->bits - 1)) : roundf((zero[i] + 1) / 2 * max_code);
    }
    g.there = (struct sq_tile_scales){give(g.scale).data, give(g.inverse).data, give(g.zero).data};
    return g;
}

static inline void free_grids(struct tile_grids *g)
{
    free(g->scale.data);
    free(g->inverse.data);
    free(g->zero.data);
}

#endif
