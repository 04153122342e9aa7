/* The CUDA backend's own parts; nothing outside cuda/ includes it.
 *
 * A worker is an OpenMP thread of this process with a stream and library handles of its own: items of parallel() read
 * files and wait for results, which one thread for all streams would do one after another. Outside of parallel()
 * everything runs on worker 0. An operation puts its work on its worker's stream and returns; those that give the host
 * a value wait for that stream. parallel() begins when worker 0's stream is done, and ends when all workers' streams
 * are.
 *
 * Copies beside the work (beside.c) have streams of their own, for which events stand in the order:
 *
 *      in    send lane 0 | sent[0]  send lane 1 | sent[1]                    out   after ready: fetch | fetched
 *      work                receive(): after both | ...                       work  ready | ... settle(): after fetched
 */
#ifndef SQ_CUDA_PRIVATE_H
#define SQ_CUDA_PRIVATE_H

#include <stddef.h>
#include <stdint.h>

#include "base/trace.h"
#include "cuda/check.h"
#include "cuda/cuda_backend.h"
#include "tensor/cuda_traits.h"
#include "tensor/solve_ops.h"

/* When a stream did what it was given since the last look, for the trace (timeline.c). */
#define SQ_CUDA_TIMED 64
struct sq_cuda_timer {
    cudaEvent_t begin[SQ_CUDA_TIMED], end[SQ_CUDA_TIMED]; /* made when they are needed first */
    int64_t bytes[SQ_CUDA_TIMED];
    int count;
};

struct sq_cuda_worker {
    cudaStream_t stream;
    cudaStream_t out;           /* for downloads that go on beside the work */
    cudaEvent_t ready, fetched; /* what they take is there; they are done */
    cublasHandle_t blas;
    cusolverDnHandle_t solver;
    void *workspace; /* of cuBLAS: one per stream, or its results would depend on what else runs */
    void *room;      /* [SQ_CUDA_ROOM] */
    int *flag;       /* pinned host memory: one number from the device */
    struct sq_cuda_timer timer, out_timer;
};

struct sq_cuda {
    struct sq_backend base; /* first: a sq_backend * of this backend is a sq_cuda * */
    int device;
    char isa[24];                   /* "sm_90x132": what it is, and its multiprocessors */
    bool is_split;                  /* matmul_split goes by way of BF16 */
    struct sq_cuda_worker *workers; /* [n_made] */
    int n_made;
    cudaStream_t in;            /* for uploads that go on beside the work */
    cudaEvent_t sent[SQ_LANES]; /* they are done */
    bool is_parallel;           /* inside of parallel() */
    struct sq_cuda_timer in_timer;
    struct sq_cuda_timer nccl_timer;                               /* collectives that are waited for */
    struct sq_cuda_timer sum_timer, gather_timer, broadcast_timer; /* those beside the work */
    cudaEvent_t origin;                                            /* from which times are counted; NULL: none yet */
    double origin_seconds;
};

/* The worker whose item this thread has in hand (cuda_backend.c). */
struct sq_cuda_worker *sq_cuda_worker(struct sq_backend *backend);

/* Waits for the worker's stream and for its downloads, also when one of them has failed. */
enum sq_status sq_cuda_wait_all(const struct sq_cuda_worker *worker, const char *what) SQ_MUST_CHECK;

/* Waits for the worker's stream. */
enum sq_status sq_cuda_wait(const struct sq_cuda_worker *worker, const char *what) SQ_MUST_CHECK;

/* *value_p: a number in device memory, when the stream has come to it. */
enum sq_status sq_cuda_fetch(const struct sq_cuda_worker *worker, const int *memory, int *value_p) SQ_MUST_CHECK;

/* devices.c: a device's compute capability times 10 (90); 0: not known */
int sq_cuda_capability(int device);

/* worker.c */
enum sq_status sq_cuda_worker_create(struct sq_cuda_worker *worker) SQ_MUST_CHECK;
void sq_cuda_worker_destroy(struct sq_cuda_worker *worker);

