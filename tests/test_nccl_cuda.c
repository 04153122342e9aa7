/* Collectives of devices, on the stand-in for CUDA: a rank that fails before it takes part lets the others go. */
#define _GNU_SOURCE
#include "ranks.h"

#include <cudasim.h>

#include "base/trace.h"
#include "cuda/cuda_backend.h"
#include "cuda/nccl.h"
#include "mpi/comm_memory.h"

#define BYTES 4096

/* The last rank cannot mark when its broadcast begins, which only a trace asks for. */
static enum sq_status broadcast(struct sq_backend *backend, const struct sq_comm *comm)
{
    void *memory = NULL;
    if (backend->ops->alloc(backend, "a buffer", BYTES, &memory) != SQ_OK) abort();
    if (backend->ops->clear(backend, memory, BYTES) != SQ_OK) abort();
    ranks_listen();
    sq_trace_start();
    cudasim_fail("create", comm->rank == comm->size - 1);
    enum sq_status status = sq_comm_memory_broadcast(comm, backend, 0, memory, BYTES);
    cudasim_fail("create", 0);
    sq_trace_stop();
    const char *text = capture_stop(&ranks.capture);
    if (comm->rank == comm->size - 1) CHECK(strstr(text, "CUDA: creating an event") != NULL);
    backend->ops->free(backend, memory);
    return status;
}

static void test_failure(void **state)
{
    (void)state;
    struct sq_backend *backend = NULL;
    struct sq_comm comm = ranks.comm;
    if (sq_backend_create_cuda(comm.rank, 1, &backend) != SQ_OK) abort();
    if (sq_nccl_attach(&comm, backend) != SQ_OK) abort();
    bool is_last = comm.rank == comm.size - 1;
    CHECK(broadcast(backend, &comm) == (is_last ? SQ_ERR_MEMORY : SQ_ERR_LIBRARY));
    ranks_barrier(); /* as ranks agree on what came of it, before any of them leaves */
    comm.device->destroy(comm.device);
    backend->ops->destroy(backend);
    ranks_end_test();
}

static int run(void)
{
    static const struct CMUnitTest tests[] = {cmocka_unit_test(test_failure)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(int argc, char **argv)
{
    setenv("CUDASIM_DEVICES", "3", 1); /* one for each rank */
    return ranks_main(&argc, &argv, run);
}
