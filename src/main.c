/* shardq: finds the command, reads its options, starts MPI where it is needed, and turns statuses into exit codes. */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/watch.h"
#include "command.h"
#include "config/text.h"

static const struct sq_command *const commands[] = {
    &sq_command_quantize, &sq_command_assemble, &sq_command_eval,   &sq_command_plan,
    &sq_command_verify,   &sq_command_inspect,  &sq_command_report, &sq_command_config,
};
#define N_COMMANDS (sizeof commands / sizeof *commands)

static void write_usage(FILE *file)
{
    fputs("usage: shardq COMMAND [options]        shardq COMMAND --help        shardq --version\n\n", file);
    for (size_t i = 0; i < N_COMMANDS; i++)
        fprintf(file, "  %-10s %s\n", commands[i]->name, commands[i]->summary);
    fputs("  tokenize   Makes a token file from text.\n\n"
          "quantize, assemble, eval and verify run on many ranks: mpirun -n RANKS shardq COMMAND ...\n",
          file);
}

static const struct sq_command *find_command(const char *name)
{
    for (size_t i = 0; i < N_COMMANDS; i++)
        if (!strcmp(commands[i]->name, name)) return commands[i];
    return NULL;
}

static int refuse_command(const char *name)
{
    char hint[96];
    struct sq_nearest nearest = {.word = name};
    for (size_t i = 0; i < N_COMMANDS; i++)
        sq_nearest_try(&nearest, commands[i]->name);
    sq_nearest_try(&nearest, "tokenize");
    sq_error("unknown command %s%s", name, sq_nearest_hint(&nearest, hint));
    return sq_status_exit_code(SQ_ERR_USAGE);
}

struct words {
    const struct sq_command *command;
    int argc;
    char **argv;
    struct sq_config *config;
};

static enum sq_status read_options(void *context)
{
    const struct words *words = context;
    return sq_config_parse(words->argc, words->argv, words->command->mask, words->config);
}

static enum sq_status run_command(const struct sq_command *command, const struct sq_comm *world, int argc, char **argv)
{
    struct sq_config config = {0};
    struct words words = {command, argc, argv, &config};
    enum sq_status status = sq_comm_first_rank_first(world, read_options, &words);
    if (status != SQ_OK) goto out_release;
    if (config.help) {
        if (world->rank == 0) sq_config_write_help(command->name, command->summary, command->mask, stdout);
    } else {
        if (world->size > 1) status = sq_watch_start(config.timeout_seconds);
        if (config.log && status == SQ_OK) status = sq_log_open_events(config.log);
        if (command->needs_mpi) status = sq_comm_agree(world, status);
        if (status == SQ_OK) status = command->run(&config, world);
        sq_log_close();
    }
out_release:
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

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    bool wants_help = !strcmp(name, "--help") || !strcmp(name, "-h") || !strcmp(name, "help");
    if (wants_help || argc < 2) {
        write_usage(wants_help ? stdout : stderr);
        return wants_help ? sq_status_exit_code(flush_results()) : sq_status_exit_code(SQ_ERR_USAGE);
    }
    if (!strcmp(name, "--version")) {
        puts("shardq " SHARDQ_VERSION);
        return sq_status_exit_code(flush_results());
    }
    if (!strcmp(name, "tokenize")) return sq_tokenize_exec(argc - 2, argv + 2);
    const struct sq_command *command = find_command(name);
    return command ? start_command(command, argc, argv) : refuse_command(name);
}
