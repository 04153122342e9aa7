/* Launchers of the device kernels: each puts its kernels on the stream and returns what the runtime says of them. What
 * they compute is said in tensor/backend.h and tensor/solve_ops.h; all pointers are the device's. */
#ifndef SQ_CUDA_KERNELS_H
#define SQ_CUDA_KERNELS_H

#ifdef __cplusplus
extern "C" {
#endif

#include <cuda_runtime_api.h>

#include "tensor/solve_ops.h"

/* built.cu: the lowest compute capability that the kernels were compiled for, times 10: 80 */
int sq_kernels_lowest_capability(void);

/* elementwise.cu */
cudaError_t sq_kernel_convert(cudaStream_t stream, struct sq_matrix x, struct sq_matrix y);
/* x F32 as the sum of three numbers in BF16: 0: x rounded; 1, 2: what is then left, rounded. Copies of them: copy i of
 * number which[i] is at y + i * step, y BF16 of x's shape. */
#define SQ_SPLIT_COPIES 6
struct sq_split {
    uint8_t which[SQ_SPLIT_COPIES];
    int64_t step; /* elements */
};
cudaError_t sq_kernel_split(cudaStream_t stream, struct sq_split split, struct sq_matrix x, struct sq_matrix y);
cudaError_t sq_kernel_copy_parts(cudaStream_t stream, int64_t count, int64_t width, struct sq_matrix x, int64_t x_step,
                                 struct sq_matrix y, int64_t y_step);
cudaError_t sq_kernel_add(cudaStream_t stream, struct sq_matrix x, struct sq_matrix y);
/* y = x + bias by columns; x F32, y F32 or BF16; y may be x */
cudaError_t sq_kernel_add_bias(cudaStream_t stream, struct sq_matrix x, const float *bias, struct sq_matrix y);
cudaError_t sq_kernel_activate(cudaStream_t stream, enum sq_activation kind, struct sq_matrix x, struct sq_matrix gate,
                               struct sq_matrix y);
cudaError_t sq_kernel_rope(cudaStream_t stream, enum sq_rope_pairs pairs, struct sq_matrix x, int64_t head_dim,
                           int64_t n_frequencies, const float *cosine, const float *sine);
cudaError_t sq_kernel_rescale(cudaStream_t stream, float scale, float cap, struct sq_matrix z);
cudaError_t sq_kernel_take_rows(cudaStream_t stream, struct sq_matrix table, int64_t first, const int32_t *ids,
                                struct sq_matrix out);
cudaError_t sq_kernel_pick(cudaStream_t stream, struct sq_matrix z, int64_t first, const int32_t *ids, float *out);

/* finite.cu: bad[0] > 0 where an element is NaN or infinite; the rest of bad [1 + SQ_FIND_BAD_BLOCKS] is scratch */
#define SQ_FIND_BAD_BLOCKS 1024
cudaError_t sq_kernel_find_bad(cudaStream_t stream, struct sq_matrix x, int *bad);

/* norm.cu, softmax.cu */
cudaError_t sq_kernel_norm(cudaStream_t stream, enum sq_norm_kind kind, struct sq_matrix x, const float *weight,
                           const float *bias, float epsilon, struct sq_matrix y);
cudaError_t sq_kernel_softmax_fold(cudaStream_t stream, struct sq_matrix z, struct sq_matrix other, int64_t first,
                                   struct sq_softmax *state);

/* experts.cu */
cudaError_t sq_kernel_route(cudaStream_t stream, const struct sq_routing *routing, struct sq_matrix scores,
                            struct sq_matrix chosen, struct sq_matrix weights);
cudaError_t sq_kernel_gather_rows(cudaStream_t stream, struct sq_matrix x, const int32_t *ids, struct sq_matrix y);
cudaError_t sq_kernel_add_rows(cudaStream_t stream, struct sq_matrix x, const int32_t *ids, const float *weights,
                               struct sq_matrix y);
cudaError_t sq_kernel_gate_rows(cudaStream_t stream, struct sq_matrix x, const float *w, struct sq_matrix y);

/* attention.cu: a tile of scores of all heads at once */
struct sq_score_tile {
    float *scores;                    /* [heads, queries, keys] */
    void *weights;                    /* out, likewise, of the values' type; where that is F32 it is scores */
    float *sums;                      /* [heads, queries, value_dim] sum of weight * value so far */
    float *largest, *total;           /* [heads, queries] largest score so far, and the sum of weights */
    int64_t heads, queries, keys;     /* of the tile */
    int64_t query_stride, key_stride; /* [heads, query_stride, key_stride]: room for full tiles */
    int64_t first_query, first_key;   /* their positions */
    int64_t window, value_dim;
    float scale, cap;    /* cap > 0: scaled scores become cap tanh(score / cap) */
    const float *slopes; /* [heads]: then slope * (key - query) is added; or NULL */
    const float *sinks;  /* [heads]: a score beside those of the keys; or NULL */
    enum sq_dtype dtype; /* of weights */
};
/* sums = 0; total = 0 and largest = -infinity, or what the sink makes of them */
cudaError_t sq_kernel_attention_start(cudaStream_t stream, const struct sq_score_tile *tile);
/* weights = exp(scale * scores (capped, sloped) - largest) or 0 where the mask is, with largest raised first; sums and
 * total follow it
 */
cudaError_t sq_kernel_attention_weigh(cudaStream_t stream, const struct sq_score_tile *tile);
/* out [queries, heads * value_dim] = sums / total */
cudaError_t sq_kernel_attention_finish(cudaStream_t stream, const struct sq_score_tile *tile, struct sq_matrix out);

/* hessian.cu */
cudaError_t sq_kernel_column_squares(cudaStream_t stream, struct sq_matrix x, double *squares);
cudaError_t sq_kernel_fixed_add(cudaStream_t stream, struct sq_matrix c, const float *row_scale, const float *col_scale,
                                struct sq_matrix sums);
cudaError_t sq_kernel_fixed_get(cudaStream_t stream, struct sq_matrix sums, const double *row_scale,
                                const double *col_scale, struct sq_matrix c);
cudaError_t sq_kernel_mirror(cudaStream_t stream, struct sq_matrix m, int64_t row, int64_t rows);

/* factor.cu */
cudaError_t sq_kernel_clear_upper(cudaStream_t stream, struct sq_matrix a);
cudaError_t sq_kernel_diagonal(cudaStream_t stream, struct sq_matrix m, float *diagonal);
cudaError_t sq_kernel_set_dead(cudaStream_t stream, const uint8_t *dead, struct sq_matrix hessian);
cudaError_t sq_kernel_arrange(cudaStream_t stream, struct sq_matrix hessian, const int32_t *order, float ridge,
                              bool off_diagonal, int64_t row, int64_t rows, struct sq_matrix out);
cudaError_t sq_kernel_unit_form(cudaStream_t stream, const float *pivots, int64_t row, int64_t rows,
                                struct sq_matrix m);

/* tiles.cu; lanes: ROWS of the tiles, a multiple of 32 */
cudaError_t sq_kernel_load(cudaStream_t stream, int64_t lanes, struct sq_matrix weights, const uint8_t *dead,
                           float *tile);
cudaError_t sq_kernel_unload(cudaStream_t stream, int64_t lanes, int64_t rows, int64_t n, int64_t groups,
                             const uint8_t *tile_codes, struct sq_tile_scales scales, uint8_t *codes, float *scales_out,
                             uint8_t *zeros);
cudaError_t sq_kernel_dequantize(cudaStream_t stream, int64_t group_size, const uint8_t *codes, const float *scales,
                                 const uint8_t *zeros, struct sq_matrix weights);
cudaError_t sq_kernel_nearest(cudaStream_t stream, int64_t lanes, int64_t group_size, int max_code, int64_t columns,
                              const float *weights, struct sq_tile_scales scales, uint8_t *codes);
cudaError_t sq_kernel_residual(cudaStream_t stream, int64_t lanes, int64_t group_size, int64_t columns,
                               const float *weights, struct sq_tile_scales scales, const uint8_t *codes, float *errors);
cudaError_t sq_kernel_centre(cudaStream_t stream, int64_t lanes, int64_t columns, const uint8_t *codes,
                             const float *zero, float *centred);
cudaError_t sq_kernel_dot(cudaStream_t stream, int64_t lanes, int64_t columns, const float *x, const float *y,
                          double factor, double *sums);
cudaError_t sq_kernel_keep_better(cudaStream_t stream, int64_t lanes, int64_t n, int64_t groups, const double *before,
                                  const uint8_t *old_codes, const float *old_scale, double *after, uint8_t *codes,
                                  struct sq_tile_scales scales);

/* scales.cu, quantize.cu, descend.cu */
cudaError_t sq_kernel_find_scales(cudaStream_t stream, int64_t lanes, const struct sq_grid *grid,
                                  enum sq_scale_rule rule, int64_t columns, const float *weights,
                                  const float *importance, struct sq_tile_scales scales);
cudaError_t sq_kernel_settle(cudaStream_t stream, int64_t lanes, int64_t columns, const float *unit,
                             int64_t unit_stride, const float *products, const float *weights, float *updated);
cudaError_t sq_kernel_quantize(cudaStream_t stream, int64_t lanes, const struct sq_column_block *block);
cudaError_t sq_kernel_descend(cudaStream_t stream, int64_t lanes, const struct sq_descent *descent);

#ifdef __cplusplus
}
#endif

#endif
