#include "model/evaluate.h"

#include <math.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "model/final.h"
#include "mpi/split.h"

/* A piece of logits, up to the next one: where that starts may decide in which order a library sums, and which worker
 * has it is chance. */
static int64_t piece_cells(const struct sq_model *model, int64_t positions)
{
    return sq_aligned(positions * sq_final_rows(model) * (int64_t)sizeof(float)) / (int64_t)sizeof(float);
}

/* Both models' final states and the softmax of every position so far; second: the reference, where there is one. */
struct scoring {
    struct sq_backend *backend;
    const struct sq_tokens *tokens;
    struct sq_range samples; /* this rank's */
    struct sq_final finals[2];
    int n_models;
    struct sq_softmax *softmax[2]; /* backend memory [n_samples * length] */
    float *targets;                /* likewise: the model's logit of the token that came next */
    const int32_t *ids;            /* likewise: this rank's tokens */
    void *ids_room;                /* memory for them */
    int64_t positions;             /* of a piece of logits, at most */
    int64_t cells;                 /* from one piece to the next */
    float *logits;                 /* backend memory [n_workers, n_models, cells] */
    int64_t first;                 /* vocabulary entry of the piece of lm_head in memory */
};

/* Sums of one sample, as they are gathered. */
struct sample_sums {
    double nll, kl, agreements;
};

/* --- a piece of the vocabulary ------------------------------------------------------------------------------------ */

/* Positions [row, row + count) of all this rank's samples. */
static enum sq_status fold_positions(const struct scoring *scoring, int worker, int64_t row, int64_t count)
{
    struct sq_backend *backend = scoring->backend;
    struct sq_matrix logits[2] = {0};
    for (int m = 0; m < scoring->n_models; m++) {
        int64_t at = ((int64_t)worker * scoring->n_models + m) * scoring->cells;
        logits[m] = sq_matrix_view(scoring->logits + at, SQ_F32, count, scoring->finals[m].weight.rows);
        SQ_TRY(sq_final_piece_logits(&scoring->finals[m], worker, row, logits[m]));
    }
    SQ_TRY(backend->ops->pick(backend, logits[0], scoring->first, scoring->ids + row + 1, scoring->targets + row));
    const struct sq_matrix none = {0};
    for (int m = 0; m < scoring->n_models; m++)
        SQ_TRY(backend->ops->softmax_fold(backend, logits[m], m == 1 ? logits[0] : none, scoring->first,
                                          scoring->softmax[m] + row));
    return SQ_OK;
}

static enum sq_status fold_sample(void *context, int64_t index, int worker)
{
    const struct scoring *scoring = context;
    int64_t end = scoring->tokens->length - 1, most = scoring->positions;
    for (int64_t position = 0; position < end; position += most)
        SQ_TRY(fold_positions(scoring, worker, index * scoring->tokens->length + position,
                              end - position < most ? end - position : most));
    return SQ_OK;
}

static enum sq_status fold_vocabulary(struct scoring *scoring, const struct sq_comm *comm)
{
    int64_t vocab = sq_model_vocab_size(scoring->finals[0].model);
    for (int64_t rows; scoring->first < vocab; scoring->first += rows) {
        rows = vocab - scoring->first < SQ_HEAD_ROWS ? vocab - scoring->first : SQ_HEAD_ROWS;
        for (int m = 0; m < scoring->n_models; m++)
            SQ_TRY(sq_final_load_head(&scoring->finals[m], comm, scoring->first, rows));
        SQ_TRY(sq_comm_agree(
            comm, scoring->backend->ops->parallel(scoring->backend, scoring->samples.count, fold_sample, scoring)));
    }
    return SQ_OK;
}

/* --- sums --------------------------------------------------------------------------------------------------------- */

static double log_sum(const struct sq_softmax *softmax)
{
    return (double)softmax->max + log(softmax->sum);
}

/* softmax: host copies of this sample's, of both models. KL(p || q) = E_p[z_p - z_q] - lse_p + lse_q. */
static struct sample_sums sum_sample(const struct scoring *scoring, struct sq_softmax *const softmax[2],
                                     const float *targets)
{
    struct sample_sums sums = {0};
    for (int64_t t = 0; t < scoring->tokens->length - 1; t++) {
        const struct sq_softmax *q = &softmax[0][t], *p = &softmax[1][t];
        sums.nll += log_sum(q) - (double)targets[t];
        if (scoring->n_models == 1) continue;
        sums.kl += p->cross / p->sum - log_sum(p) + log_sum(q);
        sums.agreements += p->argmax == q->argmax;
    }
    return sums;
}

