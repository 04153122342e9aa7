#include "gptq/cholesky_dry.h"

#include "tensor/dry.h"

static double now(const struct sq_columns_clock *clock)
{
    return sq_dry_seconds(clock->backend) + clock->waited;
}

static double on_links(const struct sq_columns_clock *clock, enum sq_traffic_kind kind, size_t bytes)
{
    const struct sq_dry_links *links = clock->comm->traffic->links;
    return links ? links->seconds(links, kind, (double)bytes) : 0;
}

enum sq_status sq_columns_clock_make(struct sq_columns_clock *clock, bool is_own, enum sq_status (*fn)(void *context),
                                     void *context, size_t bytes)
{
    double seconds = 0, begin = clock->there;
    if (is_own) {
        SQ_TRY(fn(context));
        begin = now(clock);
    } else {
        SQ_TRY(sq_dry_elsewhere(clock->backend, fn, context, &seconds));
    }
    clock->link = on_links(clock, SQ_TRAFFIC_MEMORY, bytes);
    clock->there = begin + seconds + clock->link;
    return SQ_OK;
}

void sq_columns_clock_wait(struct sq_columns_clock *clock)
{
    double wait = clock->there - now(clock), link = wait < clock->link ? wait : clock->link;
    if (link < 0) link = 0;
    if (wait > link) sq_dry_wait(clock->backend, wait - link);
    clock->waited += link;
    clock->comm->traffic->seconds_beside += clock->link - link;
    clock->comm->traffic->seconds_beside += on_links(clock, SQ_TRAFFIC_BROADCAST, sizeof(enum sq_status));
}
