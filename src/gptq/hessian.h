/* The Hessian of a group of linears with one input X [tokens, n]: H = (2 / T) X'X, summed over all ranks exactly, and
 * times the power of four that brings its largest entry near 1: nothing that is made of it depends on its unit.
 *
 * Each piece's X'X - a shard of the samples, or so many tokens of it - is a product of fixed shape in f32. Pieces are
 * added as 64-bit integers, so the order of the sum, and with it the number of ranks and workers, cannot matter. Column
 * j is scaled by a power of two 2^-e_j, 2^e_j >= its largest shard's norm: |(X'X)_ij| <= |x_i| |x_j| (Cauchy-Schwarz),
 * also when summed over the pieces of a shard, so a shard's scaled entries lie in [-1, 1] and get 2^(62 - headroom)
 * steps, headroom = log2 of the number of shards. Only the lower triangle is computed, in panels of rows; slices of
 * panels are reduced one after another, so no second copy of H exists. Where sums over ranks go on beside the work
 * (mpi/comm_memory.h) a slice has half of the memory for sums:
 *
 *      workers     products of s | products of s + 1 | rows of H from s | products of s + 2
 *      links                     | sum of s .......  | sum of s + 1 ...................
 *      sums        first half    | second half       | first half       | first half
 *
 * That needs two slices at least, panels that half of a slice has room for, and inputs that lie near: those on the host
 * come in once for each slice. */
#ifndef SQ_GPTQ_HESSIAN_H
#define SQ_GPTQ_HESSIAN_H

#include <stdbool.h>

#include "base/status.h"
#include "gptq/shards.h"
#include "mpi/comm.h"
#include "tensor/backend.h"

/* What of a device's memory there is for inputs that lie on the host. They come in piece by piece, and once for each
 * slice of the Hessian. */
struct sq_hessian_rooms {
    size_t bytes;  /* of a room, for one piece: sq_hessian_room_bytes(); 0: inputs lie near */
    int count;     /* 1 or SQ_LANES: the next piece comes in beside the products of this one */
    int64_t slice; /* elements that are reduced at once, where they are more than the backend's hessian_slice */
};

/* Scratch for layers up to n_max inputs. */
struct sq_hessian_workspace {
    int64_t n_max;
    int n_workers;
    double *squares;    /* [n_workers, n_max] */
    int64_t *exponents; /* [n_workers, n_max] */
    float *scales;      /* [n_max, 5] host: what goes to the next three */
    float *scale_down;  /* [n_max] 2^-e_j; this and what follows in backend memory */
    double *scale_up;   /* [n_max] */
    double *scale_mean; /* [n_max] scale_up * 2 / T, in the Hessian's unit */
    float *packed;      /* [packed_elements] inputs in hand; NULL where the backend takes them as they are */
    int64_t packed_elements;
    int64_t *sums; /* of one slice, or of two half as large */
    struct sq_hessian_rooms rooms;
    char *room[SQ_LANES]; /* a piece each of inputs that lie on the host */
};

/* The inputs of this rank's samples. */
struct sq_hessian_inputs {
    const struct sq_shards *shards;
    int64_t length;     /* tokens of a sample */
    struct sq_matrix x; /* [local tokens, n], F32 or BF16, in the order of samples */
    bool on_host;       /* x is memory of alloc_host and not the backend's: pieces go into the workspace's rooms */
};

enum sq_status sq_hessian_create(struct sq_backend *backend, int64_t n_max, const struct sq_hessian_rooms *rooms,
                                 struct sq_hessian_workspace *workspace_p) SQ_MUST_CHECK;
void sq_hessian_destroy(struct sq_backend *backend, struct sq_hessian_workspace *workspace);

/* Bytes of a piece of inputs, with samples of `length` tokens and rows of row_bytes. Local. */
size_t sq_hessian_room_bytes(const struct sq_sizes *sizes, int64_t n_samples, int64_t n_shards, int64_t length,
                             int64_t row_bytes);

/* Bytes that sq_hessian_create() takes in the backend's memory, and of the host's. Local. */
size_t sq_hessian_bytes(const struct sq_sizes *sizes, int64_t n_max, const struct sq_hessian_rooms *rooms);
size_t sq_hessian_host_bytes(int64_t n_max, int n_workers);

/* Rooms and slice with which inputs of n_max columns come in soonest, when so many more bytes may be taken than with
 * these rooms, of which there is one; they take no more of them than they have use for. Local. */
struct sq_hessian_rooms sq_hessian_widen(const struct sq_sizes *sizes, int64_t n_max,
                                         const struct sq_hessian_rooms *least, int64_t bytes);

/* hessian F32 [n, n], full and symmetric, out: on every rank (root -1) or on root alone (elsewhere left undefined).
 * Collective on comm; the same bits for any number of ranks and workers. SQ_ERR_NUMERIC when X'X is
 * not finite in f32; layer: one of the group, for that message; NULL: sq_hessian_say() is still to be called. */
enum sq_status sq_hessian_make(struct sq_backend *backend, const struct sq_comm *comm, int root, const char *layer,
                               const struct sq_hessian_inputs *inputs, struct sq_hessian_workspace *workspace,
                               struct sq_matrix hessian) SQ_MUST_CHECK;

/* For teams that each made a Hessian without a layer. Returns status, that of all ranks; where it is SQ_ERR_NUMERIC, the
 * lowest rank with a layer whose X'X was not finite (NULL: none here) says so. Collective on comm. */
enum sq_status sq_hessian_say(const struct sq_comm *comm, const char *layer, enum sq_status status) SQ_MUST_CHECK;

#endif