/* Each of this rank's samples into its place of sums [all samples]. */
static enum sq_status sum_samples(const struct scoring *scoring, struct sample_sums *sums)
{
    int64_t length = scoring->tokens->length;
    const struct sq_backend_ops *ops = scoring->backend->ops;
    void *memory;
    SQ_TRY(sq_alloc("softmaxes of a sample", length, 2 * sizeof(struct sq_softmax) + sizeof(float), &memory));
    struct sq_softmax *const copies[2] = {memory, (struct sq_softmax *)memory + length};
    float *targets = (float *)(copies[1] + length);
    enum sq_status status = SQ_OK;
    for (int64_t s = 0; s < scoring->samples.count && status == SQ_OK; s++) {
        for (int m = 0; m < scoring->n_models && status == SQ_OK; m++)
            status = ops->download(scoring->backend, scoring->softmax[m] + s * length,
                                   (size_t)length * sizeof(struct sq_softmax), copies[m]);
        if (status == SQ_OK)
            status =
                ops->download(scoring->backend, scoring->targets + s * length, (size_t)length * sizeof(float), targets);
        struct sample_sums sum = sum_sample(scoring, copies, targets);
        sums[scoring->samples.first + s] = sum;
    }
    sq_free(memory);
    return status;
}

static enum sq_status gather_sums(const struct sq_comm *comm, int64_t n_samples, struct sample_sums *sums)
{
    void *memory = NULL;
    enum sq_status status = sq_alloc("shares of samples", 2 * comm->size, sizeof(size_t), &memory);
    size_t *offsets = memory, *bytes = offsets + comm->size;
    for (int rank = 0; status == SQ_OK && rank < comm->size; rank++) {
        struct sq_range samples = sq_split(n_samples, rank, comm->size);
        offsets[rank] = (size_t)samples.first * sizeof *sums;
        bytes[rank] = (size_t)samples.count * sizeof *sums;
    }
    status = sq_comm_agree(comm, status);
    if (status == SQ_OK) status = sq_comm_all_gather(comm, sums, offsets, bytes);
    sq_free(memory);
    return status;
}

/* sums: of all samples, the same on every rank. */
static enum sq_status check_sums(const struct sample_sums *sums, int64_t n_samples)
{
    for (int64_t s = 0; s < n_samples; s++) {
        if (isfinite(sums[s].nll + sums[s].kl)) continue;
        sq_error("sample %lld: logits are NaN or infinite", (long long)s);
        return SQ_ERR_NUMERIC;
    }
    return SQ_OK;
}

static enum sq_status finish(const struct scoring *scoring, const struct sq_comm *comm,
                             struct sq_evaluation *evaluation_p)
{
    int64_t n_samples = scoring->tokens->n_samples, n = n_samples * (scoring->tokens->length - 1);
    void *memory = NULL;
    enum sq_status status = sq_alloc("sums of samples", n_samples, sizeof(struct sample_sums), &memory);
    struct sample_sums *sums = memory, total = {0};
    if (status == SQ_OK) status = sum_samples(scoring, sums);
    status = sq_comm_agree(comm, status);
    if (status == SQ_OK) status = gather_sums(comm, n_samples, sums);
    if (status == SQ_OK) status = sq_comm_agree(comm, comm->rank == 0 ? check_sums(sums, n_samples) : SQ_OK);
    for (int64_t s = 0; s < n_samples && status == SQ_OK; s++) {
        total.nll += sums[s].nll;
        total.kl += sums[s].kl;
        total.agreements += sums[s].agreements;
    }
    sq_free(memory);
    if (status != SQ_OK) return status;
    *evaluation_p = (struct sq_evaluation){.n_predictions = n,
                                           .nll = total.nll / (double)n,
                                           .perplexity = exp(total.nll / (double)n),
                                           .kl = total.kl / (double)n,
                                           .agreement = total.agreements / (double)n};
    return SQ_OK;
}

/* --- all together ------------------------------------------------------------------------------------------------- */

struct sq_evaluate_bytes sq_evaluate_predict_bytes(int n_workers, int n_models, const struct sq_model *model,
                                                   const struct sq_tokens *tokens, int64_t n_samples)
{
    int64_t cells = piece_cells(model, sq_final_positions(tokens->length - 1));
    int64_t of_position = n_models * (int64_t)sizeof(struct sq_softmax) + (int64_t)(sizeof(float) + sizeof(int32_t));
    return (struct sq_evaluate_bytes){
        .logits = n_workers * n_models * cells * (int64_t)sizeof(float) + n_samples * tokens->length * of_position,
        .host_logits = tokens->length * (int64_t)(2 * sizeof(struct sq_softmax) + sizeof(float)) +
                       tokens->n_samples * (int64_t)sizeof(struct sample_sums)};
}

