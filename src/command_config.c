/* shardq config: the reference of all options. */
#include <stdio.h>

#include "command.h"

static enum sq_status run(const struct sq_config *config, const struct sq_comm *world)
{
    (void)world;
    sq_config_write_reference(config, stdout);
    return SQ_OK;
}

const struct sq_command sq_command_config = {
    .name = "config",
    .summary = "Prints every option with its help, as a configuration file; options given set its values.",
    .mask = SQ_COMMAND_CONFIG,
    .needs_mpi = false,
    .run = run,
};
