#include "gptq/cholesky_dry.h"

#include "tensor/dry.h"

enum sq_status sq_columns_clock_make(struct sq_columns_clock *clock, bool is_own, enum sq_status (*fn)(void *context),
                                     void *context, size_t bytes)
{
    double seconds = 0, begin = clock->there;
    if (is_own) {
        SQ_TRY(fn(context));
        begin = sq_links_clock_now(&clock->links);
    } else {
        SQ_TRY(sq_dry_elsewhere(clock->links.backend, fn, context, &seconds));
    }
    clock->on_links = sq_links_clock_seconds(&clock->links, SQ_TRAFFIC_MEMORY, bytes);
    clock->there = begin + seconds + clock->on_links;
    return SQ_OK;
}

void sq_columns_clock_wait(struct sq_columns_clock *clock)
{
    struct sq_traffic *traffic = clock->links.comm->traffic;
    sq_links_clock_wait(&clock->links, clock->there, clock->on_links);
    traffic->seconds_beside += sq_links_clock_seconds(&clock->links, SQ_TRAFFIC_BROADCAST, sizeof(enum sq_status));
}
