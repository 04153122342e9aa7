/* The CPU backend's own parts; nothing outside src/tensor includes it. */
#ifndef SQ_TENSOR_CPU_PRIVATE_H
#define SQ_TENSOR_CPU_PRIVATE_H

#include "tensor/backend.h"
#include "tensor/kernels/gram.h"
#include "tensor/kernels/kernels.h"
#include "tensor/traits.h"

struct sq_cpu {
    struct sq_backend base; /* first: a sq_backend * of this backend is a sq_cpu * */
    const struct sq_forward_kernels *forward;
    const struct sq_solve_kernels *solve;
    const struct sq_hessian_kernels *hessian;
    const struct sq_gram_kernels *gram;
    const struct sq_attention_kernels *attention;
    struct sq_cpu_gemm *gemm; /* oneDNN engine and primitives (cpu_gemm.c) */
    float *rooms;             /* one of SQ_CPU_ROOM words for each worker */
};

/* What a kernel packs in another form: stays in the caches of a core. */
#define SQ_CPU_ROOM (SQ_GRAM_ROOM_ROWS * SQ_GRAM_ROWS / 2)

/* Of the calling worker. */
float *sq_cpu_room(struct sq_backend *);

/* cpu_gemm.c: products by oneDNN, one thread each */
enum sq_status sq_cpu_gemm_create(int n_workers, struct sq_cpu_gemm **gemm_p) SQ_MUST_CHECK;
void sq_cpu_gemm_destroy(struct sq_cpu_gemm *gemm);
bool sq_cpu_has_bf16(void);
enum sq_status sq_cpu_linear(struct sq_backend *, struct sq_matrix x, struct sq_matrix w, const float *bias,
                             struct sq_matrix y);
enum sq_status sq_cpu_matmul(struct sq_backend *, struct sq_matrix a, struct sq_matrix b, bool accumulate,
                             struct sq_matrix c);
enum sq_status sq_cpu_update(struct sq_backend *, struct sq_matrix a, struct sq_matrix b, struct sq_matrix c);

/* cpu_hessian.c: exact sums, over kernels/hessian.c and kernels/gram.c */
enum sq_status sq_cpu_column_squares(struct sq_backend *, struct sq_matrix x, double *squares);
enum sq_status sq_cpu_gram_pack(struct sq_backend *, struct sq_matrix x, int64_t row, int64_t rows, float *packed);
enum sq_status sq_cpu_gram_add(struct sq_backend *, struct sq_matrix x, const float *packed, int64_t row,
                               const float *scale, struct sq_matrix sums);
enum sq_status sq_cpu_fixed_get(struct sq_backend *, struct sq_matrix sums, const double *row_scale,
                                const double *col_scale, struct sq_matrix c);
enum sq_status sq_cpu_mirror(struct sq_backend *, struct sq_matrix m, int64_t row, int64_t rows);

/* cpu_factor.c: tiles by LAPACK and BLAS */
enum sq_status sq_cpu_potrf(struct sq_backend *, struct sq_matrix a);
enum sq_status sq_cpu_trsm(struct sq_backend *, struct sq_matrix l, struct sq_matrix b);

/* cpu_forward.c: the model's steps, over kernels/forward.c */
enum sq_status sq_cpu_take_rows(struct sq_backend *, struct sq_matrix table, int64_t first, const int32_t *ids,
                                struct sq_matrix out);
enum sq_status sq_cpu_norm(struct sq_backend *, enum sq_norm_kind, struct sq_matrix x, const float *weight,
                           const float *bias, float epsilon, struct sq_matrix y);
enum sq_status sq_cpu_rope(struct sq_backend *, enum sq_rope_pairs, struct sq_matrix x, int64_t head_dim,
                           int64_t n_frequencies, const float *cosine, const float *sine);
enum sq_status sq_cpu_attention(struct sq_backend *, const struct sq_attention *, struct sq_matrix q,
                                struct sq_matrix k, struct sq_matrix v, void *scratch, struct sq_matrix out);
size_t sq_cpu_attention_scratch(struct sq_backend *, const struct sq_attention *, int64_t length);
size_t sq_cpu_attention_scratch_bytes(const struct sq_attention *, int64_t length);
enum sq_status sq_cpu_activate(struct sq_backend *, enum sq_activation, struct sq_matrix x, struct sq_matrix gate,
                               struct sq_matrix y);
enum sq_status sq_cpu_add(struct sq_backend *, struct sq_matrix x, struct sq_matrix y);
enum sq_status sq_cpu_rescale(struct sq_backend *, float scale, float cap, struct sq_matrix z);
enum sq_status sq_cpu_convert(struct sq_backend *, struct sq_matrix x, struct sq_matrix y);
enum sq_status sq_cpu_copy_parts(struct sq_backend *, int64_t count, int64_t width, struct sq_matrix x, int64_t x_step,
                                 struct sq_matrix y, int64_t y_step);
enum sq_status sq_cpu_all_finite(struct sq_backend *, struct sq_matrix x, bool *finite_p);
enum sq_status sq_cpu_softmax_fold(struct sq_backend *, struct sq_matrix z, struct sq_matrix other, int64_t first,
                                   struct sq_softmax *state);
enum sq_status sq_cpu_pick(struct sq_backend *, struct sq_matrix z, int64_t first, const int32_t *ids, float *out);

/* cpu_experts.c: routing, and rows that travel */
enum sq_status sq_cpu_route(struct sq_backend *, const struct sq_routing *, struct sq_matrix scores,
                            struct sq_matrix chosen, struct sq_matrix weights);
enum sq_status sq_cpu_gather_rows(struct sq_backend *, struct sq_matrix x, const int32_t *ids, struct sq_matrix y);
enum sq_status sq_cpu_add_rows(struct sq_backend *, struct sq_matrix x, const int32_t *ids, const float *weights,
                               struct sq_matrix y);
enum sq_status sq_cpu_gate_rows(struct sq_backend *, struct sq_matrix x, const float *w, struct sq_matrix y);

/* cpu_solve.c: the solver's column kernels, over kernels/solve.c */
extern const struct sq_solve_ops sq_cpu_solve_ops;

#endif
