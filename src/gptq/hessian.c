#include <math.h>

#include "base/log.h"
#include "gptq/hessian_private.h"
#include "mpi/comm_memory.h"

/* Smaller norms count as this: their squares may be lost in f32, and with them the norms themselves. The scales stay
 * inside f32. */
#define EXPONENT_MIN (-60)
#define SQUARES_MAX 0x1p127 /* of a column: its products stay inside f32, however they are added */
_Static_assert(SQ_COMM_SUMS == 2, "each has a half of the sums");

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
    const struct sq_making *making = context;
    double *squares = making->workspace->squares + (int64_t)worker * making->workspace->n_max;
    int64_t *exponents = making->workspace->exponents + (int64_t)worker * making->workspace->n_max;
    struct sq_matrix x = sq_making_shard(making, making->inputs->shards->mine.first + index);
    if (x.rows == 0) return SQ_OK; /* there may be no memory where it would be */
    SQ_TRY(making->backend->ops->column_squares(making->backend, x, squares));
    for (int64_t j = 0; j < making->inputs->x.cols; j++) {
        if (!(squares[j] <= SQUARES_MAX)) return SQ_ERR_NUMERIC; /* nor a NaN */
        int64_t e = exponent_of(squares[j]);
        if (e > exponents[j]) exponents[j] = e;
    }
    return SQ_OK;
}

