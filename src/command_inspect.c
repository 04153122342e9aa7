/* shardq inspect: what a model, a token file, a store or a checkpoint is. */
#include <stdio.h>

#include "base/log.h"
#include "command.h"
#include "inspect.h"
#include "io/kind.h"

/* Rank 0 looks; all ranks go the same way. */
static enum sq_status find_kind(const struct sq_config *config, const struct sq_comm *world, enum sq_path_kind *kind_p)
{
    enum sq_path_kind kind = SQ_PATH_FOLDER;
    enum sq_status status = world->rank == 0 ? sq_path_kind_find(config->path, &kind) : SQ_OK;
    SQ_TRY(sq_comm_agree(world, status));
    SQ_TRY(sq_comm_broadcast(world, 0, &kind, sizeof kind));
    *kind_p = kind;
    return SQ_OK;
}

static enum sq_status print(const struct sq_config *config, const json_t *object)
{
    if (!config->json) {
        sq_inspect_write_text(object, stdout);
        return SQ_OK;
    }
    if (json_dumpf(object, stdout, JSON_INDENT(2)) == 0 && putchar('\n') != EOF) return SQ_OK;
    sq_error("cannot write to standard output");
    return SQ_ERR_IO;
}

static enum sq_status run(const struct sq_config *config, const struct sq_comm *world)
{
    enum sq_path_kind kind;
    enum sq_status status = SQ_OK;
    json_t *object = NULL;
    SQ_TRY(find_kind(config, world, &kind));
    if (kind == SQ_PATH_TOKENS) status = sq_inspect_tokens(world, config->path, &object);
    if (kind == SQ_PATH_STORE) status = sq_inspect_store(world, config->path, &object);
    if (kind == SQ_PATH_FOLDER && world->rank == 0) status = sq_inspect_folder(config->path, &object);
    if (status == SQ_OK && world->rank == 0) status = print(config, object);
    json_decref(object);
    return status;
}

const struct sq_command sq_command_inspect = {
    .name = "inspect",
    .summary = "Shows what a model folder, a token file, a store or a checkpoint holds.",
    .mask = SQ_COMMAND_INSPECT,
    .needs_mpi = true,
    .run = run,
};
