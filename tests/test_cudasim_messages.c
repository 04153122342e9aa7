/* NCCL of the stand-in: sends and receives. */
#define _DEFAULT_SOURCE /* setenv */
#include "cudasim_ranks.h"

#define LARGE (((size_t)5 << 19) + 1) /* two and a half chunks, and a byte */

static unsigned char *device_memory(struct rank *r, size_t bytes)
{
    void *memory = NULL;
    CHECK(cudaMalloc(&memory, bytes) == cudaSuccess);
    CHECK(cudaMemsetAsync(memory, r->rank, bytes, r->stream) == cudaSuccess);
    return memory;
}

/* A rank with so much memory, which holds its number. */
static unsigned char *open_with(struct rank *r, size_t bytes)
{
    open_rank(r);
    return device_memory(r, bytes);
}

static void send(struct rank *r, const void *memory, size_t bytes, int to)
{
    CHECK(ncclSend(memory, bytes, ncclUint8, to, r->comm, r->stream) == ncclSuccess);
}

static void receive(struct rank *r, void *memory, size_t bytes, int from)
{
    CHECK(ncclRecv(memory, bytes, ncclUint8, from, r->comm, r->stream) == ncclSuccess);
}

static void sum(struct rank *r, void *memory)
{
    CHECK(ncclAllReduce(memory, memory, 1, ncclInt64, ncclSum, r->comm, r->stream) == ncclSuccess);
}

/* --- from all to all ---------------------------------------------------------------------------------------------- */

#define ROOM (LARGE + 20000)

/* Sizes of all kinds, none among them; what stays on a rank is sent, too. */
static size_t bytes_between(int from, int to)
{
    return (size_t)((from + 2 * to) % 5) * 333 + (from == 0 && to == 1 ? LARGE : 0);
}

static unsigned char byte_between(int from, int to, size_t i)
{
    return (unsigned char)(60 * from + 15 * to + (int)(i % 13));
}

/* One group: what this rank has for others, by rank, against what they have for it; or the way back. */
static void exchange(struct rank *r, const unsigned char *out, unsigned char *in, bool is_back)
{
    CHECK(ncclGroupStart() == ncclSuccess);
    for (int peer = 0; peer < r->ranks; peer++) {
        size_t to = bytes_between(r->rank, peer), from = bytes_between(peer, r->rank);
        send(r, out, is_back ? from : to, peer);
        receive(r, in, is_back ? to : from, peer);
        out += is_back ? from : to;
        in += is_back ? to : from;
    }
    CHECK(ncclGroupEnd() == ncclSuccess);
}

/* There, a sum, and back, in one stream; then each rank has its own again. */
static void there_and_back(struct rank *r)
{
    unsigned char *host, *out = NULL, *in = NULL, *again = NULL;
    size_t all = 0;
    open_rank(r);
    CHECK(cudaMallocHost((void **)&host, ROOM) == cudaSuccess);
    for (int to = 0; to < r->ranks; to++)
        for (size_t i = 0; i < bytes_between(r->rank, to); i++)
            host[all++] = byte_between(r->rank, to, i);
    out = device_memory(r, ROOM), in = device_memory(r, ROOM), again = device_memory(r, ROOM);
    CHECK(cudaMemcpyAsync(out, host, all, cudaMemcpyHostToDevice, r->stream) == cudaSuccess);
    exchange(r, out, in, false);
    sum(r, again);
    exchange(r, in, again, true);
    CHECK(cudaMemcpyAsync(host, again, all, cudaMemcpyDeviceToHost, r->stream) == cudaSuccess);
    CHECK(cudaStreamSynchronize(r->stream) == cudaSuccess);
    all = 0;
    for (int to = 0; to < r->ranks; to++)
        for (size_t i = 0; i < bytes_between(r->rank, to); i++)
            CHECK(host[all++] == byte_between(r->rank, to, i));
    CHECK(cudaMemcpyAsync(host, in, ROOM, cudaMemcpyDeviceToHost, r->stream) == cudaSuccess);
    CHECK(cudaStreamSynchronize(r->stream) == cudaSuccess);
    all = 0;
    for (int from = 0; from < r->ranks; from++)
        for (size_t i = 0; i < bytes_between(from, r->rank); i++)
            CHECK(host[all++] == byte_between(from, r->rank, i));
    CHECK(all == ROOM || host[all] == r->rank); /* and nothing behind */
    CHECK(cudaFree(out) == cudaSuccess && cudaFree(in) == cudaSuccess && cudaFree(again) == cudaSuccess);
    CHECK(cudaFreeHost(host) == cudaSuccess);
    close_rank(r);
}

static void all_to_all(void **state)
{
    (void)state;
    run_all(there_and_back);
}