/* Sample by sample. */
static enum sq_status start_softmax(struct scoring *scoring, int m)
{
    const struct sq_softmax empty = {.max = -INFINITY, .argmax = -1};
    struct sq_backend *backend = scoring->backend;
    int64_t length = scoring->tokens->length, n_samples = scoring->samples.count;
    size_t bytes = (size_t)length * sizeof empty;
    void *memory;
    SQ_TRY(backend->ops->alloc(backend, "softmaxes", (size_t)n_samples * bytes, (void **)&scoring->softmax[m]));
    SQ_TRY(sq_alloc("softmaxes of a sample", length, sizeof empty, &memory));
    struct sq_softmax *start = memory;
    for (int64_t i = 0; i < length; i++)
        start[i] = empty;
    enum sq_status status = SQ_OK;
    for (int64_t s = 0; s < n_samples && status == SQ_OK; s++)
        status = backend->ops->upload(backend, start, bytes, scoring->softmax[m] + s * length);
    sq_free(start);
    return status;
}

static enum sq_status take_memory(struct scoring *scoring)
{
    struct sq_backend *backend = scoring->backend;
    int64_t pieces = backend->n_workers * scoring->n_models;
    size_t bytes = (size_t)(scoring->samples.count * scoring->tokens->length) * sizeof(int32_t);
    SQ_TRY(backend->ops->alloc(backend, "logits of the next tokens", bytes, (void **)&scoring->targets));
    SQ_TRY(backend->ops->alloc(backend, "tokens", bytes, &scoring->ids_room));
    SQ_TRY(sq_backend_view(backend, scoring->tokens->ids + scoring->samples.first * scoring->tokens->length, bytes,
                           scoring->ids_room, (const void **)&scoring->ids));
    SQ_TRY(backend->ops->alloc(backend, "logits", (size_t)(pieces * scoring->cells) * sizeof(float),
                               (void **)&scoring->logits));
    for (int m = 0; m < scoring->n_models; m++)
        SQ_TRY(start_softmax(scoring, m));
    return SQ_OK;
}

static void release(struct scoring *scoring)
{
    struct sq_backend *backend = scoring->backend;
    for (int m = 0; m < 2; m++) {
        sq_final_release(&scoring->finals[m]);
        backend->ops->free(backend, scoring->softmax[m]);
    }
    backend->ops->free(backend, scoring->logits);
    backend->ops->free(backend, scoring->ids_room);
    backend->ops->free(backend, scoring->targets);
}

static enum sq_status make_finals(struct scoring *scoring, const struct sq_comm *comm,
                                  const struct sq_model *const models[2], const struct sq_forward_options *options)
{
    const int32_t *ids = scoring->tokens->ids + scoring->samples.first * options->length;
    for (int m = 0; m < scoring->n_models; m++)
        SQ_TRY(sq_final_make(scoring->backend, comm, models[m], options, ids, &scoring->finals[m]));
    return SQ_OK;
}

static enum sq_status check_arguments(const struct sq_model *const models[2], const struct sq_tokens *tokens)
{
    if (tokens->length < 2) {
        sq_error("samples of %lld token leave nothing to predict", (long long)tokens->length);
        return SQ_ERR_INPUT;
    }
    if (!models[1] || sq_model_vocab_size(models[0]) == sq_model_vocab_size(models[1])) return SQ_OK;
    sq_error("the vocabularies have different sizes: %lld and %lld", (long long)sq_model_vocab_size(models[0]),
             (long long)sq_model_vocab_size(models[1]));
    return SQ_ERR_INPUT;
}

enum sq_status sq_evaluate(struct sq_backend *backend, const struct sq_comm *comm, const struct sq_model *model,
                           const struct sq_model *reference, const struct sq_tokens *tokens,
                           const struct sq_evaluate_options *options, struct sq_evaluation *evaluation_p)
{
    const struct sq_model *const models[2] = {model, reference};
    SQ_TRY(sq_comm_agree(comm, comm->rank == 0 ? check_arguments(models, tokens) : SQ_OK));
    struct scoring scoring = {.backend = backend,
                              .tokens = tokens,
                              .samples = sq_split(tokens->n_samples, comm->rank, comm->size),
                              .n_models = reference ? 2 : 1,
                              .positions = sq_final_positions(tokens->length - 1)};
    scoring.cells = piece_cells(model, scoring.positions);
    const struct sq_forward_options forward = {.compute = options->compute,
                                               .n_samples = scoring.samples.count,
                                               .length = tokens->length,
                                               .first_sample = scoring.samples.first,
                                               .place = options->place,
                                               .folder = options->folder,
                                               .groups_ahead = options->groups_ahead};
    enum sq_status status = make_finals(&scoring, comm, models, &forward);
    if (status == SQ_OK) status = sq_comm_agree(comm, take_memory(&scoring));
    if (status == SQ_OK) status = fold_vocabulary(&scoring, comm);
    if (status == SQ_OK) status = finish(&scoring, comm, evaluation_p);
    release(&scoring);
    return status;
}
