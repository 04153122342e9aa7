/* What comes after the last block: the final states of a model, and lm_head over a piece of the vocabulary at a time.
 */
#ifndef SQ_MODEL_FINAL_H
#define SQ_MODEL_FINAL_H

#include <stdint.h>

#include "base/status.h"
#include "model/forward.h"

/* Input of lm_head for this rank's samples: dense [n_samples * length, hidden] of the compute dtype. Owned; released
 * with sq_final_release(). */
struct sq_final {
    struct sq_backend *backend;
    const struct sq_model *model;
    struct sq_matrix states;
    int64_t length;          /* positions of a sample */
    struct sq_matrix weight; /* [SQ_HEAD_ROWS, hidden]: the piece of lm_head that was loaded last */
    int64_t first;           /* vocabulary entry of its first row */
    float *bias;             /* backend memory [vocab], NULL where lm_head has none */
    void *pieces;
};

#define SQ_HEAD_ROWS 2048 /* vocabulary entries of a piece; fixed, as it decides the order of sums */

/* Runs the whole model on ids [n_samples, length] with the checkpoint's own weights. Collective. */
enum sq_status sq_final_make(struct sq_backend *backend, const struct sq_comm *comm, const struct sq_model *model,
                             const struct sq_forward_options *options, const int32_t *ids,
                             struct sq_final *final_p) SQ_MUST_CHECK;
void sq_final_release(struct sq_final *final);

/* Weights of vocabulary entries [first, first + rows), rows <= SQ_HEAD_ROWS. Collective. */
enum sq_status sq_final_load_head(struct sq_final *final, const struct sq_comm *comm, int64_t first,
                                  int64_t rows) SQ_MUST_CHECK;

/* logits F32 [rows, weight.rows] of the loaded piece for positions [row, row + rows), scaled and capped as the model
 * does. Local, one worker. */
enum sq_status sq_final_piece_logits(const struct sq_final *final, int64_t row, struct sq_matrix logits) SQ_MUST_CHECK;

/* Logits of all positions of this rank's samples, f32 [n_samples * length, vocab], host memory. Collective. */
enum sq_status sq_final_logits(struct sq_final *final, const struct sq_comm *comm, float *logits) SQ_MUST_CHECK;

#endif
