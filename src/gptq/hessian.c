#include "gptq/hessian.h"

#include <math.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "mpi/comm_memory.h"

#define EXPONENT_MIN (-90) /* smaller norms count as this: the scales stay inside f32 */

/* The upper triangle of a matrix [n, n] in panels of columns, one after another. */
struct panels {
    struct sq_sizes sizes;
    int64_t n;
};

/* Columns [column, column + columns) of the upper triangle: rows [0, rows). */
struct panel {
    int64_t column, columns, rows;
    int64_t offset; /* of its first element */
};

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t n_panels(const struct panels *panels)
{
    return (panels->n + panels->sizes.hessian_panel - 1) / panels->sizes.hessian_panel;
}

static struct panel panel_at(const struct panels *panels, int64_t p)
{
    int64_t columns = panels->sizes.hessian_panel;
    struct panel panel = {.column = p * columns, .offset = columns * columns * (p * (p + 1) / 2)};
    panel.columns = smaller(panels->n - panel.column, columns);
    panel.rows = panel.column + panel.columns;
    return panel;
}

/* Panels of the slice that starts with panel `first`. */
static int64_t slice_panels(const struct panels *panels, int64_t first)
{
    int64_t end = first + 1, start = panel_at(panels, first).offset;
    while (end < n_panels(panels) && panel_at(panels, end + 1).offset - start <= panels->sizes.hessian_slice)
        end++;
    return end - first;
}

/* Elements of the largest product of one worker. */
static int64_t product_elements(const struct panels *panels)
{
    return smaller(panels->n, panels->sizes.hessian_rows) * smaller(panels->n, panels->sizes.hessian_panel);
}

/* Elements of the largest slice. */
static int64_t slice_elements(const struct panels *panels)
{
    int64_t count = n_panels(panels), all = panel_at(panels, count).offset;
    int64_t widest = all - panel_at(panels, count - 1).offset;
    return smaller(all, widest > panels->sizes.hessian_slice ? widest : panels->sizes.hessian_slice);
}

size_t sq_hessian_bytes(const struct sq_sizes *sizes, int64_t n_max, int n_workers)
{
    const struct panels panels = {*sizes, n_max};
    return (size_t)n_max * (16 * (size_t)n_workers + 40) + (size_t)product_elements(&panels) * 4 * (size_t)n_workers +
           8 * (size_t)slice_elements(&panels);
}

static enum sq_status alloc_host(const char *what, int64_t count, size_t size, void *pointer_p)
{
    return sq_alloc(what, count, size, (void **)pointer_p);
}

enum sq_status sq_hessian_create(struct sq_backend *backend, int64_t n_max, struct sq_hessian_workspace *workspace_p)
{
    struct sq_hessian_workspace w = {.n_max = n_max, .n_workers = backend->n_workers};
    const struct panels panels = {backend->sizes, n_max};
    const char *what = "the Hessian's workspace";
    enum sq_status status = alloc_host(what, n_max * w.n_workers, sizeof *w.squares, &w.squares);
    if (status == SQ_OK) status = alloc_host(what, n_max * w.n_workers, sizeof *w.exponents, &w.exponents);
    if (status == SQ_OK) status = alloc_host(what, 5 * n_max, sizeof *w.scales, &w.scales);
    if (status == SQ_OK) status = backend->ops->alloc(backend, what, 20 * (size_t)n_max, (void **)&w.scale_up);
    if (status == SQ_OK)
        status =
            backend->ops->alloc(backend, what, (size_t)(product_elements(&panels) * w.n_workers) * sizeof *w.products,
                                (void **)&w.products);
    if (status == SQ_OK)
        status = backend->ops->alloc(backend, what, (size_t)slice_elements(&panels) * sizeof *w.sums, (void **)&w.sums);
    if (status != SQ_OK) {
        sq_hessian_destroy(backend, &w);
        return status;
    }
    w.scale_mean = w.scale_up + n_max;
    w.scale_down = (float *)(w.scale_mean + n_max);
    *workspace_p = w;
    return SQ_OK;
}

void sq_hessian_destroy(struct sq_backend *backend, struct sq_hessian_workspace *workspace)
{
    sq_free(workspace->squares);
    sq_free(workspace->exponents);
    sq_free(workspace->scales);
    backend->ops->free(backend, workspace->scale_up);
    backend->ops->free(backend, workspace->products);
    backend->ops->free(backend, workspace->sums);
    memset(workspace, 0, sizeof *workspace);
}

