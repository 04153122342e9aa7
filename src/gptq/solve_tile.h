/* One tile of rows in work: where its arrays stand in the worker's scratch, and the products that all solvers need. */
#ifndef SQ_GPTQ_SOLVE_TILE_H
#define SQ_GPTQ_SOLVE_TILE_H

#include "gptq/solve.h"

/* Columns of a block of GPTQ, and at least of a block of a quadratic form. */
#define SQ_SOLVE_BLOCK 128

struct sq_tile {
    struct sq_backend *backend;
    const struct sq_factor *factor;
    const struct sq_solve_options *options;
    int64_t n, groups, rows;
    int64_t lanes; /* ROWS of the arrays below: backend->sizes.solve_rows */
    int64_t reach; /* columns that one product from outside serves: sizes.solve_columns */
    int64_t width; /* columns that each of the four parts has room for */
    /* [n, ROWS], plain order unless said otherwise */
    float *weights;
    float *errors;          /* w - q; processing order while GPTQ runs */
    float *weight_products; /* w H inside each span of refinement; NULL: there is none */
    uint8_t *codes, *old_codes;
    /* [groups, ROWS] */
    struct sq_tile_scales scales;
    float *old_scale;
    float *parts[4]; /* [width, ROWS] */
    float *centred;  /* [SQ_SOLVE_COLUMNS, ROWS] */
    /* [ROWS] */
    double *error, *error_rtn, *norm, *before;
    double *loss;     /* what GPTQ adds e H e' to; NULL: not wanted */
    int64_t n_rounds; /* of refinement, made so far */
    /* by rows, as in sq_solve_result */
    uint8_t *row_codes, *row_zeros;
    float *row_scales;
    double *row_figures; /* [3, ROWS]: error, error_rtn, norm */
};

/* The next `count` elements of scratch, a multiple of SQ_ALIGNMENT from its start, as *used is moved behind them; NULL
 * without scratch. */
void *sq_scratch_take(char *scratch, size_t *used, int64_t count, size_t size);

/* Lays the arrays of a tile of these sizes out in scratch (NULL: only counts); returns the bytes. */
size_t sq_tile_layout(const struct sq_sizes *sizes, const struct sq_solve_options *options, int64_t n, char *scratch,
                      struct sq_tile *tile_p);

/* An array [columns, ROWS] from column j on. */
static inline float *sq_tile_columns(const struct sq_tile *tile, float *array, int64_t j)
{
    return array + j * tile->lanes;
}

/* out [a.rows, ROWS] = a x (accumulate: out += a x), x f32 [a.cols, ROWS]; zero when a has no columns. */
enum sq_status sq_tile_product(const struct sq_tile *tile, struct sq_matrix a, float *x, bool accumulate,
                               float *out) SQ_MUST_CHECK;

/* Columns that refinement takes at once. */
struct sq_tile_span {
    int64_t columns;
    bool is_group; /* a whole one; else a part of a group that is too wide */
};

/* The span that begins at column j. */
struct sq_tile_span sq_tile_span_at(const struct sq_tile *tile, int64_t j);

/* The end of the whole spans from column j on that one product from outside serves. */
int64_t sq_tile_spans_end(const struct sq_tile *tile, int64_t j);

/* sums[row] = x H x' by rows, x [n, ROWS] in plain order: sum over blocks b of x_b (2 H_b,<b x_<b + H_bb x_b), to be
 * reported. With own_products [n, ROWS] the blocks are the spans, and the H_bb x_b are left there; NULL: not wanted. */
enum sq_status sq_tile_form(const struct sq_tile *tile, float *x, float *own_products, double *sums) SQ_MUST_CHECK;

/* The grids of all groups from the original weights; a search weighs errors by importance [n] (NULL: all alike). */
enum sq_status sq_tile_find_scales(struct sq_tile *tile, const float *importance) SQ_MUST_CHECK;

/* The rule for a scale that the options' kind of grid asks for. */
enum sq_scale_rule sq_tile_scale_rule(const struct sq_tile *tile);

/* errors = w - q for all columns in plain order. */
enum sq_status sq_tile_residual(struct sq_tile *tile) SQ_MUST_CHECK;

/* The solvers: each fills codes and scales. What errors holds afterwards is not defined. */
enum sq_status sq_tile_rtn(struct sq_tile *tile) SQ_MUST_CHECK;
enum sq_status sq_tile_gptq(struct sq_tile *tile) SQ_MUST_CHECK;
enum sq_status sq_tile_obq(struct sq_tile *tile) SQ_MUST_CHECK;

/* The best scales, as stored, for the codes as they are, of groups wider than SQ_SOLVE_COLUMNS in turn; errors hold w -
 * q before and after. Overwrites parts, before and error. *gained_p: what it took off the sum of e H e' over rows. */
enum sq_status sq_tile_refit_wide(struct sq_tile *tile, double *gained_p) SQ_MUST_CHECK;

/* Bytes of host memory that sq_tile_obq() takes while it runs on a tile of `lanes` rows. */
size_t sq_obq_bytes(int64_t n, int64_t groups, int64_t lanes);

/* Refines codes and scales in up to options->refine rounds; errors hold w - q before and after. Fills error. */
enum sq_status sq_tile_refine(struct sq_tile *tile) SQ_MUST_CHECK;

#endif