/* Exponents of the columns over this rank's shards, into the first row of exponents. */
static enum sq_status local_exponents(struct sq_making *making)
{
    struct sq_hessian_workspace *w = making->workspace;
    for (int64_t j = 0; j < w->n_max * w->n_workers; j++)
        w->exponents[j] = EXPONENT_MIN;
    SQ_TRY(
        making->backend->ops->parallel(making->backend, making->inputs->shards->mine.count, shard_exponents, making));
    for (int k = 1; k < w->n_workers; k++)
        for (int64_t j = 0; j < making->inputs->x.cols; j++) {
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

/* The power of four that brings the largest entry of the Hessian near 1: what is made of it, errors above all, is far
 * from the ends of f32, however small the inputs are. */
static int unit_exponent(const struct sq_making *making)
{
    int64_t largest = EXPONENT_MIN;
    for (int64_t j = 0; j < making->inputs->x.cols; j++)
        if (making->workspace->exponents[j] > largest) largest = making->workspace->exponents[j];
    return (int)largest + ilogb(making->to_mean) / 2;
}

/* Fixed point: an entry scaled into [-1, 1] is multiplied by 2^(62 - headroom), half of it on either side. */
static enum sq_status make_scales(struct sq_making *making)
{
    struct sq_hessian_workspace *w = making->workspace;
    int64_t n = making->inputs->x.cols;
    int steps = 62 - shard_headroom(making->inputs->shards->n_shards);
    int half = steps / 2, unit = unit_exponent(making);
    double *up = (double *)(void *)w->scales, *mean = up + w->n_max;
    float *down = (float *)(mean + w->n_max);
    for (int64_t j = 0; j < n; j++) {
        int e = (int)w->exponents[j];
        down[j] = ldexpf(1.0f, half - e);
        up[j] = ldexp(1.0, e - half);
        mean[j] = up[j] * ldexp(making->to_mean, -2 * unit);
    }
    return making->backend->ops->upload(making->backend, w->scales, 20 * (size_t)w->n_max, w->scale_up);
}

/* --- slices ------------------------------------------------------------------------------------------------------- */

static bool is_dry(const struct sq_making *making)
{
    return making->comm->size > 1 && sq_comm_is_dry(making->comm);
}

/* Sums follow each other on links. */
static void clock_sum(struct sq_making *making, size_t bytes, struct sq_slice *slice)
{
    enum sq_traffic_kind kind = making->root < 0 ? SQ_TRAFFIC_SUM : SQ_TRAFFIC_REDUCE;
    slice->on_links = sq_links_clock_seconds(&making->clock, kind, bytes);
    making->links_free = fmax(sq_links_clock_now(&making->clock), making->links_free) + slice->on_links;
    slice->there = making->links_free;
}

/* Its products; then its sum over ranks is on its way. No rank starts that when one of them has failed. */
static enum sq_status begin_slice(struct sq_making *making, struct sq_slice *slice)
{
    struct sq_panel first = sq_panels_at(&making->panels, slice->first_panel);
    struct sq_panel last = sq_panels_at(&making->panels, slice->first_panel + slice->n_panels - 1);
    int64_t count = last.offset + last.rows * last.columns - first.offset;
    making->slice = slice;
    SQ_TRY(sq_comm_agree(making->comm, sq_slice_sum(making)));
    if (is_dry(making)) clock_sum(making, (size_t)count * sizeof(int64_t), slice);
    return sq_comm_memory_start_sum_i64(making->comm, making->backend, slice->lane, making->root,
                                        sq_slice_memory(making), count);
}

/* Its sum over ranks is there, and becomes rows of the Hessian unless something has failed; nothing happens for none.
 */
static enum sq_status end_slice(struct sq_making *making, struct sq_slice *slice, enum sq_status status)
{
    if (slice->n_panels == 0) return status;
    making->slice = slice;
    enum sq_status summed = sq_comm_memory_finish_sum(making->comm, slice->lane);
    if (is_dry(making)) sq_links_clock_wait(&making->clock, slice->there, slice->on_links);
    if (status == SQ_OK) status = summed;
    if (status == SQ_OK && (making->root < 0 || making->comm->rank == making->root)) status = sq_slice_get(making);
    slice->n_panels = 0;
    return sq_comm_agree(making->comm, status);
}

/* A slice ends before another one takes its lane, and all that were begun end. */
static enum sq_status make_slices(struct sq_making *making)
{
    struct sq_slice slices[SQ_COMM_SUMS] = {{0}};
    enum sq_status status = SQ_OK;
    int lane = 0;
    for (int64_t first = 0; first < sq_panels_count(&making->panels) && status == SQ_OK;) {
        int64_t n_panels = sq_panels_slice(&making->panels, first);
        status = end_slice(making, &slices[lane], status);
        if (status != SQ_OK) break;
        slices[lane] = (struct sq_slice){.first_panel = first, .n_panels = n_panels, .lane = lane};
        status = begin_slice(making, &slices[lane]);
        first += n_panels;
        lane = (lane + 1) % making->n_lanes;
    }
    for (int i = 0; i < making->n_lanes; i++)
        status = end_slice(making, &slices[(lane + i) % making->n_lanes], status);
    return status;
}

enum sq_status sq_hessian_say(const struct sq_comm *comm, const char *layer, enum sq_status status)
{
    bool any = false, is_lowest = false;
    if (status != SQ_ERR_NUMERIC) return status;
    SQ_TRY(sq_comm_lowest(comm, layer != NULL, &any, &is_lowest));
    if (is_lowest) sq_error("the inputs of %s are too large: their Hessian is not finite", layer);
    return status;
}

enum sq_status sq_hessian_make(struct sq_backend *backend, const struct sq_comm *comm, int root, const char *layer,
                               const struct sq_hessian_inputs *inputs, struct sq_hessian_workspace *workspace,
                               struct sq_matrix hessian)
{
    struct sq_making making = {.backend = backend,
                               .comm = comm,
                               .root = root,
                               .inputs = inputs,
                               .clock = {.backend = backend, .comm = comm},
                               .n_lanes = 1,
                               .panels = sq_panels_make(&backend->sizes, inputs->x.cols, &workspace->rooms),
                               .held = {-1, -1},
                               .workspace = workspace,
                               .hessian = hessian,
                               .to_mean = 2.0 / ((double)inputs->shards->n_samples * (double)inputs->length)};
    SQ_TRY(sq_hessian_say(comm, layer, sq_comm_agree(comm, local_exponents(&making))));
    SQ_TRY(sq_comm_max_i64(comm, workspace->exponents, inputs->x.cols));
    SQ_TRY(sq_comm_agree(comm, make_scales(&making)));
    /* inputs on the host come in once for each slice, of which there are not to be more */
    if (sq_comm_memory_sum_is_beside(comm, backend) && !inputs->on_host && sq_panels_halve(&making.panels))
        making.n_lanes = SQ_COMM_SUMS;
    return make_slices(&making);
}
