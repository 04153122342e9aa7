/* The text of one option, for --help and for the reference. */
#ifndef SQ_CONFIG_DESCRIBE_H
#define SQ_CONFIG_DESCRIBE_H

#include "config/options.h"

/* Writes help, allowed values and, if asked, the default, without a line break. */
void sq_option_write_text(const struct sq_option *option, bool with_default, FILE *file);

/* The same, wrapped at 100 columns. Each line begins with `indent`; the
 * first one is taken to have `column` columns already and gets no indent when that is not 0. */
void sq_option_describe(const struct sq_option *option, bool with_default, const char *indent, int column, FILE *file);

/* The title above row `index` of a table. */
const char *sq_option_section(const struct sq_option *table, int index);

/* Writes "--ragged | --no-ragged", "--bits N" or "PATH". Returns the columns that it took. */
int sq_option_write_flags(const struct sq_option *option, FILE *file);

#endif
