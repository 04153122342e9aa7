/* Regular expressions (PCRE2) for names of modules. */
#ifndef SQ_CONFIG_PATTERN_H
#define SQ_CONFIG_PATTERN_H

#include <stdbool.h>

#include "base/status.h"

struct sq_pattern;

/* text: valid UTF-8; copied. from_start: it is to match at the name's first character, else anywhere in it.
 * SQ_ERR_USAGE behind `where` when it is no regular expression. Released with sq_pattern_release(). Local. */
enum sq_status sq_pattern_compile(const char *where, const char *text, bool from_start,
                                  struct sq_pattern **pattern_p) SQ_MUST_CHECK;
void sq_pattern_release(struct sq_pattern *pattern);

/* Thread-safe. SQ_ERR_USAGE naming the pattern when PCRE2 gives up on the name. Local. */
enum sq_status sq_pattern_matches(const struct sq_pattern *pattern, const char *name, bool *matches_p) SQ_MUST_CHECK;

#endif
