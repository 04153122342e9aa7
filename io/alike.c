#include "io/alike.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/log.h"
#include "base/memory.h"
#include "config/options.h"
#include "io/fingerprint.h"

/* What a rank may have of its own is left out: of models, which may lie on the nodes' disks, the contents count; that
 * all compute the same bits is seen where they choose how. */
static enum sq_status write_settings(const struct sq_config *config, char **lines_p)
{
    struct sq_config shared = *config;
    char *lines = NULL;
    shared.model = shared.checkpoint = shared.tokens = shared.machine = shared.log = shared.trace = NULL;
    shared.against = config->against ? "" : NULL;
    shared.threads = 0;
    shared.memory_bytes = 0;
    shared.isa = SQ_ISA_BEST;
    SQ_TRY(sq_config_lines(&shared, SQ_KEEP_NOWHERE, &lines));
    enum sq_status status = sq_string_format(lines_p, "%sshardq: " SHARDQ_VERSION "\n", lines);
    sq_free(lines);
    return status;
}

static void say_difference(const struct sq_comm *comm, const char *first, const char *mine)
{
    char rank[32], *text = NULL;
    snprintf(rank, sizeof rank, "rank %d", comm->rank);
    if (sq_fingerprint_compare(first, "rank 0", mine, rank, &text) == SQ_OK && text)
        sq_error("the ranks of a job need the same settings: %s", text);
    sq_free(text);
}

enum sq_status sq_alike_settings(const struct sq_comm *comm, const struct sq_config *config)
{
    char *mine = NULL, *first = NULL;
    if (comm->size == 1) return SQ_OK;
    enum sq_status status = sq_comm_agree(comm, write_settings(config, &mine));
    if (status == SQ_OK) status = sq_comm_compare(comm, mine, &first);
    if (first) say_difference(comm, first, mine);
    sq_free(first);
    sq_free(mine);
    return status;
}

enum sq_status sq_alike_model(const struct sq_comm *comm, const struct sq_checkpoint *checkpoint, uint64_t fingerprint)
{
    char mine[24], *first;
    snprintf(mine, sizeof mine, "%016" PRIx64, fingerprint);
    enum sq_status status = sq_comm_compare(comm, mine, &first);
    if (first)
        sq_error("%s is not the same model on rank %d as on rank 0: its fingerprint is %s, not %s",
                 sq_checkpoint_folder(checkpoint), comm->rank, mine, first);
    sq_free(first);
    return status;
}

enum sq_status sq_alike_checkpoint(const struct sq_comm *comm, const struct sq_checkpoint *checkpoint)
{
    return comm->size == 1 ? SQ_OK : sq_alike_model(comm, checkpoint, sq_checkpoint_fingerprint(checkpoint));
}
