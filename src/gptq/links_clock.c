#include "gptq/links_clock.h"

#include "tensor/dry.h"

double sq_links_clock_now(const struct sq_links_clock *clock)
{
    return sq_dry_seconds(clock->backend) + clock->waited;
}

double sq_links_clock_seconds(const struct sq_links_clock *clock, enum sq_traffic_kind kind, size_t bytes)
{
    const struct sq_dry_links *links = clock->comm->traffic->links;
    return links ? links->seconds(links, kind, (double)bytes) : 0;
}

void sq_links_clock_wait(struct sq_links_clock *clock, double until, double on_links)
{
    double wait = until - sq_links_clock_now(clock), link = wait < on_links ? wait : on_links;
    if (link < 0) link = 0;
    if (wait > link) sq_dry_wait(clock->backend, wait - link);
    clock->waited += link;
    clock->comm->traffic->seconds_beside += on_links - link;
}