/* --- some, and in turn -------------------------------------------------------------------------------------------- */

/* The last byte of the memory, which everything before it has reached. */
static unsigned char last_byte(struct rank *r, const unsigned char *memory, size_t bytes)
{
    unsigned char byte;
    CHECK(cudaMemcpyAsync(&byte, memory + bytes - 1, 1, cudaMemcpyDeviceToHost, r->stream) == cudaSuccess);
    CHECK(cudaStreamSynchronize(r->stream) == cudaSuccess);
    return byte;
}

/* From rank 0 to the last one, twice, while those between know nothing of it; then a sum of all. */
static void a_pair(struct rank *r)
{
    int last = r->ranks - 1;
    unsigned char *memory = open_with(r, LARGE);
    for (int i = 0; i < 2 && last > 0; i++) {
        if (r->rank == 0) send(r, memory, LARGE - (size_t)i, last);
        if (r->rank == last) receive(r, memory, LARGE - (size_t)i, 0);
    }
    CHECK(last_byte(r, memory, LARGE) == (r->rank == last ? 0 : r->rank));
    sum(r, memory);
    CHECK(cudaStreamSynchronize(r->stream) == cudaSuccess && cudaFree(memory) == cudaSuccess);
    close_rank(r);
}

/* Each rank waits for the one before it, rank 0 for the last: a byte goes round, without groups. */
static void a_round(struct rank *r)
{
    int next = (r->rank + 1) % r->ranks, previous = (r->rank + r->ranks - 1) % r->ranks;
    unsigned char *memory = open_with(r, 1);
    if (r->rank == 0 && r->ranks > 1) send(r, memory, 1, next);
    if (r->ranks > 1) receive(r, memory, 1, previous);
    if (r->rank > 0) send(r, memory, 1, next);
    CHECK(last_byte(r, memory, 1) == 0);
    CHECK(cudaStreamSynchronize(r->stream) == cudaSuccess && cudaFree(memory) == cudaSuccess);
    close_rank(r);
}

/* A group of both kinds: a broadcast, and a message to the next rank. */
static void a_mixture(struct rank *r)
{
    int next = (r->rank + 1) % r->ranks, previous = (r->rank + r->ranks - 1) % r->ranks;
    unsigned char *memory = open_with(r, 3);
    CHECK(ncclGroupStart() == ncclSuccess);
    receive(r, memory + 1, 1, previous);
    CHECK(ncclBroadcast(memory + 2, memory + 2, 1, ncclUint8, r->ranks - 1, r->comm, r->stream) == ncclSuccess);
    send(r, memory, 1, next);
    CHECK(ncclGroupEnd() == ncclSuccess);
    CHECK(last_byte(r, memory, 2) == previous && last_byte(r, memory, 3) == r->ranks - 1);
    CHECK(cudaFree(memory) == cudaSuccess);
    close_rank(r);
}

/* The other ranks' hosts are busy elsewhere when rank 0 waits for what their devices have for it, and it for them. */
static void host_waits(struct rank *r)
{
    char byte = 0;
    unsigned char *memory = open_with(r, LARGE), *other = device_memory(r, LARGE);
    CHECK(ncclGroupStart() == ncclSuccess);
    for (int peer = 1; peer < r->ranks && r->rank == 0; peer++) {
        receive(r, memory + peer, 1, peer);
        send(r, other, LARGE, peer);
    }
    if (r->rank > 0) send(r, memory, 1, 0);
    if (r->rank > 0) receive(r, other, LARGE, 0);
    CHECK(ncclGroupEnd() == ncclSuccess);
    if (r->rank == 0) CHECK(cudaStreamSynchronize(r->stream) == cudaSuccess);
    for (int i = 1; i < r->ranks && r->rank == 0; i++)
        CHECK(write(r->bell[1], &byte, 1) == 1);
    if (r->rank > 0) CHECK(read(r->bell[0], &byte, 1) == 1);
    CHECK(last_byte(r, other, LARGE) == 0);
    for (int peer = 1; peer < r->ranks && r->rank == 0; peer++)
        CHECK(last_byte(r, memory, (size_t)peer + 1) == peer);
    CHECK(cudaFree(memory) == cudaSuccess && cudaFree(other) == cudaSuccess);
    close_rank(r);
}

static void some(void **state)
{
    (void)state;
    run_all(a_pair);
    run_all(a_round);
    run_all(a_mixture);
    run_all(host_waits);
}

/* --- failures ----------------------------------------------------------------------------------------------------- */

static void other_size(struct rank *r)
{
    unsigned char *memory = open_with(r, 10);
    if (r->rank == 0) send(r, memory, 10, 1);
    if (r->rank == 1) receive(r, memory, 9, 0);
    expect_failure(r, ncclInvalidUsage, r->ranks);
}