/* memory.c */
enum sq_status sq_cuda_alloc(struct sq_backend *, const char *what, size_t bytes, void **memory_p);
void sq_cuda_free(struct sq_backend *, void *memory);
enum sq_status sq_cuda_upload(struct sq_backend *, const void *host, size_t bytes, void *memory);
enum sq_status sq_cuda_download(struct sq_backend *, const void *memory, size_t bytes, void *host);
enum sq_status sq_cuda_alloc_host(struct sq_backend *, const char *what, size_t bytes, void **memory_p);
void sq_cuda_free_host(struct sq_backend *, void *memory);
enum sq_status sq_cuda_copy(struct sq_backend *, const void *source, size_t bytes, void *target);
enum sq_status sq_cuda_clear(struct sq_backend *, void *memory, size_t bytes);

/* beside.c: copies beside the work; a stream that waits for no other, an event without a time */
enum sq_status sq_cuda_stream_create(cudaStream_t *stream_p) SQ_MUST_CHECK;
enum sq_status sq_cuda_event_create(cudaEvent_t *event_p) SQ_MUST_CHECK;
enum sq_status sq_cuda_beside_create(struct sq_cuda *cuda) SQ_MUST_CHECK;
void sq_cuda_beside_destroy(struct sq_cuda *cuda);
enum sq_status sq_cuda_fetch_out(struct sq_backend *, const void *memory, size_t bytes, void *host);
enum sq_status sq_cuda_settle(struct sq_backend *);
enum sq_status sq_cuda_send(struct sq_backend *, int lane, const void *host, size_t bytes, void *memory);
enum sq_status sq_cuda_sent(struct sq_backend *, int lane);
enum sq_status sq_cuda_receive(struct sq_backend *);

/* timeline.c: spans of streams in the trace; nothing happens without one. begin and end stand around what a stream is
 * given, by the thread that gives it; where there is no more room, end makes the last span longer. */
enum sq_status sq_cuda_timer_begin(struct sq_cuda_timer *timer, cudaStream_t stream) SQ_MUST_CHECK;
enum sq_status sq_cuda_timer_end(struct sq_cuda_timer *timer, cudaStream_t stream, size_t bytes) SQ_MUST_CHECK;
/* The time is now, for spans that begin later; when worker 0's stream is done. By the main thread. */
enum sq_status sq_cuda_timeline_start(struct sq_cuda *cuda) SQ_MUST_CHECK;
/* Everything that is over into the trace: of the workers, when they are done, and of copies in. By the main thread. */
enum sq_status sq_cuda_timeline_show(struct sq_cuda *cuda) SQ_MUST_CHECK;
/* The same for one timer. */
enum sq_status sq_cuda_timer_show(const struct sq_cuda *cuda, struct sq_cuda_timer *timer, enum sq_trace_kind kind,
                                  int stream, const char *name) SQ_MUST_CHECK;
void sq_cuda_timer_destroy(struct sq_cuda_timer *timer);

/* gemm.c: products by cuBLAS, in true f32 or from bf16 with f32 sums; matmul_split in f32 by way of bf16 */
enum sq_status sq_cuda_linear(struct sq_backend *, struct sq_matrix x, struct sq_matrix w, const float *bias,
                              struct sq_matrix y);
enum sq_status sq_cuda_matmul(struct sq_backend *, struct sq_matrix a, struct sq_matrix b, bool accumulate,
                              struct sq_matrix c);
enum sq_status sq_cuda_matmul_split(struct sq_backend *, struct sq_matrix a, struct sq_matrix b, bool accumulate,
                                    struct sq_matrix c);
/* c = x' y; x [t, m], y [t, n] of one dtype, c F32 [m, n] */
enum sq_status sq_cuda_gram(struct sq_backend *, struct sq_matrix x, struct sq_matrix y, struct sq_matrix c);
enum sq_status sq_cuda_update(struct sq_backend *, struct sq_matrix a, struct sq_matrix b, struct sq_matrix c);
cudaDataType sq_cuda_type(enum sq_dtype dtype);
/* Whether devices of this compute capability (times 10) do more products in BF16 than matmul_split takes in the time of
 * one in f32. */
bool sq_cuda_is_split(int capability);

/* hessian.c */
enum sq_status sq_cuda_column_squares(struct sq_backend *, struct sq_matrix x, double *squares);
enum sq_status sq_cuda_gram_pack(struct sq_backend *, struct sq_matrix x, int64_t row, int64_t rows, float *packed);
enum sq_status sq_cuda_gram_add(struct sq_backend *, struct sq_matrix x, const float *packed, int64_t row,
                                const float *scale, struct sq_matrix sums);
