/* How well a model predicts text, and how far it is from another one. */
#ifndef SQ_MODEL_EVALUATE_H
#define SQ_MODEL_EVALUATE_H

#include <stdint.h>

#include "base/status.h"
#include "io/tokens.h"
#include "model/activations.h"
#include "model/model.h"
#include "mpi/comm.h"
#include "tensor/backend.h"

struct sq_evaluation {
    int64_t n_predictions; /* n_samples * (length - 1): the first token of a sample has nothing before it */
    double nll;            /* mean of -ln p(token | tokens before it) */
    double perplexity;     /* exp(nll) */
    double kl;             /* mean of sum over the vocabulary of p ln(p / q): p the reference's, q the model's */
    double agreement;      /* share of positions where both have the same most likely token */
};

struct sq_evaluate_options {
    enum sq_dtype compute;
    enum sq_activations_place place; /* of both models' activations */
    const char *folder;              /* of the file, where they are in one */
    int groups_ahead;                /* as in struct sq_forward_options */
};

/* Evaluates model on tokens; reference NULL: kl and agreement are 0. Sums go in the order of samples, so any number of
 * ranks gives the same figures. SQ_ERR_NUMERIC when a logit is no number. Collective. */
enum sq_status sq_evaluate(struct sq_backend *backend, const struct sq_comm *comm, const struct sq_model *model,
                           const struct sq_model *reference, const struct sq_tokens *tokens,
                           const struct sq_evaluate_options *options, struct sq_evaluation *evaluation_p) SQ_MUST_CHECK;

/* Bytes that scoring takes beside both models' final states, for so many samples of this rank and of all, and workers:
 * in the backend's memory, and of the host's beside. Exactly that; what counts the rows of a sample's gather is left
 * out. Local. */
struct sq_evaluate_bytes {
    int64_t logits, host_logits;
};
struct sq_evaluate_bytes sq_evaluate_predict_bytes(int n_workers, int n_models, const struct sq_model *model,
                                                   const struct sq_tokens *tokens, int64_t n_samples);

#endif
