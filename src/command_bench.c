/* shardq bench: what this machine does, for `shardq plan --machine`. */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/memory.h"
#include "command.h"
#include "gptq/bench.h"

#define SECONDS 0.3 /* for each figure */

static enum sq_status cannot(const char *what, const char *path)
{
    sq_error("cannot %s %s: %s", what, path, strerror(errno));
    return SQ_ERR_IO;
}

/* What the file is called until it is whole. Refuses what would be lost, and a place where nothing can be written:
 * before anything is measured. */
static enum sq_status begin_file(const char *path, char **tmp_p)
{
    char *tmp;
    if (access(path, F_OK) == 0) {
        errno = EEXIST;
        (void)cannot("create", path);
        return SQ_ERR_USAGE;
    }
    SQ_TRY(sq_string_format(&tmp, "%s.tmp", path));
    FILE *file = fopen(tmp, "w");
    if (!file || fclose(file) != 0) {
        enum sq_status status = cannot("create", tmp);
        sq_free(tmp);
        return status;
    }
    *tmp_p = tmp;
    return SQ_OK;
}

static enum sq_status write_file(const struct sq_machine *machine, const char *tmp, const char *path)
{
    FILE *file = fopen(tmp, "w");
    if (!file) return cannot("create", tmp);
    fputs("# Measured by shardq bench. Rates of one worker while all are busy (of a device: of all its workers), "
          "[rate, half].\n"
          "# What the network and a file system do for all nodes together is to be added by hand.\n",
          file);
    sq_machine_write(machine, file);
    bool good = !ferror(file) && fflush(file) == 0 && fsync(fileno(file)) == 0;
    enum sq_status status = good ? SQ_OK : cannot("write", tmp);
    fclose(file);
    if (status == SQ_OK && rename(tmp, path) != 0) status = cannot("rename", tmp);
    return status;
}

/* Where the result goes lies what it says of files. */
static enum sq_status folder_of(const char *path, char **folder_p)
{
    const char *slash = strrchr(path, '/');
    return slash ? sq_string_format(folder_p, "%.*s", slash > path ? (int)(slash - path) : 1, path)
                 : sq_string_copy(".", folder_p);
}

/* tmp: on rank 0; elsewhere NULL. */
static enum sq_status measure(const struct sq_config *config, const struct sq_place *place, const char *tmp)
{
    struct sq_machine machine;
    char *folder;
    SQ_TRY(folder_of(config->out, &folder));
    enum sq_status status = sq_bench_measure(place, folder, SECONDS, &machine);
    sq_free(folder);
    if (status == SQ_OK && tmp) status = write_file(&machine, tmp, config->out);
    return sq_comm_agree(&place->comm, status);
}

static enum sq_status run(const struct sq_config *config, const struct sq_comm *world)
{
    struct sq_place place;
    char *tmp = NULL;
    SQ_TRY(sq_comm_agree(world, world->rank == 0 ? begin_file(config->out, &tmp) : SQ_OK));
    enum sq_status status = sq_place_open(config, world, &place);
    if (status == SQ_OK) {
        status = measure(config, &place, tmp);
        sq_place_close(&place);
    }
    if (tmp && status != SQ_OK) unlink(tmp);
    sq_free(tmp);
    return status;
}

const struct sq_command sq_command_bench = {
    .name = "bench",
    .summary = "Measures this machine, on the ranks it is started with, for shardq plan --machine.",
    .mask = SQ_COMMAND_BENCH,
    .needs_mpi = true,
    .run = run,
};
