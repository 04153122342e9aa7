#include "gptq/hessian.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"

#define TILE SQ_HESSIAN_TILE
#define TILE_ELEMENTS ((int64_t)TILE * TILE)
#define SLICE_TILES_MAX 256 /* 75 MB of 64-bit sums at a time */
#define EXPONENT_MIN (-90)  /* smaller norms count as this: the scales stay inside f32 */

static int64_t n_edges(int64_t n)
{
    return (n + TILE - 1) / TILE;
}

static int64_t n_tiles(int64_t n)
{
    return n_edges(n) * (n_edges(n) + 1) / 2;
}

static int64_t slice_tiles(int64_t n_max)
{
    return n_tiles(n_max) < SLICE_TILES_MAX ? n_tiles(n_max) : SLICE_TILES_MAX;
}

size_t sq_hessian_bytes(int64_t n_max, int n_workers)
{
    return (size_t)n_max * (16 * (size_t)n_workers + 12) +
           (size_t)TILE_ELEMENTS * (4 * (size_t)n_workers + 8 * (size_t)slice_tiles(n_max));
}

static enum sq_status alloc_host(const char *what, int64_t count, size_t size, void *pointer_p)
{
    return sq_alloc(what, count, size, (void **)pointer_p);
}

enum sq_status sq_hessian_create(struct sq_backend *backend, int64_t n_max, struct sq_hessian_workspace *workspace_p)
{
    struct sq_hessian_workspace w = {
        .n_max = n_max, .n_workers = backend->n_workers, .slice_tiles = slice_tiles(n_max)};
    const char *what = "the Hessian's workspace";
    enum sq_status status = alloc_host(what, n_max * w.n_workers, sizeof *w.squares, &w.squares);
    if (status == SQ_OK) status = alloc_host(what, n_max * w.n_workers, sizeof *w.exponents, &w.exponents);
    if (status == SQ_OK) status = alloc_host(what, n_max, sizeof *w.scale_down, &w.scale_down);
    if (status == SQ_OK) status = alloc_host(what, n_max, sizeof *w.scale_up, &w.scale_up);
    if (status == SQ_OK)
        status = backend->ops->alloc(backend, what, (size_t)(TILE_ELEMENTS * w.n_workers) * sizeof *w.tiles,
                                     (void **)&w.tiles);
    if (status == SQ_OK)
        status = backend->ops->alloc(backend, what, (size_t)(TILE_ELEMENTS * w.slice_tiles) * sizeof *w.sums,
                                     (void **)&w.sums);
    if (status != SQ_OK) {
        sq_hessian_destroy(backend, &w);
        return status;
    }
    *workspace_p = w;
    return SQ_OK;
}

void sq_hessian_destroy(struct sq_backend *backend, struct sq_hessian_workspace *workspace)
{
    sq_free(workspace->squares);
    sq_free(workspace->exponents);
    sq_free(workspace->scale_down);
    sq_free(workspace->scale_up);
    backend->ops->free(backend, workspace->tiles);
    backend->ops->free(backend, workspace->sums);
    memset(workspace, 0, sizeof *workspace);
}

/* One making of a Hessian, as the parallel items see it. */
struct making {
    struct sq_backend *backend;
    const struct sq_shards *shards;
    int64_t length, first_tile;
    struct sq_matrix x;
    struct sq_hessian_workspace *workspace;
    struct sq_matrix hessian;
    double to_mean; /* 2 / T */
};

static struct sq_matrix shard_rows(const struct making *making, int64_t shard)
{
    struct sq_range samples = sq_shards_local(making->shards, shard);
    return sq_matrix_part(making->x, samples.first * making->length, samples.count * making->length, 0, making->x.cols);
}

/* --- scales ----------------------------------------------------------------------------------------------------------
 */

