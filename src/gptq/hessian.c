#include "gptq/hessian.h"

#include <math.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"

#define PANEL SQ_HESSIAN_PANEL
#define SLICE_MAX ((int64_t)10 << 20) /* 80 MB of 64-bit sums at a time, or one panel */
#define EXPONENT_MIN (-90)            /* smaller norms count as this: the scales stay inside f32 */

static int64_t n_panels(int64_t n)
{
    return (n + PANEL - 1) / PANEL;
}

/* Rows [row, row + rows) of the lower triangle: columns [0, columns). */
struct panel {
    int64_t row, rows, columns;
    int64_t offset; /* of its first element, when the panels stand one after another */
};

static struct panel panel_at(int64_t n, int64_t p)
{
    struct panel panel = {.row = p * PANEL, .offset = PANEL * PANEL * (p * (p + 1) / 2)};
    panel.rows = n - panel.row < PANEL ? n - panel.row : PANEL;
    panel.columns = panel.row + panel.rows;
    return panel;
}

/* Panels of the slice that starts with panel `first`. */
static int64_t slice_panels(int64_t n, int64_t first)
{
    int64_t end = first + 1;
    while (end < n_panels(n) && panel_at(n, end + 1).offset - panel_at(n, first).offset <= SLICE_MAX)
        end++;
    return end - first;
}

/* Elements of the largest product of one worker. */
static int64_t product_elements(int64_t n_max)
{
    return (n_max < SQ_HESSIAN_COLUMNS ? n_max : SQ_HESSIAN_COLUMNS) * (n_max < PANEL ? n_max : PANEL);
}

/* Elements of the largest slice. */
static int64_t slice_elements(int64_t n)
{
    int64_t all = panel_at(n, n_panels(n)).offset, widest = all - panel_at(n, n_panels(n) - 1).offset;
    int64_t most = widest > SLICE_MAX ? widest : SLICE_MAX;
    return all < most ? all : most;
}

size_t sq_hessian_bytes(int64_t n_max, int n_workers)
{
    return (size_t)n_max * (16 * (size_t)n_workers + 12) + (size_t)product_elements(n_max) * 4 * (size_t)n_workers +
           8 * (size_t)slice_elements(n_max);
}

static enum sq_status alloc_host(const char *what, int64_t count, size_t size, void *pointer_p)
{
    return sq_alloc(what, count, size, (void **)pointer_p);
}

enum sq_status sq_hessian_create(struct sq_backend *backend, int64_t n_max, struct sq_hessian_workspace *workspace_p)
{
    struct sq_hessian_workspace w = {.n_max = n_max, .n_workers = backend->n_workers};
    const char *what = "the Hessian's workspace";
    enum sq_status status = alloc_host(what, n_max * w.n_workers, sizeof *w.squares, &w.squares);
    if (status == SQ_OK) status = alloc_host(what, n_max * w.n_workers, sizeof *w.exponents, &w.exponents);
    if (status == SQ_OK) status = alloc_host(what, n_max, sizeof *w.scale_down, &w.scale_down);
    if (status == SQ_OK) status = alloc_host(what, n_max, sizeof *w.scale_up, &w.scale_up);
    if (status == SQ_OK)
        status = backend->ops->alloc(
            backend, what, (size_t)(product_elements(n_max) * w.n_workers) * sizeof *w.products, (void **)&w.products);
    if (status == SQ_OK)
        status = backend->ops->alloc(backend, what, (size_t)slice_elements(n_max) * sizeof *w.sums, (void **)&w.sums);
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
    backend->ops->free(backend, workspace->products);
    backend->ops->free(backend, workspace->sums);
    memset(workspace, 0, sizeof *workspace);
}

