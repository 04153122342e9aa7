/* NCCL of the stand-in: collectives, groups, failures and refusals. */
#define _DEFAULT_SOURCE /* usleep, setenv */
#include "cudasim_ranks.h"

/* --- sums --------------------------------------------------------------------------------------------------------- */

static int64_t value_of(int rank, size_t i)
{
    return ((int64_t)rank - 1) * ((int64_t)1 << 60) + (int64_t)i * (rank + 1); /* wraps round, and back */
}

static int64_t sum_of(int ranks, size_t i)
{
    uint64_t sum = 0;
    for (int k = 0; k < ranks; k++)
        sum += (uint64_t)value_of(k, i);
    return (int64_t)sum;
}

/* Upload, reduce, download, all in one stream; count is more than two chunks. */
static void sums(struct rank *r)
{
    const size_t count = 300001, bytes = count * sizeof(int64_t);
    int64_t *host, *device;
    open_rank(r);
    CHECK(cudaMallocHost((void **)&host, bytes) == cudaSuccess);
    CHECK(cudaMalloc((void **)&device, bytes) == cudaSuccess);
    for (int root = -1; root < r->ranks; root++) { /* -1: all-reduce */
        for (size_t i = 0; i < count; i++)
            host[i] = value_of(r->rank, i);
        CHECK(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, r->stream) == cudaSuccess);
        if (root < 0)
            CHECK(ncclAllReduce(device, device, count, ncclInt64, ncclSum, r->comm, r->stream) == ncclSuccess);
        else
            CHECK(ncclReduce(device, device, count, ncclInt64, ncclSum, root, r->comm, r->stream) == ncclSuccess);
        CHECK(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, r->stream) == cudaSuccess);
        CHECK(cudaStreamSynchronize(r->stream) == cudaSuccess);
        for (size_t i = 0; i < count; i++)
            CHECK(host[i] == (root < 0 || root == r->rank ? sum_of(r->ranks, i) : value_of(r->rank, i)));
    }
    CHECK(ncclAllReduce(device, device, 7, ncclInt64, ncclMax, r->comm, r->stream) == ncclSuccess);
    CHECK(cudaFree(device) == cudaSuccess && cudaFreeHost(host) == cudaSuccess);
    close_rank(r);
}

static void reductions(void **state)
{
    (void)state;
    run_all(sums);
}

/* --- gathers ------------------------------------------------------------------------------------------------------ */

/* Unequal parts, each from its owner, in one group; asked for with queries and not with a wait. */
static void gather(struct rank *r)
{
    unsigned char host[max_ranks * 100], *device;
    open_rank(r);
    CHECK(cudaMalloc((void **)&device, sizeof host) == cudaSuccess);
    CHECK(cudaMemsetAsync(device, 10 + r->rank, sizeof host, r->stream) == cudaSuccess);
    CHECK(ncclGroupStart() == ncclSuccess);
    for (int root = 0; root < r->ranks; root++) {
        unsigned char *part = device + root * 100;
        CHECK(ncclBroadcast(part, part, (size_t)(50 + root), ncclUint8, root, r->comm, r->stream) == ncclSuccess);
    }
    CHECK(ncclGroupEnd() == ncclSuccess);
    CHECK(cudaMemcpyAsync(host, device, sizeof host, cudaMemcpyDeviceToHost, r->stream) == cudaSuccess);
    while (cudaStreamQuery(r->stream) == cudaErrorNotReady) {
        ncclResult_t error;
        CHECK(ncclCommGetAsyncError(r->comm, &error) == ncclSuccess && error == ncclSuccess);
    }
    for (int i = 0; i < max_ranks * 100; i++)
        CHECK(host[i] == 10 + (i / 100 < r->ranks && i % 100 < 50 + i / 100 ? i / 100 : r->rank));
    CHECK(cudaFree(device) == cudaSuccess);
    close_rank(r);
}

static void groups(void **state)
{
    (void)state;
    run_all(gather);
}

/* --- order -------------------------------------------------------------------------------------------------------- */

/* Two streams, waited for in opposite orders on odd and even ranks; the collectives of one communicator keep their
 * turns. */
static void crossing(struct rank *r)
{
    cudaStream_t other;
    int64_t *device, host[2] = {0, 0};
    open_rank(r);
    CHECK(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking) == cudaSuccess);
    CHECK(cudaMalloc((void **)&device, 16) == cudaSuccess);
    CHECK(cudaMemsetAsync(device, 0, 8, r->stream) == cudaSuccess);
    CHECK(cudaMemsetAsync(device + 1, 1, 8, other) == cudaSuccess);
    CHECK(ncclAllReduce(device, device, 1, ncclInt64, ncclSum, r->comm, r->stream) == ncclSuccess);
    CHECK(ncclAllReduce(device + 1, device + 1, 1, ncclInt64, ncclSum, r->comm, other) == ncclSuccess);
    CHECK(cudaStreamSynchronize(r->rank % 2 ? other : r->stream) == cudaSuccess);
    CHECK(cudaDeviceSynchronize() == cudaSuccess);
    CHECK(cudaMemcpyAsync(host, device, 16, cudaMemcpyDeviceToHost, other) == cudaSuccess);
    CHECK(cudaStreamSynchronize(other) == cudaSuccess);
    CHECK(host[0] == 0 && host[1] == r->ranks * 0x0101010101010101);
    CHECK(cudaFree(device) == cudaSuccess && cudaStreamDestroy(other) == cudaSuccess);
    close_rank(r);
}