/* Smallest e >= EXPONENT_MIN with sqrt(square) <= 2^e. */
static int64_t exponent_of(double square)
{
    if (square == 0) return EXPONENT_MIN;
    int e;
    double fraction = frexp(square, &e); /* square = fraction 2^e, fraction in [0.5, 1) */
    if (fraction == 0.5) e--;
    int64_t half = e >= 0 ? (e + 1) / 2 : e / 2; /* rounded up */
    return half > EXPONENT_MIN ? half : EXPONENT_MIN;
}

static enum sq_status shard_exponents(void *context, int64_t index, int worker)
{
    const struct making *making = context;
    double *squares = making->workspace->squares + (int64_t)worker * making->workspace->n_max;
    int64_t *exponents = making->workspace->exponents + (int64_t)worker * making->workspace->n_max;
    SQ_TRY(making->backend->ops->column_squares(making->backend, shard_rows(making, making->shards->mine.first + index),
                                                squares));
    for (int64_t j = 0; j < making->x.cols; j++) {
        int64_t e = exponent_of(squares[j]);
        if (e > exponents[j]) exponents[j] = e;
    }
    return SQ_OK;
}

/* Exponents of the columns over this rank's shards, into the first row of exponents. */
static enum sq_status local_exponents(struct making *making)
{
    struct sq_hessian_workspace *w = making->workspace;
    for (int64_t j = 0; j < w->n_max * w->n_workers; j++)
        w->exponents[j] = EXPONENT_MIN;
    SQ_TRY(making->backend->ops->parallel(making->backend, making->shards->mine.count, shard_exponents, making));
    for (int k = 1; k < w->n_workers; k++)
        for (int64_t j = 0; j < making->x.cols; j++) {
            int64_t e = w->exponents[k * w->n_max + j];
            if (e > w->exponents[j]) w->exponents[j] = e;
        }
    return SQ_OK;
}

static int shard_headroom(int64_t n_shards)
{
    int bits = 1; /* one more for the rounding of the f32 products */
    while (((int64_t)1 << bits) < 2 * n_shards)
        bits++;
    return bits;
}

/* Fixed point: an entry scaled into [-1, 1] is multiplied by 2^(62 - headroom), half of it on either side. */
static void make_scales(struct sq_hessian_workspace *w, int64_t n, int64_t n_shards)
{
    int steps = 62 - shard_headroom(n_shards);
    int half = steps / 2;
    for (int64_t j = 0; j < n; j++) {
        int e = (int)w->exponents[j];
        w->scale_down[j] = ldexpf(1.0f, half - e);
        w->scale_up[j] = ldexp(1.0, e - half);
    }
}

/* --- tiles -----------------------------------------------------------------------------------------------------------
 */

struct tile {
    int64_t row, rows, col, cols;
};

/* Tile t of the lower triangle, row by row. */
static struct tile tile_at(int64_t n, int64_t t)
{
    int64_t i = (int64_t)((sqrt(8.0 * (double)t + 1) - 1) / 2);
    while (i * (i + 1) / 2 > t)
        i--;
    while ((i + 1) * (i + 2) / 2 <= t)
        i++;
    struct tile tile = {.row = i * TILE, .col = (t - i * (i + 1) / 2) * TILE};
    tile.rows = n - tile.row < TILE ? n - tile.row : TILE;
    tile.cols = n - tile.col < TILE ? n - tile.col : TILE;
    return tile;
}

static struct sq_matrix tile_sums(const struct making *making, int64_t index, const struct tile *tile)
{
    struct sq_matrix all = sq_matrix_view(making->workspace->sums + index * TILE_ELEMENTS, SQ_I64, TILE, TILE);
    return sq_matrix_part(all, 0, tile->rows, 0, tile->cols);
}

