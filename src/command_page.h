/* The page of a command, and of the program itself (command NULL): its text from docs/commands/, the rest from the
 * tables. */
#ifndef SQ_COMMAND_PAGE_H
#define SQ_COMMAND_PAGE_H

#include <stdio.h>

#include "command.h"
#include "help/pages.h"

void sq_command_page_write_terminal(const struct sq_command *command, int columns, bool is_styled, FILE *file);

/* As source for man(1). */
void sq_command_page_write_man(const struct sq_command *command, FILE *file);
void sq_page_write_man(const struct sq_page *page, FILE *file);

#endif