/* Rank 0 waits for its stream, then signals; the others wait for the signal first, as in an MPI call. */
static void host_waits(struct rank *r)
{
    int64_t *device;
    char byte = 0;
    open_rank(r);
    CHECK(cudaMalloc((void **)&device, 8) == cudaSuccess);
    CHECK(cudaMemsetAsync(device, 0, 8, r->stream) == cudaSuccess);
    CHECK(ncclAllReduce(device, device, 1, ncclInt64, ncclSum, r->comm, r->stream) == ncclSuccess);
    if (r->rank == 0) CHECK(cudaStreamSynchronize(r->stream) == cudaSuccess);
    for (int i = 1; i < r->ranks && r->rank == 0; i++)
        CHECK(write(r->bell[1], &byte, 1) == 1);
    if (r->rank > 0) CHECK(read(r->bell[0], &byte, 1) == 1);
    CHECK(cudaFree(device) == cudaSuccess);
    close_rank(r);
}

static void orders(void **state)
{
    (void)state;
    run_all(crossing);
    run_all(host_waits);
}

/* --- failures ----------------------------------------------------------------------------------------------------- */

static void different_counts(struct rank *r)
{
    int64_t *device;
    open_rank(r);
    CHECK(cudaMalloc((void **)&device, 80) == cudaSuccess);
    CHECK(cudaMemsetAsync(device, 0, 80, r->stream) == cudaSuccess);
    CHECK(ncclAllReduce(device, device, r->rank == 1 ? 9 : 10, ncclInt64, ncclSum, r->comm, r->stream) == ncclSuccess);
    expect_failure(r, ncclInvalidUsage, r->ranks);
}

static void different_calls(struct rank *r)
{
    int64_t *device;
    open_rank(r);
    CHECK(cudaMalloc((void **)&device, 80) == cudaSuccess);
    CHECK(cudaMemsetAsync(device, 0, 80, r->stream) == cudaSuccess);
    if (r->rank == 1)
        CHECK(ncclBroadcast(device, device, 80, ncclUint8, 0, r->comm, r->stream) == ncclSuccess);
    else
        CHECK(ncclAllReduce(device, device, 10, ncclInt64, ncclSum, r->comm, r->stream) == ncclSuccess);
    setenv("CUDASIM_NCCL_TIMEOUT", "1", 1);
    cudaStreamSynchronize(r->stream); /* a GPU would hang here */
    CHECK(false);
}

static void one_dies(struct rank *r)
{
    int64_t *device;
    open_rank(r);
    if (r->rank == 1) _exit(3);
    CHECK(cudaMalloc((void **)&device, 80) == cudaSuccess);
    CHECK(cudaMemsetAsync(device, 0, 80, r->stream) == cudaSuccess);
    CHECK(ncclAllReduce(device, device, 10, ncclInt64, ncclSum, r->comm, r->stream) == ncclSuccess);
    expect_failure(r, ncclRemoteError, r->ranks - 1);
}

static void one_leaves(struct rank *r)
{
    int64_t *device;
    open_rank(r);
    if (r->rank == 1) {
        close_rank(r);
        exit(3);
    }
    CHECK(cudaMalloc((void **)&device, 80) == cudaSuccess);
    CHECK(cudaMemsetAsync(device, 0, 80, r->stream) == cudaSuccess);
    CHECK(ncclAllReduce(device, device, 10, ncclInt64, ncclSum, r->comm, r->stream) == ncclSuccess);
    expect_failure(r, ncclRemoteError, r->ranks - 1);
}

/* Beside others of its node. */
static void one_is_waited_for(struct rank *r)
{
    int64_t *device;
    ncclResult_t error;
    open_rank(r);
    if (r->rank == 1) _exit(3);
    CHECK(cudaMalloc((void **)&device, 80) == cudaSuccess);
    CHECK(cudaMemsetAsync(device, 0, 80, r->stream) == cudaSuccess);
    CHECK(ncclAllReduce(device, device, 10, ncclInt64, ncclSum, r->comm, r->stream) == ncclSuccess);
    for (int i = 0; i < 1000; i++) {
        CHECK(cudaStreamQuery(r->stream) == cudaErrorNotReady);
        CHECK(ncclCommGetAsyncError(r->comm, &error) == ncclSuccess && error == ncclSuccess);
    }
    cudaStreamSynchronize(r->stream); /* a GPU would hang here */
    CHECK(false);
}