static void other_type(struct rank *r)
{
    unsigned char *memory = open_with(r, 8);
    if (r->rank == 0) send(r, memory, 8, 1);
    if (r->rank == 1) CHECK(ncclRecv(memory, 1, ncclInt64, 0, r->comm, r->stream) == ncclSuccess);
    expect_failure(r, ncclInvalidUsage, r->ranks);
}

/* Rank 1 goes on to what comes next. */
static void no_receive(struct rank *r)
{
    unsigned char *memory = open_with(r, 8);
    if (r->rank == 0) send(r, memory, 8, 1);
    sum(r, memory);
    expect_failure(r, ncclInvalidUsage, r->ranks);
}

static void no_send(struct rank *r)
{
    unsigned char *memory = open_with(r, 8);
    if (r->rank == 1) receive(r, memory, 8, 0);
    sum(r, memory);
    expect_failure(r, ncclInvalidUsage, r->ranks);
}

/* Everyone sends to the next rank, and means to get something from there instead of from the one before. */
static void other_peer(struct rank *r)
{
    int next = (r->rank + 1) % r->ranks;
    unsigned char *memory = open_with(r, 2);
    CHECK(ncclGroupStart() == ncclSuccess);
    send(r, memory, 1, next);
    receive(r, memory + 1, 1, next);
    CHECK(ncclGroupEnd() == ncclSuccess);
    expect_failure(r, ncclInvalidUsage, r->ranks);
}

/* Without a group the first two ranks hold each other back, and the third one waits for one of them. */
static void both_send(struct rank *r)
{
    unsigned char *memory = open_with(r, 1);
    if (r->rank < 2) {
        send(r, memory, 1, 1 - r->rank);
        receive(r, memory, 1, 1 - r->rank);
    }
    if (r->rank == 0) send(r, memory, 1, 2);
    if (r->rank == 2) receive(r, memory, 1, 0);
    expect_failure(r, ncclInvalidUsage, r->ranks);
}

static void alone(struct rank *r)
{
    open_rank(r);
    send(r, device_memory(r, 1), 1, 0);
    expect_failure(r, ncclInvalidUsage, r->ranks);
}

static void mismatches(void **state)
{
    (void)state;
    run_ranks(2, "late", other_size, NULL, "messages do not match: nccl");
    run_ranks(2, "early", other_type, NULL, "messages do not match: nccl");
    run_ranks(2, "late", no_receive, NULL, "calls do not match: nccl");
    run_ranks(3, "late", no_send, NULL, "calls do not match: nccl");
    run_ranks(4, "early", other_peer, NULL, "calls do not match: ncclSend of 1 x uint8 to rank ");
    run_ranks(3, "1", other_peer, NULL, "calls do not match: ncclSend of 1 x uint8 to rank ");
    run_ranks(3, "late", both_send, NULL, "calls do not match: nccl");
    run_ranks(1, "late", alone, NULL, "calls do not match: ncclSend of 1 x uint8 to rank 0 waits for rank 0");
}

static void one_dies(struct rank *r)
{
    open_rank(r);
    if (r->rank == 1) _exit(3);
    receive(r, device_memory(r, 1), 1, 1);
    expect_failure(r, ncclRemoteError, r->ranks - 1);
}

static void one_leaves(struct rank *r)
{
    unsigned char *memory = open_with(r, 8);
    if (r->rank == 0) send(r, memory, 8, 1);
    if (r->rank == 1) receive(r, memory, 8, 0);
    CHECK(cudaStreamSynchronize(r->stream) == cudaSuccess);
    if (r->rank == 1) {
        CHECK(cudaFree(memory) == cudaSuccess);
        close_rank(r);
        exit(3);
    }
    send(r, memory, 8, 1); /* a second one */
    expect_failure(r, ncclRemoteError, r->ranks - 1);
}

/* Rank 1 knows nothing of it, and comes to nothing else that would show it. */
static void one_is_waited_for(struct rank *r)
{
    char byte;
    open_rank(r);
    if (r->rank == 1) {
        CHECK(read(r->bell[0], &byte, 1) == 1);
        _exit(3);
    }
    send(r, device_memory(r, 1), 1, 1);
    for (int i = 0; i < 1000; i++) {
        ncclResult_t error;
        CHECK(cudaStreamQuery(r->stream) == cudaErrorNotReady);
        CHECK(ncclCommGetAsyncError(r->comm, &error) == ncclSuccess && error == ncclSuccess);
    }
    CHECK(write(r->bell[1], "", 1) == 1);
    cudaStreamSynchronize(r->stream); /* a GPU would hang here */
    CHECK(false);
}

