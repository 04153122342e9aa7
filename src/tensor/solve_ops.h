/* The backend's kernels for factor and solve. All arrays are in the backend's memory unless said otherwise.
 *
 * A *tile* is a fixed number ROWS of output rows (backend->sizes.solve_rows), kept column by column: f32 [columns,
 * ROWS], so that the rows, which are independent of each other, lie side by side in vector lanes or threads. Rows
 * beyond the last one are zeros. */
#ifndef SQ_TENSOR_SOLVE_OPS_H
#define SQ_TENSOR_SOLVE_OPS_H

#include "tensor/backend.h"
#include "tensor/grid.h"

/* ROWS of the CPU backend: a few cache lines of lanes. */
#define SQ_SOLVE_ROWS 32

/* Most columns of one call of quantize() and descend(). */
#define SQ_SOLVE_COLUMNS 256

/* How a group's scale comes from its weights. Symmetric: max|w| / (2^(b-1) - 1), 2 max|w| / (2^b - 1), or the best of a
 * search below the latter; asymmetric: (max - min) / (2^b - 1) with 0 inside the range, or the best of a search below.
 */
enum sq_scale_rule { SQ_SCALE_ABSMAX, SQ_SCALE_REFERENCE, SQ_SCALE_SEARCH };

/* The grids of a tile's groups, each [groups, ROWS]. */
struct sq_tile_scales {
    float *scale;   /* values of the stored type */
    float *inverse; /* 1 / scale */
    float *zero;    /* integers */
};

/* A block of columns in processing order, for quantize(). */
struct sq_column_block {
    int64_t columns;
    const int32_t *index; /* [columns] where each column stands in the plain order */
    const float *unit;    /* row j, k < j: M_kj inside the block */
    int64_t unit_stride;
    const float *products; /* [columns, ROWS] sum over the columns before the block of error * M */
    const float *weights;  /* tile, plain order */
    struct sq_tile_scales scales;
    int64_t group_size;
    int max_code;
    float *errors;  /* [columns, ROWS] out: w - q in processing order */
    uint8_t *codes; /* [n, ROWS] out, plain order */
    /* GPTQ's loss, NULL: not wanted. To loss [ROWS] is added the sum over columns of variance (x - q)^2 - ridge (w -
     * q)^2, x the weight as updated; f32 over the block, then f64. */
    double *loss;
    const float *variance; /* [n] plain order: R_jj^2 */
    float ridge;
};

/* Columns of one group, for descend(). G = e H of a column is the sum of what comes from the columns before the span,
 * from the span itself and from those after it. left, own and right are overwritten. */
struct sq_descent {
    int64_t columns;
    const float *hessian; /* the span's own block of H, undamped */
    int64_t hessian_stride;
    float *left, *own, *right;    /* [columns, ROWS] parts of e H */
    const float *weights;         /* [columns, ROWS] */
    const float *weight_products; /* [columns, ROWS] weights H inside the span; only with refit_scale */
    float *centred;               /* [columns, ROWS] code - zero, updated */
    float *errors;                /* [columns, ROWS] w - q, updated */
    uint8_t *codes;               /* [columns, ROWS] updated */
    float *scale, *inverse;       /* [ROWS] updated with refit_scale */
    const float *zero;            /* [ROWS] */
    int max_code;
    enum sq_dtype scale_dtype;
    bool refit_scale;       /* the span is a whole group */
    double *before, *after; /* [ROWS] the span's share of e H e' is added */
};

struct sq_solve_ops {
    /* --- factor -------------------------------------------------------------------------------------------------- */
    /* diagonal[i] = m[i, i] into host memory, f32 [n]. */
    enum sq_status (*diagonal)(struct sq_backend *backend, struct sq_matrix m, float *diagonal);
    /* Rows and columns with dead[i] != 0 become those of the unit matrix. */
    enum sq_status (*set_dead)(struct sq_backend *backend, const uint8_t *dead, struct sq_matrix hessian);
    /* Rows [row, row + rows) of the lower triangle of the permuted, index-reversed, damped Hessian:
     * out[r, c] = hessian[order[n-1-r], order[n-1-c]] + (r == c ? ridge : 0); without off_diagonal the rest is zero. */
    enum sq_status (*arrange)(struct sq_backend *backend, struct sq_matrix hessian, const int32_t *order, float ridge,
                              bool off_diagonal, int64_t row, int64_t rows, struct sq_matrix out);
    /* From the Cholesky factor L of arrange()'s matrix to unit[j, i] = M_ij = L[n-1-i, n-1-j] / pivots[n-1-j], i <= j,
     * in place; pivots: L's diagonal. Mirrors across the anti-diagonal: call for strips of rows that cover [0, n). */
    enum sq_status (*unit_form)(struct sq_backend *backend, const float *pivots, int64_t row, int64_t rows,
                                struct sq_matrix m);

