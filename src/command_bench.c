/* shardq bench: what this machine does, for `shardq plan --machine`. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "command.h"
#include "gptq/bench.h"

#define SECONDS 0.3 /* for each figure */

static enum sq_status write_file(const struct sq_machine *machine, const char *path)
{
    FILE *file = fopen(path, "wx");
    if (!file) {
        int why = errno;
        sq_error("cannot create %s: %s", path, strerror(why));
        return why == EEXIST ? SQ_ERR_USAGE : SQ_ERR_IO;
    }
    fputs("# Measured by shardq bench. Rates of one worker while all are busy (of a device: of all its workers), "
          "[rate, half].\n"
          "# What the network and a file system do for all nodes together is to be added by hand.\n",
          file);
    sq_machine_write(machine, file);
    if (fclose(file) == 0) return SQ_OK;
    sq_error("cannot write %s: %s", path, strerror(errno));
    return SQ_ERR_IO;
}

/* Where the result goes lies what it says of files. */
static enum sq_status folder_of(const char *path, char **folder_p)
{
    const char *slash = strrchr(path, '/');
    return slash ? sq_string_format(folder_p, "%.*s", slash > path ? (int)(slash - path) : 1, path)
                 : sq_string_copy(".", folder_p);
}

static enum sq_status measure(const struct sq_config *config, const struct sq_place *place)
{
    struct sq_machine machine;
    char *folder;
    SQ_TRY(folder_of(config->out, &folder));
    enum sq_status status = sq_bench_measure(place, folder, SECONDS, &machine);
    sq_free(folder);
    if (status == SQ_OK && place->comm.rank == 0) status = write_file(&machine, config->out);
    return sq_comm_agree(&place->comm, status);
}

static enum sq_status run(const struct sq_config *config, const struct sq_comm *world)
{
    struct sq_place place;
    SQ_TRY(sq_place_open(config, world, &place));
    enum sq_status status = measure(config, &place);
    sq_place_close(&place);
    return status;
}

const struct sq_command sq_command_bench = {
    .name = "bench",
    .summary = "Measures this machine, on the ranks it is started with, for shardq plan --machine.",
    .mask = SQ_COMMAND_BENCH,
    .needs_mpi = true,
    .run = run,
};
