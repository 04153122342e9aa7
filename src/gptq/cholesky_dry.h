/* When the columns of a factorization that ranks share come, on a dry backend and a dry communicator: as a rank goes
 * through it that makes its own columns and waits for those of others. */
#ifndef SQ_GPTQ_CHOLESKY_DRY_H
#define SQ_GPTQ_CHOLESKY_DRY_H

#include "gptq/links_clock.h"

/* Starts as {links}; the first column is this rank's. */
struct sq_columns_clock {
    struct sq_links_clock links;
    double on_links; /* seconds that the column on its way is there */
    double there;    /* when it is on all ranks; then: when the last one was */
};

/* The next column is made by fn, of this rank or of one that begins when the column before is there: no rank is further
 * behind than this one. Then it is on its way. Local. */
enum sq_status sq_columns_clock_make(struct sq_columns_clock *clock, bool is_own, enum sq_status (*fn)(void *context),
                                     void *context, size_t bytes) SQ_MUST_CHECK;

/* The column is waited for. Of what links took for it and for the word of its owner's status, which comes with it, the
 * rest went by beside the work. Local. */
void sq_columns_clock_wait(struct sq_columns_clock *clock);

#endif
