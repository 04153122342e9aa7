/* shardq: finds the command, reads its options, starts MPI where it is needed, and turns statuses into exit codes. */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/watch.h"
#include "command.h"
#include "config/text.h"
#include "io/alike.h"
#include "mpi/file_hints.h"
#include "mpi/stop.h"
#include "version.h"

static void write_usage(FILE *file)
{
    fputs("usage: shardq COMMAND [options]        shardq COMMAND --help        shardq --version\n\n", file);
    for (const struct sq_command *const *c = sq_commands; *c; c++)
        fprintf(file, "  %-11s %s\n", (*c)->name, (*c)->summary);
    fputs("\nquantize, assemble, eval, verify and bench run on many ranks: mpirun -n RANKS shardq COMMAND ...\n"
          "A first model, step by step: shardq help tutorial\n",
          file);
}

static int refuse_command(const char *name)
{
    char hint[96];
    struct sq_nearest nearest = {.word = name};
    for (const struct sq_command *const *c = sq_commands; *c; c++)
        sq_nearest_try(&nearest, (*c)->name);
    sq_nearest_try(&nearest, "--help");
    sq_nearest_try(&nearest, "--version");
    sq_error("unknown command %s%s", name, sq_nearest_hint(&nearest, hint));
    return sq_status_exit_code(SQ_ERR_USAGE);
}

struct words {
    const struct sq_command *command;
    int argc;
    char **argv;
    struct sq_config *config;
    struct sq_comm *world;
};

static enum sq_status read_options(void *context)
{
    const struct words *words = context;
    SQ_TRY(sq_config_parse(words->argc, words->argv, words->command->mask, words->config));
    const struct sq_string_list *hints = &words->config->file_hints;
    return words->command->needs_mpi ? sq_file_hints_set(hints->items, hints->count, words->world) : SQ_OK;
}

/* On every rank or none. */
static enum sq_status show_signs(const struct sq_comm *world, enum sq_status status)
{
    SQ_TRY(sq_comm_agree(world, status));
    return sq_comm_show_signs(world);
}

/* Under --strict a log that lacks events makes a job fail that is done. */
static enum sq_status close_log(const struct sq_config *config, enum sq_status status)
{
    sq_log_close();
    if (status != SQ_OK || !config->strict || !sq_log_is_cut()) return status;
    sq_error("--strict: log file %s could not be written to its end", config->log);
    return SQ_ERR_STRICT;
}

static enum sq_status run_command(const struct sq_command *command, struct sq_comm *world, int argc, char **argv)
{
    struct sq_config config = {0};
    struct words words = {command, argc, argv, &config, world};
    enum sq_status status = sq_comm_first_rank_first(world, read_options, &words);
    if (status != SQ_OK) goto out_release;
    if (command->needs_mpi && !config.help) status = sq_alike_settings(world, &config);
    if (status != SQ_OK) goto out_release;
    if (config.help) {
        if (world->rank == 0) sq_config_write_help(command->name, command->summary, command->mask, stdout);
    } else {
        if (world->size > 1) status = sq_watch_start(config.timeout_seconds);
        if (world->size > 1 && config.timeout_seconds > 0) status = show_signs(world, status);
        if (config.log && status == SQ_OK) status = sq_log_open_events(config.log);
        if (command->needs_mpi) status = sq_comm_agree(world, status);
        if (status == SQ_OK) status = command->run(&config, world);
        status = close_log(&config, status);
    }
out_release:
    sq_file_hints_release(world);
    sq_config_release(&config);
    return status;
}

/* Results that could not be written are an error, too. */
static enum sq_status flush_results(void)
{
    if (fflush(stdout) == 0 && !ferror(stdout)) return SQ_OK;
    sq_error("cannot write to standard output");
    return SQ_ERR_IO;
}

static int start_command(const struct sq_command *command, int argc, char **argv)
{
    struct sq_comm world = {.size = 1};
    if (command->stops_at_signals) sq_stop_catch_signals(); /* before MPI starts, which may take a while */
    if (command->needs_mpi) {
        enum sq_status started = sq_comm_init(&argc, &argv, &world);
        if (started != SQ_OK) return sq_status_exit_code(started);
    }
    enum sq_status status = run_command(command, &world, argc - 2, argv + 2);
    if (status == SQ_OK) status = flush_results();
    if (command->needs_mpi) {
        status = sq_comm_agree(&world, status);
        sq_comm_finalize();
    }
    return sq_status_exit_code(status);
}

static int show(void (*write)(FILE *))
{
    write(stdout);
    return sq_status_exit_code(flush_results());
}

static bool asks_for_help(int argc, char **argv)
{
    for (int i = 0; i < argc; i++)
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) return true;
    return false;
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    if (argc < 2) {
        write_usage(stderr);
        return sq_status_exit_code(SQ_ERR_USAGE);
    }
    if (asks_for_help(1, argv + 1)) return show(write_usage);
    if (!strcmp(name, "--version")) return show(sq_version_write);
    const struct sq_command *command = sq_command_find(name);
    if (!command) return refuse_command(name);
    if (!command->hand_over) return start_command(command, argc, argv);
    if (!asks_for_help(argc - 2, argv + 2)) return command->hand_over(argc - 2, argv + 2);
    sq_config_write_help(command->name, command->summary, command->mask, stdout);
    return sq_status_exit_code(flush_results());
}
