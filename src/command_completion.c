/* shardq completion: a script for the user's shell. */
#include <string.h>

#include "command.h"
#include "completion.h"

static enum sq_status run(const struct sq_config *config, const struct sq_comm *world)
{
    (void)world;
    if (!strcmp(config->shell, "bash"))
        sq_completion_write_bash(stdout);
    else
        sq_completion_write_zsh(stdout);
    return SQ_OK;
}

const struct sq_command sq_command_completion = {
    .name = "completion",
    .summary = "Prints a script that completes commands, options and values in bash or zsh.",
    .mask = SQ_COMMAND_COMPLETION,
    .run = run,
};
