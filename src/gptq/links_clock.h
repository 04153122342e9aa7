/* What a rank waits for links, on a dry backend and a dry communicator, where collectives go on beside its work. */
#ifndef SQ_GPTQ_LINKS_CLOCK_H
#define SQ_GPTQ_LINKS_CLOCK_H

#include "mpi/comm.h"
#include "tensor/backend.h"

/* Starts as {backend, comm}. Times by the backend's clock and what was waited for links. */
struct sq_links_clock {
    struct sq_backend *backend;
    const struct sq_comm *comm;
    double waited; /* seconds, for links */
};

double sq_links_clock_now(const struct sq_links_clock *clock);

/* Seconds that a collective of so many bytes is on links. Local. */
double sq_links_clock_seconds(const struct sq_links_clock *clock, enum sq_traffic_kind kind, size_t bytes);

/* Waits until a time, for somebody else's work and then for links, where this is for so many seconds; the rest of these
 * went by beside the work. Local. */
void sq_links_clock_wait(struct sq_links_clock *clock, double until, double on_links);

#endif
