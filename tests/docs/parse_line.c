/* parse_line COMMAND WORD...: reads a command line with the program's own option parser, and does nothing. For lines of
 * the documentation that cannot be run where the tests run. */
#include <stdio.h>
#include <string.h>

#include "config/config.h"

static const struct {
    unsigned command;
    const char *name;
} commands[] = {
#define X(bit_name, bit, text) {bit_name, text},
    SQ_COMMAND_LIST(X)
#undef X
};

static enum sq_status parse(unsigned command, int argc, char **argv)
{
    struct sq_config config;
    if (command == SQ_COMMAND_TOKENIZE) return sq_config_check_flags(argc, argv, command);
    SQ_TRY(sq_config_parse(argc, argv, command, &config));
    sq_config_release(&config);
    return SQ_OK;
}

int main(int argc, char **argv)
{
    for (size_t i = 0; argc > 1 && i < sizeof commands / sizeof *commands; i++)
        if (!strcmp(commands[i].name, argv[1])) return parse(commands[i].command, argc - 2, argv + 2) != SQ_OK;
    fprintf(stderr, "no such command: %s\n", argc > 1 ? argv[1] : "");
    return 1;
}
