/* Weights of linear layers from the checkpoint into the backend's memory. */
#ifndef SQ_MODEL_WEIGHTS_H
#define SQ_MODEL_WEIGHTS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"
#include "model/model.h"
#include "mpi/comm.h"
#include "mpi/split.h"
#include "tensor/backend.h"

/* Host memory that a worker needs for rows on their way from a file. Local. */
size_t sq_weights_piece_bytes(const struct sq_model *model);

/* One linear on its way: this rank's rows of it, in pieces. */
struct sq_weights {
    const struct sq_model *model;
    const struct sq_linear *linear;
    const struct sq_tensor *table; /* the embedding, where it stands in for lm_head; else NULL */
    int64_t row;                   /* of the linear, for row 0 of weight */
    struct sq_matrix weight;       /* dense [rows, in_features], F32 or BF16, backend memory */
    struct sq_range rows;          /* this rank's of weight */
    int64_t piece_rows, n_pieces;
};

/* Rows [row, row + weight.rows) of a linear, of which each rank reads an even share. Local. */
enum sq_status sq_weights_describe(const struct sq_comm *comm, const struct sq_model *model,
                                   const struct sq_linear *linear, int64_t row, struct sq_matrix weight,
                                   struct sq_weights *weights_p) SQ_MUST_CHECK;

/* Reads a piece, as it is to be: *values_p in `room`, host memory of sq_weights_piece_bytes(), goes to *place_p, dense
 * rows. SQ_ERR_NUMERIC without a message where one is NaN or infinite. Local. */
enum sq_status sq_weights_read(const struct sq_weights *weights, int64_t piece, void *room, void **values_p,
                               struct sq_matrix *place_p) SQ_MUST_CHECK;

/* Says that there are such numbers; returns whether there are. Local. */
bool sq_weights_report(const struct sq_weights *weights);

/* Room for all ranks' shares of a weight's rows: offsets [comm->size], then sizes; released with sq_free(). Local. */
enum sq_status sq_weights_alloc_shares(const struct sq_comm *comm, size_t **shares_p) SQ_MUST_CHECK;

/* Where each rank's share lies in the weight, in bytes. Local. */
void sq_weights_set_shares(const struct sq_comm *comm, struct sq_matrix weight, size_t *shares);

/* Rows [row, row + weight.rows) of a linear (lm_head of a tied model: of the embedding), plain or quantized, on every
 * rank: each rank reads an even share of them. weight: as above; pieces: [n_workers, sq_weights_piece_bytes()], memory
 * of alloc_host(). Collective. */
enum sq_status sq_weights_load(struct sq_backend *backend, const struct sq_comm *comm, const struct sq_model *model,
                               const struct sq_linear *linear, int64_t row, void *pieces,
                               struct sq_matrix weight) SQ_MUST_CHECK;

#endif
