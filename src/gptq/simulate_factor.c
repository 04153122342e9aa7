/* One factorization by itself, so that a plan can say whether it pays to share it. */
#include "gptq/simulate_private.h"

static enum sq_status make_factor(struct sq_backend *backend, const struct sq_comm *comm, int64_t n, bool is_spread)
{
    struct sq_factor factor;
    SQ_TRY(sq_factor_create(backend, n, is_spread ? 1 : SQ_FACTOR_ALONE, &factor));
    enum sq_status status = sq_factor_make(backend, comm, n, SQ_ORDER_ACTIVATION, 0, &factor);
    sq_factor_destroy(backend, &factor);
    return status;
}

enum sq_status sq_simulate_factor(const struct sq_memory_request *request, const struct sq_machine *machine,
                                  int n_ranks, int64_t n, bool is_spread, double *seconds_p)
{
    const struct sq_machine_links links = sq_machine_links(machine, n_ranks);
    const struct sq_traffic none = {.is_dry = true, .links = &links.base};
    struct sq_traffic traffic = none;
    const struct sq_comm comm = {.size = n_ranks, .traffic = &traffic};
    struct sq_backend *backend;
    SQ_TRY(sq_backend_create_dry(request->traits, request->n_workers, &machine->rates, &backend));
    enum sq_status status = make_factor(backend, &comm, n, is_spread);
    double seconds = sq_dry_seconds(backend) + sq_dry_link_seconds(&links, &none, &traffic);
    backend->ops->destroy(backend);
    if (status != SQ_OK) return status;
    *seconds_p = seconds;
    return SQ_OK;
}