#ifndef __SANITIZE_ADDRESS__ /* which stands for the checks of what was written */
static void nothing_written(struct rank *r)
{
    void *memory = NULL;
    open_rank(r);
    CHECK(cudaMalloc(&memory, 8) == cudaSuccess);
    if (r->rank == 1) receive(r, memory, 8, 0);
    if (r->rank == 1) cudaStreamQuery(r->stream);
    meet(r, 2);
    if (r->rank == 1) _exit(3);
    send(r, memory, 8, 1);
    cudaStreamSynchronize(r->stream);
}
#endif

static void losses(void **state)
{
    static const int second_ends[] = {0, 3, 0}, first_aborts[] = {134, 3};
    (void)state;
    setenv("CUDASIM_LOST", "seen", 1);
    run_ranks(3, "late", one_dies, second_ends, "rank 1 is no longer there");
    run_ranks(2, "late", one_leaves, second_ends, "rank 1 destroyed its communicator");
    unsetenv("CUDASIM_LOST");
    setenv("CUDASIM_NCCL_TIMEOUT", "1", 1);
    run_ranks(2, "late", one_is_waited_for, first_aborts, "would wait for ever for the end of ncclSend of 1 x uint8");
    unsetenv("CUDASIM_NCCL_TIMEOUT");
#ifndef __SANITIZE_ADDRESS__
    run_ranks(2, "late", nothing_written, first_aborts, "which nothing has written");
#endif
}

/* --- refusals ----------------------------------------------------------------------------------------------------- */

static void bad_arguments(struct rank *r)
{
    unsigned char host[8];
    cudaStream_t other;
    unsigned char *memory = open_with(r, 8);
    CHECK(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking) == cudaSuccess);
    CHECK(ncclSend(memory, 8, ncclUint8, -1, r->comm, r->stream) == ncclInvalidArgument);
    CHECK(ncclSend(memory, 8, ncclUint8, r->ranks, r->comm, r->stream) == ncclInvalidArgument);
    CHECK(ncclRecv(memory, 8, ncclUint8, r->ranks, r->comm, r->stream) == ncclInvalidArgument);
    CHECK(ncclSend(host, 8, ncclUint8, 0, r->comm, r->stream) == ncclInvalidArgument);
    CHECK(ncclRecv(host, 8, ncclUint8, 0, r->comm, r->stream) == ncclInvalidArgument);
    CHECK(ncclSend(memory, 2, ncclInt64, 0, r->comm, r->stream) == ncclInvalidArgument);
    CHECK(ncclRecv(memory + 1, 8, ncclUint8, 0, r->comm, r->stream) == ncclInvalidArgument);
    CHECK(ncclRecv(memory, 8, ncclUint8, 0, NULL, r->stream) == ncclInvalidArgument);
    cudasim_fail("nccl", 1);
    CHECK(ncclSend(memory, 8, ncclUint8, 0, r->comm, r->stream) == ncclSystemError);
    CHECK(ncclSend(NULL, 0, ncclUint8, 0, r->comm, r->stream) == ncclSuccess); /* nothing */
    CHECK(ncclGroupStart() == ncclSuccess);
    send(r, memory, 1, r->rank);
    CHECK(ncclSend(memory, 2, ncclUint8, r->rank, r->comm, r->stream) == ncclInvalidUsage); /* a second one */
    CHECK(ncclRecv(memory, 1, ncclUint8, r->rank, r->comm, other) == ncclInvalidUsage);
    receive(r, memory + 1, 1, r->rank);
    CHECK(ncclGroupEnd() == ncclSuccess);
    CHECK(cudaStreamSynchronize(r->stream) == cudaSuccess);
    CHECK(cudaFree(memory) == cudaSuccess && cudaStreamDestroy(other) == cudaSuccess);
    close_rank(r);
}

static void bad_stream(struct rank *r)
{
    ncclResult_t error = ncclSuccess;
    open_rank(r);
    CHECK(ncclSend(device_memory(r, 1), 1, ncclUint8, 0, r->comm, NULL) == ncclInvalidArgument);
    CHECK(ncclCommGetAsyncError(r->comm, &error) == ncclSuccess && error == ncclInvalidArgument);
    _exit(0);
}

static void refusals(void **state)
{
    (void)state;
    run_ranks(2, "late", bad_arguments, NULL, "NCCL send buffer: not memory of device");
    run_ranks(1, "late", bad_stream, NULL, "ncclSend of 1 x uint8 to rank 0: invalid stream");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_to_all), cmocka_unit_test(some),     cmocka_unit_test(mismatches),
        cmocka_unit_test(losses),     cmocka_unit_test(refusals),
    };
    setenv("CUDASIM_DEVICES", "4", 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
