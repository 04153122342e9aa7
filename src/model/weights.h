/* Weights of linear layers from the checkpoint into the backend's memory. */
#ifndef SQ_MODEL_WEIGHTS_H
#define SQ_MODEL_WEIGHTS_H

#include <stddef.h>

#include "base/status.h"
#include "model/model.h"
#include "mpi/comm.h"
#include "tensor/backend.h"

/* Host memory that a worker needs for rows on their way from a file. Local. */
size_t sq_weights_piece_bytes(const struct sq_model *model);

/* Rows [row, row + weight.rows) of a linear (lm_head of a tied model: of the embedding), plain or quantized, on every
 * rank: each rank reads an even share of them. weight: dense [rows, in_features], F32 or BF16, backend memory; pieces:
 * [n_workers, sq_weights_piece_bytes()], memory of alloc_host(). Collective. */
enum sq_status sq_weights_load(struct sq_backend *backend, const struct sq_comm *comm, const struct sq_model *model,
                               const struct sq_linear *linear, int64_t row, void *pieces,
                               struct sq_matrix weight) SQ_MUST_CHECK;

#endif