static void failures(void **state)
{
    static const int second_ends[] = {0, 3, 0, 0}, all_abort[] = {134, 134, 134, 134}, other_aborts[] = {134, 3};
    (void)state;
    run_ranks(3, "late", different_counts, NULL, "collectives do not match: ncclAllReduce of ");
    setenv("CUDASIM_NCCL_TIMEOUT", "1", 1);
    run_ranks(2, "late", different_calls, all_abort, "would wait for ever for the end of nccl");
    unsetenv("CUDASIM_NCCL_TIMEOUT");
    setenv("CUDASIM_LOST", "seen", 1);
    run_ranks(3, "late", one_dies, second_ends, "rank 1 is no longer there");
    run_ranks(3, "late", one_leaves, second_ends, "rank 1 destroyed its communicator");
    unsetenv("CUDASIM_LOST");
    setenv("CUDASIM_NCCL_TIMEOUT", "1", 1);
    run_ranks(2, "late", one_is_waited_for, other_aborts, "would wait for ever for the end of nccl");
    unsetenv("CUDASIM_NCCL_TIMEOUT");
}

/* --- refusals ----------------------------------------------------------------------------------------------------- */

static void same_device(struct rank *r)
{
    get_id(r);
    CHECK(ncclCommInitRank(&r->comm, r->ranks, r->id, r->rank) == ncclInvalidUsage);
    CHECK(strstr(ncclGetLastError(NULL), "Duplicate GPU"));
}

static void one_is_missing(struct rank *r)
{
    get_id(r);
    if (r->rank == 1) exit(3);
    CHECK(ncclCommInitRank(&r->comm, r->ranks, r->id, r->rank) == ncclSystemError);
}

static void bad_arguments(struct rank *r)
{
    int64_t *device, host[4];
    ncclUniqueId nothing = {"/proc/0/fd/0"};
    open_rank(r);
    CHECK(cudaMalloc((void **)&device, 32) == cudaSuccess);
    CHECK(cudaMemsetAsync(device, 0, 32, r->stream) == cudaSuccess);
    CHECK(ncclAllReduce(host, device, 4, ncclInt64, ncclSum, r->comm, r->stream) == ncclInvalidArgument);
    CHECK(ncclAllReduce(device, host, 4, ncclInt64, ncclSum, r->comm, r->stream) == ncclInvalidArgument);
    CHECK(ncclAllReduce(device, device, 5, ncclInt64, ncclSum, r->comm, r->stream) == ncclInvalidArgument);
    CHECK(ncclAllReduce(device, device, 32, ncclUint8, ncclSum, r->comm, r->stream) == ncclInvalidArgument);
    CHECK(ncclReduce(device, device, 4, ncclInt64, ncclSum, r->ranks, r->comm, r->stream) == ncclInvalidArgument);
    CHECK(ncclAllReduce(device, device, 4, ncclInt64, ncclSum, NULL, r->stream) == ncclInvalidArgument);
    CHECK(ncclGroupEnd() == ncclInvalidUsage);
    CHECK(ncclCommInitRank(&(ncclComm_t){0}, r->ranks, nothing, r->rank) == ncclInvalidArgument);
    CHECK(ncclCommInitRank(&(ncclComm_t){0}, r->ranks, r->id, r->rank) == ncclInvalidUsage);
    cudasim_fail("nccl", 2);
    CHECK(ncclAllReduce(device, device, 4, ncclInt64, ncclSum, r->comm, r->stream) == ncclSuccess);
    CHECK(ncclAllReduce(device, device, 4, ncclInt64, ncclSum, r->comm, r->stream) == ncclSystemError);
    CHECK(cudaFree(device) == cudaSuccess);
    close_rank(r);
}

static void refusals(void **state)
{
    static const int second_ends[] = {0, 3, 0, 0}, leaks[] = {70, 70};
    (void)state;
    run_ranks(2, "late", same_device, NULL, "both on device 0");
    setenv("CUDASIM_NCCL_TIMEOUT", "1", 1);
    run_ranks(3, "late", one_is_missing, second_ends, "waited in vain for the other ranks");
    unsetenv("CUDASIM_NCCL_TIMEOUT");
    run_ranks(2, "late", bad_arguments, NULL, "NCCL send buffer: not memory of device");
    run_ranks(2, "late", open_rank, leaks, "1 of NCCL communicators left at exit");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reductions), cmocka_unit_test(groups),   cmocka_unit_test(orders),
        cmocka_unit_test(failures),   cmocka_unit_test(refusals),
    };
    setenv("CUDASIM_DEVICES", "4", 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