/* One making of a Hessian, as the parallel items see it. */
struct making {
    struct sq_backend *backend;
    const struct sq_shards *shards;
    struct panels panels;
    int64_t length, first_panel, n_panels; /* of the slice */
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
        if (!isfinite(squares[j])) return SQ_ERR_NUMERIC;
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
static enum sq_status make_scales(struct making *making)
{
    struct sq_hessian_workspace *w = making->workspace;
    int64_t n = making->x.cols;
    int steps = 62 - shard_headroom(making->shards->n_shards);
    int half = steps / 2;
    double *up = (double *)(void *)w->scales, *mean = up + w->n_max;
    float *down = (float *)(mean + w->n_max);
    for (int64_t j = 0; j < n; j++) {
        int e = (int)w->exponents[j];
        down[j] = ldexpf(1.0f, half - e);
        up[j] = ldexp(1.0, e - half);
        mean[j] = up[j] * making->to_mean;
    }
    return making->backend->ops->upload(making->backend, w->scales, 20 * (size_t)w->n_max, w->scale_up);
}

/* --- panels ------------------------------------------------------------------------------------------------------- */

/* Item `index` of a slice; the largest panel comes first, so that the workers end together. */
static struct panel item_panel(const struct making *making, int64_t index)
{
    return panel_at(&making->panels, making->first_panel + making->n_panels - 1 - index);
}

static struct sq_matrix panel_sums(const struct making *making, const struct panel *panel)
{
    int64_t first = panel_at(&making->panels, making->first_panel).offset;
    return sq_matrix_view(making->workspace->sums + panel->offset - first, SQ_I64, panel->rows, panel->columns);
}

/* Rows [row, row + rows) of a panel, over this rank's shards; product and sums stay in the worker's cache. */
static enum sq_status sum_block(const struct making *making, const struct panel *panel, int64_t row, int64_t rows,
                                int worker)
{
    const struct sq_backend_ops *ops = making->backend->ops;
    const struct sq_range mine = making->shards->mine;
    struct sq_hessian_workspace *w = making->workspace;
    int64_t most = product_elements(&(struct panels){making->panels.sizes, w->n_max});
    struct sq_matrix sums = sq_matrix_part(panel_sums(making, panel), row, rows, 0, panel->columns);
    struct sq_matrix product = sq_matrix_view(w->products + worker * most, SQ_F32, rows, panel->columns);
    SQ_TRY(ops->clear(making->backend, sums.data, (size_t)(rows * panel->columns) * sizeof(int64_t)));
    for (int64_t s = mine.first; s < mine.first + mine.count; s++) {
        struct sq_matrix x = shard_rows(making, s);
        if (x.rows == 0) continue;
        SQ_TRY(ops->gram(making->backend, sq_matrix_part(x, 0, x.rows, row, rows),
                         sq_matrix_part(x, 0, x.rows, panel->column, panel->columns), product));
        SQ_TRY(ops->fixed_add(making->backend, product, w->scale_down + row, w->scale_down + panel->column, sums));
    }
    return SQ_OK;
}

static enum sq_status sum_panel(void *context, int64_t index, int worker)
{
    const struct making *making = context;
    struct panel panel = item_panel(making, index);
    int64_t most = making->panels.sizes.hessian_rows;
    for (int64_t row = 0; row < panel.rows; row += most)
        SQ_TRY(sum_block(making, &panel, row, smaller(panel.rows - row, most), worker));
    return SQ_OK;
}

static enum sq_status get_panel(void *context, int64_t index, int worker)
{
    const struct making *making = context;
    const struct sq_backend_ops *ops = making->backend->ops;
    struct sq_hessian_workspace *w = making->workspace;
    struct panel panel = item_panel(making, index);
    (void)worker;
    SQ_TRY(ops->fixed_get(making->backend, panel_sums(making, &panel), w->scale_up, w->scale_mean + panel.column,
                          sq_matrix_part(making->hessian, 0, panel.rows, panel.column, panel.columns)));
    return ops->mirror(making->backend, making->hessian, panel.column, panel.columns);
}

static enum sq_status make_slice(struct making *making, const struct sq_comm *comm, int root)
{
    struct sq_backend *backend = making->backend;
    int64_t *sums = making->workspace->sums;
    struct panel last = panel_at(&making->panels, making->first_panel + making->n_panels - 1);
    int64_t count = last.offset + last.rows * last.columns - panel_at(&making->panels, making->first_panel).offset;
    enum sq_status status;
    SQ_TRY(sq_comm_agree(comm, backend->ops->parallel(backend, making->n_panels, sum_panel, making)));
    status = root < 0 ? sq_comm_memory_sum_i64(comm, backend, sums, count)
                      : sq_comm_memory_reduce_sum_i64(comm, backend, root, sums, count);
    if (status == SQ_OK && (root < 0 || comm->rank == root))
        status = backend->ops->parallel(backend, making->n_panels, get_panel, making);
    return sq_comm_agree(comm, status);
}

enum sq_status sq_hessian_make(struct sq_backend *backend, const struct sq_comm *comm, int root, const char *layer,
                               const struct sq_shards *shards, int64_t length, struct sq_matrix x,
                               struct sq_hessian_workspace *workspace, struct sq_matrix hessian)
{
    struct making making = {.backend = backend,
                            .shards = shards,
                            .panels = {backend->sizes, x.cols},
                            .length = length,
                            .x = x,
                            .workspace = workspace,
                            .hessian = hessian,
                            .to_mean = 2.0 / ((double)shards->n_samples * (double)length)};
    enum sq_status status = sq_comm_agree(comm, local_exponents(&making));
    if (status == SQ_ERR_NUMERIC && comm->rank == 0)
        sq_error("the inputs of %s are too large: their Hessian is not finite", layer);
    SQ_TRY(status);
    SQ_TRY(sq_comm_max_i64(comm, workspace->exponents, x.cols));
    SQ_TRY(sq_comm_agree(comm, make_scales(&making)));
    for (int64_t first = 0; first < n_panels(&making.panels); first += making.n_panels) {
        making.first_panel = first;
        making.n_panels = slice_panels(&making.panels, first);
        SQ_TRY(make_slice(&making, comm, root));
    }
    return SQ_OK;
}
