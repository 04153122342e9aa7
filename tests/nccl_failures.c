/* A rank that takes no part in a collective of devices: nccl_failures CASE, on two ranks or more, each with a device of
 * the stand-in for CUDA. The last rank fails, and none of them comes to the end: exit code 99. */
#define _DEFAULT_SOURCE /* setenv, pause */
#include <cudasim.h>

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/trace.h"
#include "base/watch.h"
#include "cuda/cuda_backend.h"
#include "cuda/nccl.h"
#include "gptq/cholesky.h"
#include "mpi/comm_memory.h"

#define PART 1000        /* bytes of each rank's part of a gather */
#define PARTS_BYTES 4000 /* of all of them, at most */
#define EDGE 16          /* of a factor's tiles */

struct failing {
    struct sq_comm comm;
    struct sq_backend *backend;
    unsigned char *buffer; /* backend memory, [PARTS_BYTES] */
    bool is_last;          /* of the ranks: the one that fails */
};

/* Success, or the end of the test by an exit code that the job does not have. */
static void expect(bool good)
{
    if (!good) sq_comm_abort(98);
}

static void *zeros(const struct failing *f, size_t bytes)
{
    void *memory = NULL;
    expect(f->backend->ops->alloc(f->backend, "a buffer", bytes, &memory) == SQ_OK);
    expect(f->backend->ops->clear(f->backend, memory, bytes) == SQ_OK);
    return memory;
}

/* The n-th call of this kind fails from here, on the last rank. */
static void fail(const struct failing *f, const char *kind, long n)
{
    cudasim_fail(kind, f->is_last ? n : 0);
}

static void attach(struct failing *f)
{
    expect(sq_nccl_attach(&f->comm, f->backend) == SQ_OK);
}

/* --- cases -------------------------------------------------------------------------------------------------------- */

static enum sq_status join(struct failing *f)
{
    fail(f, "nccl", 1);
    return sq_nccl_attach(&f->comm, f->backend);
}

static enum sq_status sum(struct failing *f)
{
    attach(f);
    expect(sq_comm_memory_sum_i64(&f->comm, f->backend, (int64_t *)f->buffer, 1) == SQ_OK);
    fail(f, "nccl", 1);
    return sq_comm_memory_sum_i64(&f->comm, f->backend, (int64_t *)f->buffer, 1);
}

/* The second sum on its way. */
static enum sq_status reduce(struct failing *f)
{
    int64_t *values = (int64_t *)f->buffer;
    attach(f);
    expect(sq_comm_memory_start_sum_i64(&f->comm, f->backend, 0, -1, values, 1) == SQ_OK);
    fail(f, "nccl", 1);
    expect(sq_comm_memory_start_sum_i64(&f->comm, f->backend, 1, f->comm.size - 1, values + 1, 1) == SQ_OK);
    expect(sq_comm_memory_finish_sum(&f->comm, 0) == SQ_OK);
    return sq_comm_memory_finish_sum(&f->comm, 1);
}

/* What the worker was given cannot be waited for: before NCCL gets any work. */
static enum sq_status mark(struct failing *f)
{
    attach(f);
    sq_trace_start();
    fail(f, "create", 1); /* a time, which only a trace asks for */
    return sq_comm_memory_broadcast(&f->comm, f->backend, 0, f->buffer, PART);
}

static enum sq_status start_gather(struct failing *f, int lane)
{
    size_t shares[2 * PARTS_BYTES / PART];
    for (int rank = 0; rank < f->comm.size; rank++) {
        shares[rank] = (size_t)rank * PART;
        shares[f->comm.size + rank] = PART;
    }
    return sq_comm_memory_start_gather(&f->comm, f->backend, lane, f->buffer, shares, shares + f->comm.size);
}

/* The second part of two is missing, of the second gather on its way. */
static enum sq_status gather(struct failing *f)
{
    attach(f);
    expect(start_gather(f, 0) == SQ_OK);
    fail(f, "nccl", 2);
    expect(start_gather(f, 1) == SQ_OK);
    return sq_comm_memory_finish_gather(&f->comm, 1);
}

