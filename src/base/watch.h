/* A watch over waits for other ranks: one that lasts longer than the limit ends the process with a message, since a
 * rank that has frozen, or a link that was cut, would let the others wait for ever. A thread of its own looks at the
 * clock, so that it does not matter in which library the wait is. Only time in which this process itself runs counts: a
 * job that was suspended as a whole goes on. The message names the ranks of this node that are silent. Local. */
#ifndef SQ_BASE_WATCH_H
#define SQ_BASE_WATCH_H

#include "base/peers.h"
#include "base/status.h"

/* Exit code of a process that has waited too long: its job can be resumed when all ranks are there again. */
#define SQ_EXIT_LOST 76

/* From now on no wait may last longer than this; 0: nothing is watched. SQ_ERR_LIBRARY when there can be no thread. */
enum sq_status sq_watch_start(int limit_seconds) SQ_MUST_CHECK;

/* From now on this rank gives signs of life there and looks for those of others; kept until the process ends. */
void sq_watch_set_peers(const struct sq_peers *peers);

/* Around each call that ends only when other ranks take part; they do not nest. what: a literal that names the call. */
void sq_watch_begin(const char *what);
void sq_watch_end(void);

#endif
