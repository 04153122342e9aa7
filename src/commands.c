/* The commands, in the order of the help. */
#include <string.h>

#include "command.h"

const struct sq_command *const sq_commands[] = {
    &sq_command_tokenize,
    &sq_command_quantize,
    &sq_command_eval,
    &sq_command_verify,
    &sq_command_assemble,
    &sq_command_plan,
    &sq_command_inspect,
    &sq_command_report,
    &sq_command_bench,
    &sq_command_config,
    &sq_command_help,
    &sq_command_completion,
    NULL,
};

const struct sq_command *sq_command_find(const char *name)
{
    for (const struct sq_command *const *c = sq_commands; *c; c++)
        if (!strcmp((*c)->name, name)) return *c;
    return NULL;
}