enum sq_status sq_cuda_fixed_get(struct sq_backend *, struct sq_matrix sums, const double *row_scale,
                                 const double *col_scale, struct sq_matrix c);
enum sq_status sq_cuda_mirror(struct sq_backend *, struct sq_matrix m, int64_t row, int64_t rows);

/* factor.c: tiles by cuSOLVER and cuBLAS, and the solver's operations on whole matrices */
enum sq_status sq_cuda_potrf(struct sq_backend *, struct sq_matrix a);
enum sq_status sq_cuda_trsm(struct sq_backend *, struct sq_matrix l, struct sq_matrix b);
enum sq_status sq_cuda_diagonal(struct sq_backend *, struct sq_matrix m, float *diagonal);
enum sq_status sq_cuda_set_dead(struct sq_backend *, const uint8_t *dead, struct sq_matrix hessian);
enum sq_status sq_cuda_arrange(struct sq_backend *, struct sq_matrix hessian, const int32_t *order, float ridge,
                               bool off_diagonal, int64_t row, int64_t rows, struct sq_matrix out);
enum sq_status sq_cuda_unit_form(struct sq_backend *, const float *pivots, int64_t row, int64_t rows,
                                 struct sq_matrix m);

/* forward.c: the model's steps */
enum sq_status sq_cuda_take_rows(struct sq_backend *, struct sq_matrix table, int64_t first, const int32_t *ids,
                                 struct sq_matrix out);
enum sq_status sq_cuda_norm(struct sq_backend *, enum sq_norm_kind, struct sq_matrix x, const float *weight,
                            const float *bias, float epsilon, struct sq_matrix y);
enum sq_status sq_cuda_rope(struct sq_backend *, enum sq_rope_pairs, struct sq_matrix x, int64_t head_dim,
                            int64_t n_frequencies, const float *cosine, const float *sine);
enum sq_status sq_cuda_activate(struct sq_backend *, enum sq_activation, struct sq_matrix x, struct sq_matrix gate,
                                struct sq_matrix y);
enum sq_status sq_cuda_add(struct sq_backend *, struct sq_matrix x, struct sq_matrix y);
enum sq_status sq_cuda_rescale(struct sq_backend *, float scale, float cap, struct sq_matrix z);
enum sq_status sq_cuda_convert(struct sq_backend *, struct sq_matrix x, struct sq_matrix y);
enum sq_status sq_cuda_copy_parts(struct sq_backend *, int64_t count, int64_t width, struct sq_matrix x, int64_t x_step,
                                  struct sq_matrix y, int64_t y_step);
enum sq_status sq_cuda_all_finite(struct sq_backend *, struct sq_matrix x, bool *finite_p);
enum sq_status sq_cuda_softmax_fold(struct sq_backend *, struct sq_matrix z, struct sq_matrix other, int64_t first,
                                    struct sq_softmax *state);
enum sq_status sq_cuda_pick(struct sq_backend *, struct sq_matrix z, int64_t first, const int32_t *ids, float *out);

/* experts.c: routing, and rows that travel */
enum sq_status sq_cuda_route(struct sq_backend *, const struct sq_routing *, struct sq_matrix scores,
                             struct sq_matrix chosen, struct sq_matrix weights);
enum sq_status sq_cuda_gather_rows(struct sq_backend *, struct sq_matrix x, const int32_t *ids, struct sq_matrix y);
enum sq_status sq_cuda_add_rows(struct sq_backend *, struct sq_matrix x, const int32_t *ids, const float *weights,
                                struct sq_matrix y);
enum sq_status sq_cuda_gate_rows(struct sq_backend *, struct sq_matrix x, const float *w, struct sq_matrix y);

/* attention.c */
enum sq_status sq_cuda_attention(struct sq_backend *, const struct sq_attention *, struct sq_matrix q,
                                 struct sq_matrix k, struct sq_matrix v, void *scratch, struct sq_matrix out);
size_t sq_cuda_attention_scratch(struct sq_backend *, const struct sq_attention *, int64_t length);

/* solve.c: the solver's operations on tiles */
extern const struct sq_solve_ops sq_cuda_solve_ops;

#endif
