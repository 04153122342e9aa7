/* Whether a person watches stderr. */
#ifndef SQ_BASE_TERMINAL_H
#define SQ_BASE_TERMINAL_H

#include <stdbool.h>

/* Whether stderr is a terminal, or a pipe to an mpirun on this node whose stderr is one. Local. */
bool sq_terminal_is_there(void);

/* Whether that terminal may be given colours: NO_COLOR is not set (no-color.org), and TERM is not dumb. Local. */
bool sq_terminal_has_colors(void);

/* Its columns; 80 where it does not say. Local. */
int sq_terminal_columns(void);

#endif
