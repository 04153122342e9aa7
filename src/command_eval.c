/* shardq eval: how well a model predicts a text, and how far it is from another one. */
#define _POSIX_C_SOURCE 200809L
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/text.h"
#include "command.h"
#include "config/options.h"
#include "gptq/compute.h"
#include "gptq/memory_eval.h"
#include "gptq/place.h"
#include "io/alike.h"
#include "io/tokenizer.h"
#include "model/evaluate.h"
#include "mpi/split.h"

struct opened {
    const char *folder;
    struct sq_checkpoint *checkpoint;
    struct sq_model *model;
};

static enum sq_status open_folder(void *context)
{
    struct opened *opened = context;
    SQ_TRY(sq_checkpoint_open(opened->folder, &opened->checkpoint));
    return sq_model_open(opened->checkpoint, &opened->model);
}

static enum sq_status open_alike(const struct sq_comm *world, struct opened *opened)
{
    SQ_TRY(sq_comm_first_rank_first(world, open_folder, opened));
    return sq_alike_checkpoint(world, opened->checkpoint);
}

static void close_folder(struct opened *opened)
{
    sq_model_close(opened->model);
    sq_checkpoint_close(opened->checkpoint);
}

/* Positions that both models know; 0: no bound. */
static int64_t common_length(const struct opened *model, const struct opened *against)
{
    int64_t length = sq_model_max_length(model->model);
    int64_t other = against->model ? sq_model_max_length(against->model) : 0;
    return length == 0 || (other > 0 && other < length) ? other : length;
}

/* ,"key":"path from the root": whoever collects results sees what they are of. */
static void print_path(const char *key, const char *path)
{
    char *absolute = NULL;
    if (!path || sq_path_absolute(path, &absolute) != SQ_OK) return;
    json_t *text = json_string(absolute);
    char *quoted = text ? json_dumps(text, JSON_ENCODE_ANY) : NULL; /* NULL: not UTF-8 */
    if (quoted) printf(",\"%s\":%s", key, quoted);
    free(quoted);
    json_decref(text);
    sq_free(absolute);
}

/* JSON has no infinity, to which exp(nll) of a broken model comes. */
static double json_perplexity(const struct sq_evaluation *evaluation)
{
    return fmin(evaluation->perplexity, DBL_MAX);
}

static void show(const struct sq_config *config, const struct sq_evaluation *e, enum sq_dtype compute, double seconds)
{
    if (config->json) {
        printf("{\"nll\":%.12g,\"perplexity\":%.12g,\"tokens\":%lld", e->nll, json_perplexity(e),
               (long long)e->n_predictions);
        if (config->against) printf(",\"kl\":%.12g,\"agreement\":%.12g", e->kl, e->agreement);
        printf(",\"compute\":\"%s\",\"seconds\":%.3f", compute == SQ_BF16 ? "bf16" : "fp32", seconds);
        print_path("model", config->model);
        print_path("tokens_file", config->tokens);
        print_path("against", config->against);
        puts("}");
        return;
    }
    printf("nll         %.6f\nperplexity  %.4f\ntokens      %lld\n", e->nll, e->perplexity,
           (long long)e->n_predictions);
    if (config->against) printf("kl          %.6f\nagreement   %.4f\n", e->kl, e->agreement);
}

static enum sq_status plan_memory(const struct sq_config *config, const struct sq_place *place,
                                  const struct opened *model, const struct opened *against,
                                  const struct sq_tokens *tokens, struct sq_evaluate_options *options)
{
    struct sq_memory_plan plan;
    struct sq_memory_request request = {.model = model->model,
                                        .reference = against->model,
                                        .config = config,
                                        .compute = options->compute,
                                        .n_samples =
                                            sq_split(tokens->n_samples, place->comm.rank, place->comm.size).count,
                                        .length = tokens->length,
                                        .n_job_samples = tokens->n_samples};
    SQ_TRY(sq_memory_fit_ranks(place, config->memory_bytes, sq_memory_count_eval, &request, &plan));
    options->place = plan.place;
    options->groups_ahead = plan.groups_ahead;
    sq_memory_say(&place->comm, &plan);
    return SQ_OK;
}

static enum sq_status compare_tokenizers(const struct sq_config *config, const struct sq_comm *world,
                                         const struct sq_tokens *tokens)
{
    SQ_TRY(sq_tokenizer_compare(world, tokens, config->tokens, config->model));
    return config->against ? sq_tokenizer_compare(world, tokens, config->tokens, config->against) : SQ_OK;
}

static enum sq_status evaluate(const struct sq_config *config, const struct sq_place *place, const struct opened *model,
                               const struct opened *against)
{
    double started = sq_seconds();
    const struct sq_comm *world = &place->comm;
    struct sq_tokens tokens;
    struct sq_evaluation evaluation;
    struct sq_evaluate_options options = {.folder = sq_place_folder()};
    SQ_TRY(sq_compute_choose(world, place->backend, config->compute, &options.compute));
    SQ_TRY(sq_tokens_read(world, config->tokens, sq_model_vocab_size(model->model), common_length(model, against),
                          &tokens));
    enum sq_status status = compare_tokenizers(config, world, &tokens);
    if (status == SQ_OK) status = plan_memory(config, place, model, against, &tokens, &options);
    if (status == SQ_OK)
        status = sq_evaluate(place->backend, world, model->model, against->model, &tokens, &options, &evaluation);
    if (status == SQ_OK && world->rank == 0) show(config, &evaluation, options.compute, sq_seconds() - started);
    sq_tokens_release(&tokens);
    return status;
}

static enum sq_status run(const struct sq_config *config, const struct sq_comm *world)
{
    struct opened model = {.folder = config->model}, against = {.folder = config->against};
    struct sq_place place = {0};
    enum sq_status status = open_alike(world, &model);
    if (status == SQ_OK && config->against) status = open_alike(world, &against);
    if (status == SQ_OK) status = sq_place_open(config, world, &place);
    if (status == SQ_OK) status = evaluate(config, &place, &model, &against);
    sq_place_close(&place);
    close_folder(&against);
    close_folder(&model);
    return status;
}

const struct sq_command sq_command_eval = {
    .name = "eval",
    .summary = "Perplexity of a plain or quantized checkpoint; with --against also how far it is from another.",
    .mask = SQ_COMMAND_EVAL,
    .needs_mpi = true,
    .run = run,
};
