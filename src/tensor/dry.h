/* A backend that computes nothing: it knows how long each operation would take on a machine with given rates, and keeps
 * a clock. What runs on it takes the steps that it would take on a real one, on memory that is never touched: results
 * are whatever was there, downloads give zeros. This is how a plan goes through the stages of a run. */
#ifndef SQ_TENSOR_DRY_H
#define SQ_TENSOR_DRY_H

#include "tensor/traits.h"

/* Work by what decides its speed, and the unit that it is counted in. */
enum sq_work {
    SQ_WORK_BF16,      /* products of the forward pass in bf16; operations (a multiplication and an addition are two) */
    SQ_WORK_F32,       /* the same in f32 */
    SQ_WORK_ATTENTION, /* both products over the positions that are seen; operations */
    SQ_WORK_GRAM_BF16, /* X'X from bf16; operations on the lower triangle */
    SQ_WORK_GRAM_F32,
    SQ_WORK_FACTOR,   /* tiles of the factorization; operations */
    SQ_WORK_TILE,     /* products with a tile of the solver; operations */
    SQ_WORK_DESCENT,  /* refinement inside a group; operations: 4 columns^2 a row */
    SQ_WORK_SEARCH,   /* weights whose scales are searched for */
    SQ_WORK_QUANTIZE, /* weights that become codes in a block of GPTQ */
    SQ_WORK_CELLS,    /* other passes over a tile of the solver; weights */
    SQ_WORK_MATH,     /* norms, rotations, activation functions; elements */
    SQ_WORK_TURN,     /* elements that are packed, mirrored or permuted */
    SQ_WORK_STREAM,   /* plain passes over memory; bytes read and written */
    SQ_WORK_COPY,     /* bytes between host and device */
    SQ_WORK_READ,     /* weights read from a file that the system has in memory, to f32; by no operation */
    SQ_WORK_PACK,     /* weights whose codes are packed and checksummed for a file, by one thread; by no operation */
    SQ_N_WORK
};

/* "bf16_product", ...: as machine descriptions call them. */
const char *sq_work_name(enum sq_work work);

/* Speed of one worker while all of them are busy; of a device: of all workers together. A piece of size s is done at
 * per_second * s / (s + half). The size is the smallest edge of a product, the head size of attention, the columns of a
 * descent; other work has no size. */
struct sq_rate {
    double per_second, half;
};

struct sq_rates {
    struct sq_rate of[SQ_N_WORK];
    double operation_seconds; /* that starting an operation takes its worker */
    double parallel_seconds;  /* that starting the workers and waiting for them takes */
};

/* As sq_backend's bf16_is_faster, by the rates alone. Half sizes are left out: they hardly differ. */
static inline bool sq_rates_bf16_is_faster(const struct sq_rates *rates)
{
    return rates->of[SQ_WORK_BF16].per_second > rates->of[SQ_WORK_F32].per_second;
}

/* Owned by the caller, destroyed with backend->ops->destroy(backend). rates stay the caller's. n_workers 0: the kind's
 * default. Local. */
enum sq_status sq_backend_create_dry(const struct sq_backend_traits *traits, int n_workers,
                                     const struct sq_rates *rates, struct sq_backend **backend_p) SQ_MUST_CHECK;

/* Spends time on work that is no operation. */
enum sq_status sq_dry_do(struct sq_backend *backend, enum sq_work work, double amount, int64_t size);

/* What operations outside of items took since the clock was last looked at, as one item may spend it again. */
struct sq_dry_span {
    double starting, working; /* seconds */
    double work[SQ_N_WORK];
};

/* Runs fn, takes its time off the clock again and gives it as a span. fn runs nothing in parallel. */
enum sq_status sq_dry_measure(struct sq_backend *backend, enum sq_status (*fn)(void *context), void *context,
                              struct sq_dry_span *span_p) SQ_MUST_CHECK;
void sq_dry_spend(struct sq_backend *backend, const struct sq_dry_span *span);

/* Runs fn as somebody else would meanwhile: its time and work are not this backend's. */
enum sq_status sq_dry_elsewhere(struct sq_backend *backend, enum sq_status (*fn)(void *context), void *context,
                                double *seconds_p) SQ_MUST_CHECK;

/* Time goes by without work. */
void sq_dry_wait(struct sq_backend *backend, double seconds);

/* What its clock shows, in seconds since it was made, and the work done by then, of all workers together [SQ_N_WORK].
 */
double sq_dry_seconds(const struct sq_backend *backend);
const double *sq_dry_work(const struct sq_backend *backend);

#endif
