/* What each checkpoint format can hold. */
#ifndef SQ_CONFIG_FORMAT_H
#define SQ_CONFIG_FORMAT_H

#include <stdbool.h>

#include "base/status.h"
#include "config/config.h"

/* SQ_ERR_USAGE when the format cannot hold layers of so many bits, or asymmetric ones: the message names what it holds
 * and what does hold them. `layer`: the name of one such, or NULL when it is the job's setting. SQ_FORMAT_AUTO holds
 * all. Local. */
enum sq_status sq_format_check(enum sq_format format, int bits, bool symmetric, const char *layer) SQ_MUST_CHECK;

/* SQ_ERR_USAGE when the format cannot hold a layer whose last group is shorter than the others; `layer` as above.
 * Local. */
enum sq_status sq_format_check_ragged(enum sq_format format, const char *layer) SQ_MUST_CHECK;

/* What auto stands for: gptq when it holds every layer, else gptq_v2. Local. */
bool sq_format_holds(enum sq_format format, int bits, bool symmetric);

#endif
