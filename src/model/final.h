/* What comes after the last block: the final states of a model, and lm_head over a piece of the vocabulary at a time.
 */
#ifndef SQ_MODEL_FINAL_H
#define SQ_MODEL_FINAL_H

#include <stdint.h>

#include "base/status.h"
#include "model/forward.h"

/* Input of lm_head for this rank's samples: dense [n_samples * length, hidden] of the compute dtype, on the host where
 * the activations of a device were there. Owned; released with sq_final_release(). */
struct sq_final {
    struct sq_backend *backend;
    const struct sq_model *model;
    struct sq_matrix states;
    char *desk;              /* where states are on the host: [workers] rows of a piece in backend memory; else NULL */
    size_t desk_bytes;       /* of one worker */
    int64_t length;          /* positions of a sample */
    struct sq_matrix weight; /* [SQ_HEAD_ROWS, hidden]: the piece of lm_head that was loaded last */
    int64_t first;           /* vocabulary entry of its first row */
    float *bias;             /* backend memory [vocab], NULL where lm_head has none */
    void *pieces;
};

#define SQ_HEAD_ROWS 2048      /* vocabulary entries of a piece; fixed, as it decides the order of sums */
#define SQ_HEAD_POSITIONS 1024 /* positions of a sample whose logits are made at once, at most */

/* Of a piece of this model's lm_head, and of a sample of so many tokens. */
int64_t sq_final_rows(const struct sq_model *model);
int64_t sq_final_positions(int64_t length);

/* Bytes that sq_final_make() leaves taken. */
struct sq_final_bytes {
    int64_t states;      /* on the host where the activations of a device are there, else in the backend's memory */
    int64_t weights;     /* a piece of lm_head, and its bias */
    int64_t desks;       /* of all workers */
    int64_t host_pieces; /* rows read from a file, in the host's memory */
};

/* Exactly that, for so many workers. Local. */
struct sq_final_bytes sq_final_predict_bytes(int n_workers, const struct sq_model *model,
                                             const struct sq_forward_options *options);

/* Runs the whole model on ids [n_samples, length] with the checkpoint's own weights. Collective. */
enum sq_status sq_final_make(struct sq_backend *backend, const struct sq_comm *comm, const struct sq_model *model,
                             const struct sq_forward_options *options, const int32_t *ids,
                             struct sq_final *final_p) SQ_MUST_CHECK;
void sq_final_release(struct sq_final *final);

/* Weights of vocabulary entries [first, first + rows), rows <= SQ_HEAD_ROWS. Collective. */
enum sq_status sq_final_load_head(struct sq_final *final, const struct sq_comm *comm, int64_t first,
                                  int64_t rows) SQ_MUST_CHECK;

/* logits F32 [rows, weight.rows] of the loaded piece for positions [row, row + rows), rows <= SQ_HEAD_POSITIONS, scaled
 * and capped as the model does. Local, in an item of this worker. */
enum sq_status sq_final_piece_logits(const struct sq_final *final, int worker, int64_t row,
                                     struct sq_matrix logits) SQ_MUST_CHECK;

/* Logits of all positions of this rank's samples of SQ_HEAD_POSITIONS tokens at most, f32 [n_samples * length, vocab],
 * host memory. Collective. */
enum sq_status sq_final_logits(struct sq_final *final, const struct sq_comm *comm, float *logits) SQ_MUST_CHECK;

#endif