/* One making of a Hessian, as the parallel items see it. */
struct making {
    struct sq_backend *backend;
    const struct sq_shards *shards;
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

/* --- panels ------------------------------------------------------------------------------------------------------- */

/* Item `index` of a slice; the largest panel comes first, so that the workers end together. */
static struct panel item_panel(const struct making *making, int64_t index)
{
    return panel_at(making->x.cols, making->first_panel + making->n_panels - 1 - index);
}

static struct sq_matrix panel_sums(const struct making *making, const struct panel *panel)
{
    int64_t first = panel_at(making->x.cols, making->first_panel).offset;
    return sq_matrix_view(making->workspace->sums + panel->offset - first, SQ_I64, panel->rows, panel->columns);
}

/* Columns [col, col + cols) of a panel, over this rank's shards; product and sums stay in the worker's cache. */
static enum sq_status sum_block(const struct making *making, const struct panel *panel, int64_t col, int64_t cols,
                                int worker)
{
    const struct sq_backend_ops *ops = making->backend->ops;
    const struct sq_range mine = making->shards->mine;
    struct sq_hessian_workspace *w = making->workspace;
    struct sq_matrix sums = sq_matrix_part(panel_sums(making, panel), 0, panel->rows, col, cols);
    struct sq_matrix product =
        sq_matrix_view(w->products + worker * product_elements(w->n_max), SQ_F32, panel->rows, cols);
    for (int64_t s = mine.first; s < mine.first + mine.count; s++) {
        struct sq_matrix x = shard_rows(making, s);
        if (x.rows == 0) continue;
        SQ_TRY(ops->gram(making->backend, sq_matrix_part(x, 0, x.rows, panel->row, panel->rows),
                         sq_matrix_part(x, 0, x.rows, col, cols), product));
        SQ_TRY(ops->fixed_add(making->backend, product, w->scale_down + panel->row, w->scale_down + col, sums));
    }
    return SQ_OK;
}

static enum sq_status sum_panel(void *context, int64_t index, int worker)
{
    const struct making *making = context;
    struct panel panel = item_panel(making, index);
    memset(panel_sums(making, &panel).data, 0, (size_t)(panel.rows * panel.columns) * sizeof(int64_t));
    for (int64_t col = 0; col < panel.columns; col += SQ_HESSIAN_COLUMNS) {
        int64_t left = panel.columns - col;
        SQ_TRY(sum_block(making, &panel, col, left < SQ_HESSIAN_COLUMNS ? left : SQ_HESSIAN_COLUMNS, worker));
    }
    return SQ_OK;
}

/* The upper triangle's share of the panel. */
static void mirror(struct sq_matrix h, const struct panel *panel)
{
    float *values = h.data;
    for (int64_t j = 0; j < panel->columns; j++)
        for (int64_t i = panel->row; i < panel->columns; i++)
            if (j < i) values[j * h.stride + i] = values[i * h.stride + j];
}

static enum sq_status get_panel(void *context, int64_t index, int worker)
{
    const struct making *making = context;
    struct sq_hessian_workspace *w = making->workspace;
    struct panel panel = item_panel(making, index);
    double row_scale[PANEL];
    (void)worker;
    for (int64_t i = 0; i < panel.rows; i++)
        row_scale[i] = w->scale_up[panel.row + i] * making->to_mean;
    SQ_TRY(making->backend->ops->fixed_get(making->backend, panel_sums(making, &panel), row_scale, w->scale_up,
                                           sq_matrix_part(making->hessian, panel.row, panel.rows, 0, panel.columns)));
    mirror(making->hessian, &panel);
    return SQ_OK;
}

static enum sq_status make_slice(struct making *making, const struct sq_comm *comm, int root)
{
    struct sq_backend *backend = making->backend;
    int64_t *sums = making->workspace->sums, n = making->x.cols;
    struct panel last = panel_at(n, making->first_panel + making->n_panels - 1);
    int64_t count = last.offset + last.rows * last.columns - panel_at(n, making->first_panel).offset;
    enum sq_status status;
    SQ_TRY(sq_comm_agree(comm, backend->ops->parallel(backend, making->n_panels, sum_panel, making)));
    status = root < 0 ? sq_comm_sum_i64(comm, sums, count) : sq_comm_reduce_sum_i64(comm, root, sums, count);
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
    make_scales(workspace, x.cols, shards->n_shards);
    for (int64_t first = 0; first < n_panels(x.cols); first += making.n_panels) {
        making.first_panel = first;
        making.n_panels = slice_panels(x.cols, first);
        SQ_TRY(make_slice(&making, comm, root));
    }
    return SQ_OK;
}