/* One rank fails when it waits for the end. */
static enum sq_status wait(struct failing *f)
{
    attach(f);
    expect(start_gather(f, 0) == SQ_OK);
    fail(f, "sync", 1);
    expect(sq_comm_memory_finish_gather(&f->comm, 0) == SQ_OK);
    return sq_comm_memory_sum_i64(&f->comm, f->backend, (int64_t *)f->buffer, 1); /* for which the others wait */
}

static enum sq_status broadcast(struct failing *f)
{
    struct sq_comm_started started;
    attach(f);
    fail(f, "nccl", 1);
    expect(sq_comm_memory_start_broadcast(&f->comm, f->backend, f->comm.size - 1, f->buffer, PART, &started) == SQ_OK);
    return sq_comm_memory_finish_broadcast(&f->comm, &started);
}

/* The first of its parts is there, the second is missing. */
static enum sq_status exchange(struct failing *f)
{
    size_t bytes[PARTS_BYTES / PART];
    void *from = zeros(f, PARTS_BYTES);
    for (int rank = 0; rank < f->comm.size; rank++)
        bytes[rank] = PART;
    attach(f);
    expect(sq_comm_memory_exchange(&f->comm, f->backend, from, bytes, f->buffer, bytes) == SQ_OK);
    fail(f, "nccl", 2);
    return sq_comm_memory_exchange(&f->comm, f->backend, from, bytes, f->buffer, bytes);
}

/* In the middle of a factorization, whose ranks also tell each other of columns by MPI. */
static enum sq_status factor(struct failing *f)
{
    enum { N = 6 * EDGE };
    float matrix[N * N] = {0};
    for (int i = 0; i < N; i++)
        matrix[i * N + i] = 1;
    attach(f);
    f->backend->sizes.factor_tile = EDGE;
    void *device_matrix = zeros(f, sizeof matrix), *panel = zeros(f, sizeof *matrix * N * EDGE);
    expect(f->backend->ops->upload(f->backend, matrix, sizeof matrix, device_matrix) == SQ_OK);
    fail(f, "nccl", 3); /* the third column */
    return sq_cholesky_make(f->backend, &f->comm, panel, sq_matrix_view(device_matrix, SQ_F32, N, N));
}

/* As by kill -9. */
static enum sq_status die(struct failing *f)
{
    attach(f);
    if (f->is_last) raise(SIGKILL);
    return sq_comm_memory_sum_i64(&f->comm, f->backend, (int64_t *)f->buffer, 1);
}

/* It leaves the communicator and is heard of no more, but nobody ends the job. */
static enum sq_status lose(struct failing *f)
{
    attach(f);
    expect(sq_watch_start(3) == SQ_OK);
    if (f->is_last) {
        f->comm.device->destroy(f->comm.device);
        for (;;)
            pause();
    }
    return sq_comm_memory_sum_i64(&f->comm, f->backend, (int64_t *)f->buffer, 1);
}

static const struct {
    const char *name;
    enum sq_status (*run)(struct failing *f);
} cases[] = {{"join", join},           {"sum", sum},           {"reduce", reduce}, {"mark", mark},
             {"gather", gather},       {"wait", wait},         {"die", die},       {"lose", lose},
             {"broadcast", broadcast}, {"exchange", exchange}, {"factor", factor}};

int main(int argc, char **argv)
{
    struct failing f = {.is_last = false};
    setenv("CUDASIM_DEVICES", "3", 1); /* one for each rank */
    if (sq_comm_init(&argc, &argv, &f.comm) != SQ_OK) return 98;
    f.is_last = f.comm.rank == f.comm.size - 1;
    expect(argc == 2 && f.comm.size >= 2 && f.comm.size * PART <= PARTS_BYTES);
    expect(sq_backend_create_cuda(f.comm.rank, 1, &f.backend) == SQ_OK);
    f.buffer = zeros(&f, PARTS_BYTES);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (strcmp(argv[1], cases[i].name) == 0) (void)cases[i].run(&f);
    sq_comm_abort(99);
}