static enum sq_status sum_tile(void *context, int64_t index, int worker)
{
    const struct making *making = context;
    const struct sq_backend_ops *ops = making->backend->ops;
    struct sq_hessian_workspace *w = making->workspace;
    struct tile tile = tile_at(making->x.cols, making->first_tile + index);
    struct sq_matrix product = sq_matrix_view(w->tiles + worker * TILE_ELEMENTS, SQ_F32, tile.rows, tile.cols);
    struct sq_matrix sums = tile_sums(making, index, &tile);
    memset(w->sums + index * TILE_ELEMENTS, 0, sizeof(int64_t) * (size_t)TILE_ELEMENTS);
    for (int64_t s = making->shards->mine.first; s < making->shards->mine.first + making->shards->mine.count; s++) {
        struct sq_matrix rows = shard_rows(making, s);
        if (rows.rows == 0) continue;
        SQ_TRY(ops->gram(making->backend, sq_matrix_part(rows, 0, rows.rows, tile.row, tile.rows),
                         sq_matrix_part(rows, 0, rows.rows, tile.col, tile.cols), product));
        SQ_TRY(ops->fixed_add(making->backend, product, w->scale_down + tile.row, w->scale_down + tile.col, sums));
    }
    return SQ_OK;
}

static void mirror(struct sq_matrix h, const struct tile *tile)
{
    float *values = h.data;
    for (int64_t i = tile->row; i < tile->row + tile->rows; i++)
        for (int64_t j = tile->col; j < tile->col + tile->cols && j < i; j++)
            values[j * h.stride + i] = values[i * h.stride + j];
}

static enum sq_status get_tile(void *context, int64_t index, int worker)
{
    const struct making *making = context;
    struct sq_hessian_workspace *w = making->workspace;
    struct tile tile = tile_at(making->x.cols, making->first_tile + index);
    double row_scale[TILE];
    (void)worker;
    for (int64_t i = 0; i < tile.rows; i++)
        row_scale[i] = w->scale_up[tile.row + i] * making->to_mean;
    SQ_TRY(making->backend->ops->fixed_get(making->backend, tile_sums(making, index, &tile), row_scale,
                                           w->scale_up + tile.col,
                                           sq_matrix_part(making->hessian, tile.row, tile.rows, tile.col, tile.cols)));
    mirror(making->hessian, &tile);
    return SQ_OK;
}

static enum sq_status make_slice(struct making *making, const struct sq_comm *comm, int root, int64_t count)
{
    struct sq_backend *backend = making->backend;
    int64_t *sums = making->workspace->sums;
    SQ_TRY(sq_comm_agree(comm, backend->ops->parallel(backend, count, sum_tile, making)));
    if (root < 0) {
        SQ_TRY(sq_comm_sum_i64(comm, sums, count * TILE_ELEMENTS));
    } else {
        SQ_TRY(sq_comm_reduce_sum_i64(comm, root, sums, count * TILE_ELEMENTS));
        if (comm->rank != root) return SQ_OK;
    }
    return backend->ops->parallel(backend, count, get_tile, making);
}

enum sq_status sq_hessian_make(struct sq_backend *backend, const struct sq_comm *comm, int root,
                               const struct sq_shards *shards, int64_t length, struct sq_matrix x,
                               struct sq_hessian_workspace *workspace, struct sq_matrix hessian)
{
    struct making making = {.backend = backend,
                            .shards = shards,
                            .length = length,
                            .x = x,
                            .workspace = workspace,
                            .hessian = hessian,
                            .to_mean = 2.0 / ((double)shards->n_samples * (double)length)};
    SQ_TRY(sq_comm_agree(comm, local_exponents(&making)));
    SQ_TRY(sq_comm_max_i64(comm, workspace->exponents, x.cols));
    make_scales(workspace, x.cols, shards->n_shards);
    int64_t total = n_tiles(x.cols);
    for (int64_t first = 0; first < total; first += workspace->slice_tiles) {
        making.first_tile = first;
        int64_t count = total - first < workspace->slice_tiles ? total - first : workspace->slice_tiles;
        SQ_TRY(make_slice(&making, comm, root, count));
    }
    return SQ_OK;
}
