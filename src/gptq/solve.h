/* Quantizing a tile of rows of one linear layer, given the Hessian's factor. Rows are independent of each other. */
#ifndef SQ_GPTQ_SOLVE_H
#define SQ_GPTQ_SOLVE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "config/config.h"
#include "tensor/backend.h"
#include "tensor/grid.h"
#include "tensor/solve_ops.h"

/* What a group of linears with one input shares. H f32 [n, n] full and symmetric, *damped* is not applied to it.
 * Filled by sq_factor_make(). */
struct sq_factor {
    int64_t n;
    struct sq_matrix hessian; /* [n, n] f32, plain column order, dead inputs have H_jj = 1 and zeros elsewhere */
    struct sq_matrix unit;    /* M' [n, n] f32, unit lower triangular, in processing order (H = R R', M_ij = R_ij/R_jj);
                                 what stands above the diagonal means nothing */
    struct sq_matrix diagonal; /* R_jj^2 [1, n] f32 in plain order: each column's conditional variance */
    int32_t *order;            /* [n] host: order[p] = column processed p-th */
    uint8_t *dead;             /* [n] host: 1 where the input was always zero; its codes become the zero point */
    void *backend_order, *backend_dead; /* the same two in the backend's memory */
    int64_t spread_from;                /* inputs from which on ranks share the factorization */
    void *panel;                        /* of the factorization, on its way to other ranks; NULL: never shared */
    int64_t n_dead;
    double damping;      /* what was used in the end: lambda of the ladder */
    double ridge;        /* lambda * mean(diag H): what was added to the diagonal */
    double min_diagonal; /* the smallest H_jj of the live inputs, undamped; 1 when all are dead */
    int n_rungs;         /* how often lambda had to be raised */
    bool diagonal_only;  /* last rung: off-diagonal terms dropped */
};

/* Settings of the solve that are the same for all tiles of a layer. */
struct sq_solve_options {
    enum sq_solver solver;
    enum sq_grid_kind grid_kind;
    enum sq_order order;
    bool static_groups; /* always true with SQ_ORDER_ACTIVATION */
    int refine;         /* most rounds of refinement; plain rounding is never refined */
    struct sq_grid grid;
};

/* What one tile gives. All arrays are the caller's, memory of alloc_host. */
struct sq_solve_result {
    uint8_t *codes;    /* [rows, n] plain column order */
    float *scales;     /* [rows, groups], values representable in grid.scale_dtype */
    uint8_t *zeros;    /* [rows, groups] */
    double *error;     /* [rows] (w - q) H (w - q)', undamped H */
    double *error_rtn; /* [rows] same for plain rounding on the same kind of grid, found without the Hessian */
    double *norm;      /* [rows] w H w' */
    int64_t *n_rounds; /* [1] rounds of refinement that were made; may be NULL */
};

/* Bytes of scratch that one worker needs for sq_solve_tile(). */
size_t sq_solve_scratch_bytes(const struct sq_sizes *sizes, const struct sq_solve_options *options, int64_t n);

/* Bytes of host memory that sq_solve_tile() takes by itself while it runs: only solver obq does. */
size_t sq_solve_host_bytes(const struct sq_sizes *sizes, const struct sq_solve_options *options, int64_t n);

/* Quantizes at most sizes.solve_rows rows; weights f32 [rows, n] in backend memory (destroyed). scratch: this worker's,
 * in the backend's memory, at a multiple of SQ_ALIGNMENT of what was allocated. One worker. Inside of parallel() the
 * result is there when that has returned; until settle() scratch may only go to a tile of the same n and group size.
 * SQ_ERR_NUMERIC with a message when weights hold a NaN or infinity. */
enum sq_status sq_solve_tile(struct sq_backend *backend, const struct sq_factor *factor,
                             const struct sq_solve_options *options, struct sq_matrix weights, void *scratch,
                             struct sq_solve_result *result) SQ_MUST_CHECK;

#endif