    /* --- tiles: into and out of them ----------------------------------------------------------------------------- */
    /* tile [n, ROWS] = weights' (f32 [rows, n]), zero where dead[column]. */
    enum sq_status (*load)(struct sq_backend *backend, struct sq_matrix weights, const uint8_t *dead, float *tile);
    /* codes u8 [rows, n], scales f32 [rows, groups], zeros u8 [rows, groups] from tiles. */
    enum sq_status (*unload)(struct sq_backend *backend, int64_t rows, int64_t n, int64_t groups,
                             const uint8_t *tile_codes, struct sq_tile_scales scales, uint8_t *codes, float *scales_out,
                             uint8_t *zeros);

    /* The weights of codes u8 [rows, n], scales f32 [rows, groups], zeros u8 [rows, groups]: F32 [rows, n], dense. */
    enum sq_status (*dequantize)(struct sq_backend *backend, const struct sq_grid *grid, const uint8_t *codes,
                                 const float *scales, const uint8_t *zeros, struct sq_matrix weights);

    /* --- tiles: grids and codes ---------------------------------------------------------------------------------- */
    /* Grids of the groups of weights [columns, ROWS], from its first column on. SQ_SCALE_SEARCH minimises
     * sum importance_j (w_j - q_j)^2 over scales; importance f32 [columns], NULL: all alike. */
    enum sq_status (*find_scales)(struct sq_backend *backend, const struct sq_grid *grid, enum sq_scale_rule rule,
                                  int64_t columns, const float *weights, const float *importance,
                                  struct sq_tile_scales scales);
    /* The weights of a group when its first column is reached: updated = weights + y, the best values of these columns
     * for the errors so far, y_j = products_j - sum_{k<j} y_k M_kj; all [columns, ROWS], unit as in sq_column_block. */
    enum sq_status (*settle)(struct sq_backend *backend, int64_t columns, const float *unit, int64_t unit_stride,
                             const float *products, const float *weights, float *updated);
    /* For j in turn: codes_j = grid(w_j + products_j + sum_{k<j} errors_k M_kj), errors_j = w_j - q_j. */
    enum sq_status (*quantize)(struct sq_backend *backend, const struct sq_column_block *block);
    /* Plain rounding: the nearest codes. */
    enum sq_status (*nearest)(struct sq_backend *backend, const struct sq_grid *grid, int64_t columns,
                              const float *weights, struct sq_tile_scales scales, uint8_t *codes);
    /* errors = w - scale * (code - zero); plain order. */
    enum sq_status (*residual)(struct sq_backend *backend, const struct sq_grid *grid, int64_t columns,
                               const float *weights, struct sq_tile_scales scales, const uint8_t *codes, float *errors);

    /* --- tiles: refinement --------------------------------------------------------------------------------------- */
    /* centred = code - zero for columns of one group. */
    enum sq_status (*centre)(struct sq_backend *backend, int64_t columns, const uint8_t *codes, const float *zero,
                             float *centred);
    /* sums[row] += factor * sum_j x[j, row] * y[j, row]; f32 over at most SQ_SOLVE_COLUMNS columns, then f64. */
    enum sq_status (*dot)(struct sq_backend *backend, int64_t columns, const float *x, const float *y, double factor,
                          double *sums);
    /* Twice: the best scale for the codes, then one pass of coordinate descent over the codes. */
    enum sq_status (*descend)(struct sq_backend *backend, const struct sq_descent *descent);
    /* Rows whose figure `after` is not below `before` get old_codes and old_scale back, and after = before. */
    enum sq_status (*keep_better)(struct sq_backend *backend, int64_t n, int64_t groups, const double *before,
                                  const uint8_t *old_codes, const float *old_scale, double *after, uint8_t *codes,
                                  struct sq_tile_scales scales);
};

#endif
