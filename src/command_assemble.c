/* shardq assemble: from a finished store to a checkpoint. */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/text.h"
#include "command.h"
#include "io/alike.h"
#include "io/assemble.h"

struct assembling {
    const struct sq_config *config; /* of this command */
    const struct sq_store *store;
    struct sq_config made; /* that the store was made with */
    struct sq_checkpoint *source;
};

static enum sq_status read_made(struct assembling *a)
{
    const char *yaml = sq_store_config(a->store);
    SQ_TRY(sq_config_set_defaults(&a->made));
    SQ_TRY(sq_config_read_yaml(a->config->store, yaml, strlen(yaml), &a->made));
    if (a->config->model || a->made.model) return SQ_OK;
    sq_error("%s does not say where its model is; give --model DIR", a->config->store);
    return SQ_ERR_USAGE;
}

static enum sq_status open_source(void *context)
{
    struct assembling *a = context;
    SQ_TRY(read_made(a));
    return sq_checkpoint_open(a->config->model ? a->config->model : a->made.model, &a->source);
}

static void print_sizes(const struct sq_config *config, const struct sq_checkpoint *source, int64_t after)
{
    char text[2][16];
    double before = 0;
    for (int64_t i = 0; i < sq_checkpoint_n_tensors(source); i++)
        before += (double)sq_checkpoint_tensor(source, i)->bytes;
    sq_size_format(before, text[0]);
    sq_size_format((double)after, text[1]);
    printf("before  %10s  %s\n", text[0], sq_checkpoint_folder(source));
    printf("after   %10s  %s (%.1f %% of it)\n", text[1], config->out, 100.0 * (double)after / before);
}

static enum sq_status run_with_store(const struct sq_config *config, const struct sq_comm *world,
                                     struct sq_store *store)
{
    struct assembling a = {.config = config, .store = store};
    struct sq_assemble_options options;
    int64_t bytes = 0;
    enum sq_status status = sq_comm_first_rank_first(world, open_source, &a);
    if (status == SQ_OK) status = sq_alike_checkpoint(world, a.source);
    if (status != SQ_OK) goto out_close_source;
    sq_assemble_options_set(&a.made, config, store, &options);
    status = sq_assemble(world, a.source, store, &options, &bytes);
    if (status == SQ_OK && world->rank == 0) print_sizes(config, a.source, bytes);
out_close_source:
    sq_checkpoint_close(a.source);
    sq_config_release(&a.made);
    return status;
}

static enum sq_status run(const struct sq_config *config, const struct sq_comm *world)
{
    struct sq_store *store = NULL;
    SQ_TRY(sq_store_open(world, config->store, false, NULL, 0, NULL, &store));
    enum sq_status status = run_with_store(config, world, store);
    if (status == SQ_STOPPED)
        sq_info("stopped, and nothing is left of %s; the same command starts it again", config->out);
    sq_store_close(store);
    return status;
}

const struct sq_command sq_command_assemble = {
    .name = "assemble",
    .summary = "Makes a checkpoint folder from a finished store.",
    .mask = SQ_COMMAND_ASSEMBLE,
    .needs_mpi = true,
    .stops_at_signals = true,
    .run = run,
};
