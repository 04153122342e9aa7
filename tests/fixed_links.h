/* Links of a dry communicator where each collective of some kinds takes as long as the others, and what is told beside
 * them no time. */
#ifndef SQ_TESTS_FIXED_LINKS_H
#define SQ_TESTS_FIXED_LINKS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "mpi/comm.h"

struct fixed_links {
    struct sq_dry_links base;
    unsigned kinds; /* bits of sq_traffic_kind */
    double seconds;
};

static double fixed_link_seconds(const struct sq_dry_links *base, enum sq_traffic_kind kind, double bytes)
{
    const struct fixed_links *links = (const struct fixed_links *)base;
    assert_true(bytes > 0);
    return links->kinds >> kind & 1 ? links->seconds : 0;
}

#endif
