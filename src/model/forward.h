/* The forward pass of this rank's samples through a model, one block at a time, stopping at every LINEAR group.
 *
 *      sq_forward_create            memory for the samples and one block's weights
 *      sq_forward_embed             tokens -> residual stream, with what stands before block 0
 *      for each block:
 *          sq_forward_load_block    small tensors (norms, biases)
 *          for each LINEAR group g:
 *              sq_forward_to_group(g)     run on until the group's input is there
 *              [ Hessian, solve: gptq/ ]  reads sq_forward_group_input()
 *              set the group's weights    sq_forward_linear_weight() or sq_forward_load_group()
 *          sq_forward_finish_block
 *      sq_forward_load_block(n_blocks), to_group(0)    final norm: the input of lm_head (evaluate.h goes on from there)
 *
 * So every product of the model runs once, with the weights that were set. */
#ifndef SQ_MODEL_FORWARD_H
#define SQ_MODEL_FORWARD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "model/activations.h"
#include "model/model.h"
#include "mpi/comm.h"
#include "tensor/traits.h"

#define SQ_FORWARD_AHEAD 2 /* groups that may be on their way at most */

struct sq_forward_options {
    enum sq_dtype compute; /* SQ_F32 or SQ_BF16: of weights, group inputs, products; the residual stream is F32 */
    int64_t n_samples;     /* of this rank; may be 0 */
    int64_t length;        /* tokens per sample */
    int64_t first_sample;  /* place of this rank's first sample among all ranks', for messages */
    enum sq_activations_place place;
    const char *folder; /* of the file, where activations are in one */
    /* on a device: of so many groups to come sq_forward_load_group() has the weights on their way, in memory of their
     * own: of one it reads them, of another it gathers them from the ranks. The same on all ranks */
    int groups_ahead;
    bool leaves_last; /* nobody sets the weights of the last block's last group */
};

struct sq_forward;

/* Bytes that sq_forward_create takes in the backend's memory, and of the host's beside; and what embedding takes of
 * both while it lasts. */
struct sq_forward_bytes {
    int64_t activations;               /* of all samples, wherever they are */
    int64_t input_row;                 /* of a token's row of them, at most */
    int64_t weights, host_weights;     /* of a group of linears and those on their way, norms and biases */
    int64_t weights_ahead;             /* of these: on their way */
    int64_t workspace, host_workspace; /* of all workers; tables of positions */
    int64_t embedding, host_embedding;
};

/* Exactly that, for a kind of backend and so many workers. Local. */
struct sq_forward_bytes sq_forward_predict_bytes(const struct sq_backend_traits *traits, int n_workers,
                                                 const struct sq_model *model,
                                                 const struct sq_forward_options *options);

/* Local. */
enum sq_status sq_forward_create(struct sq_backend *backend, const struct sq_model *model,
                                 const struct sq_forward_options *options, struct sq_forward **forward_p) SQ_MUST_CHECK;
void sq_forward_destroy(struct sq_forward *forward);

/* ids: this rank's samples [n_samples, length]. The embedding is read once, in pieces, by rank 0 and broadcast.
 * Collective. */
enum sq_status sq_forward_embed(struct sq_forward *forward, const struct sq_comm *comm,
                                const int32_t *ids) SQ_MUST_CHECK;

/* The residual stream of one of this rank's samples, f32 [length, hidden], out of a struct sq_forward into host memory
 * and back: as the state file moves them. Local. */
enum sq_status sq_forward_get_hidden(void *forward, int64_t sample, void *values) SQ_MUST_CHECK;
enum sq_status sq_forward_set_hidden(void *forward, int64_t sample, void *values) SQ_MUST_CHECK;

/* Reads norms and biases of the block on rank 0 and broadcasts them; to_group starts anew. block == n_blocks: the final
 * norm. Collective. */
enum sq_status sq_forward_load_block(struct sq_forward *forward, const struct sq_comm *comm,
                                     int64_t block) SQ_MUST_CHECK;

/* Runs the steps after group - 1 up to the input of `group`. Local, parallel over samples.
 * SQ_ERR_NUMERIC, and no message, when an activation is NaN or infinite: sq_forward_agree() names the place. */
enum sq_status sq_forward_to_group(struct sq_forward *forward, int group) SQ_MUST_CHECK;

/* Input of the group reached: [n_samples * length, in_features] of the compute dtype; its stride may be larger than
 * in_features (inputs of several groups share memory). Valid until the next to_group. */
struct sq_matrix sq_forward_group_input(const struct sq_forward *forward);

/* Whether that is memory of alloc_host, and not the backend's. */
bool sq_forward_is_on_host(const struct sq_forward *forward);

/* These rows of tokens are not looked at for a while: where they are in a file they leave this process's memory. Local.
 */
void sq_forward_forget(const struct sq_forward *forward, int64_t row, int64_t rows);

/* Where the weights of a linear of the present group go: [out_features, in_features] of the compute dtype, to be
 * written by the caller before the next to_group or finish_block. Not for lm_head. */
struct sq_matrix sq_forward_linear_weight(struct sq_forward *forward, int member);

/* Reads the rows of a linear once (each rank an even share), from a plain or GPTQ folder, and gives them to every rank.
 * lm_head's are not kept here (final.h loads them in pieces): after load_block(n_blocks) this does nothing. Collective.
 */
enum sq_status sq_forward_load_linear(struct sq_forward *forward, const struct sq_comm *comm, int member) SQ_MUST_CHECK;

/* The weights of all linears of the present group, likewise; what options.groups_ahead of them are to come is then on
 * its way. Groups come one after another, then; experts may be between them. comm stays the caller's until the next
 * call, or until the forward pass is destroyed. Collective. */
enum sq_status sq_forward_load_group(struct sq_forward *forward, const struct sq_comm *comm) SQ_MUST_CHECK;

/* What is read for groups to come, a piece at a time: a step of struct sq_beside; context: the struct sq_forward.
 * Local.
 */
bool sq_forward_ahead_step(void *context);

/* No collective of the forward pass is on its way afterwards, so that other communicators may have theirs. Collective.
 */
enum sq_status sq_forward_ahead_settle(struct sq_forward *forward, const struct sq_comm *comm) SQ_MUST_CHECK;

/* Runs the steps after the last group. Local; fails as sq_forward_to_group() does. */
enum sq_status sq_forward_finish_block(struct sq_forward *forward) SQ_MUST_CHECK;

/* Agrees on what sq_forward_to_group() or sq_forward_finish_block() returned. Where the ranks' worst is SQ_ERR_NUMERIC,
 * the rank with the first sample of all that failed prints the one message, naming block, tensor and sample.
 * Collective. */
enum sq_status sq_forward_agree(const struct sq_forward *forward, const struct sq_comm *comm,
                                enum sq_status mine) SQ_MUST_CHECK;

/* The bias of lm_head, after sq_forward_load_block(n_blocks) and until the next: F32 [vocab] in backend memory, NULL
 * where it has none. */
const float *sq_forward_head_bias(const struct sq_forward *forward);

/* All blocks from `block` on with the checkpoint's own weights (for eval). With groups_ahead nothing else goes on
 * beside the workers meanwhile. Collective. */
enum sq_status sq_forward_run_blocks(struct sq_forward *forward, const struct sq_comm *comm,
                                     int64_t block) SQ_MUST_CHECK;

#endif
