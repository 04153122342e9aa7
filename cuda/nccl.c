#define _POSIX_C_SOURCE 199309L /* nanosleep */
#include "cuda/nccl.h"

#include <nccl.h>
#include <time.h>

#include "base/log.h"
#include "base/memory.h"
#include "base/watch.h"
#include "cuda/cuda_private.h"
#include "mpi/comm_memory.h"

#define N_DEFER 100      /* pauses of 50 ms: mpirun ends the others up to two seconds after the first */
#define N_IMPATIENT 1000 /* questions to the stream before the thread begins to sleep between them */

/* All collectives of a communicator are on one stream, so that they come in the same order on every rank. With a second
 * communicator for gathers beside the work they might not: each could hold back the other on another device. */
struct sq_nccl {
    struct sq_comm_device base; /* first */
    struct sq_backend *backend;
    ncclComm_t comm;
    cudaStream_t stream;
    cudaEvent_t ready;                     /* what the main thread's worker was given before is done */
    cudaEvent_t gathered[SQ_COMM_GATHERS]; /* gathers beside the work, by lane */
    cudaEvent_t broadcasted;               /* the broadcast beside the work */
    cudaEvent_t summed[SQ_COMM_SUMS];      /* sums beside the work, by lane */
    int rank, size;
    size_t bytes; /* of the collective in work, for the trace */
};

static struct sq_cuda *cuda_of(const struct sq_nccl *nccl)
{
    return (struct sq_cuda *)nccl->backend;
}

/* --- failures ----------------------------------------------------------------------------------------------------- */

/* Whoever starts the ranks ends them all when one has ended, and that one has said why; otherwise this one will. Pauses
 * are counted and not their time, which goes on for a rank that is stopped together with all others. */
static void defer(void)
{
    const struct timespec pause = {.tv_nsec = 50000000};
    sq_watch_end(); /* it waits for nobody any more */
    for (int i = 0; i < N_DEFER; i++)
        nanosleep(&pause, NULL);
}

static enum sq_status checked(ncclResult_t code, ncclComm_t comm, const char *what)
{
    if (code == ncclSuccess) return SQ_OK;
    if (code == ncclRemoteError) defer();
    const char *last = ncclGetLastError(comm);
    sq_error("NCCL: %s: %s%s%s", what, ncclGetErrorString(code), last && *last ? ": " : "", last ? last : "");
    if (code == ncclRemoteError) sq_comm_abort(SQ_EXIT_LOST);
    return SQ_ERR_LIBRARY;
}

/* A rank that takes no part in a collective, for whatever reason, cannot tell the others: across a network NCCL may do
 * it, but on one node their kernels go on waiting, and ncclCommAbort() may wait for these. So the whole job ends. */
static void must(enum sq_status status)
{
    if (status != SQ_OK) sq_comm_abort(sq_status_exit_code(status));
}

/* --- waiting ------------------------------------------------------------------------------------------------------ */

/* One question: whether the event, or without one all of the stream, is done. */
static bool is_done(const struct sq_nccl *nccl, cudaEvent_t event, const char *what)
{
    cudaError_t code = event ? cudaEventQuery(event) : cudaStreamQuery(nccl->stream);
    ncclResult_t state = ncclSuccess;
    bool done = false;
    must(sq_cuda_answered(code, what, &done));
    must(checked(ncclCommGetAsyncError(nccl->comm, &state), nccl->comm, what));
    if (state != ncclInProgress) must(checked(state, nccl->comm, what));
    return done;
}

static void wait(const struct sq_nccl *nccl, cudaEvent_t event, const char *what)
{
    const struct timespec pause = {.tv_nsec = 50000};
    sq_watch_begin(what);
    for (int64_t asked = 0; !is_done(nccl, event, what); asked++)
        if (asked > N_IMPATIENT) nanosleep(&pause, NULL);
    sq_watch_end();
}

/* After NCCL was given work. */
static void end_call(struct sq_nccl *nccl, ncclResult_t code, struct sq_cuda_timer *timer, const char *what)
{
    sq_watch_end();
    must(checked(code, nccl->comm, what));
    must(sq_cuda_timer_end(timer, nccl->stream, nccl->bytes));
}

/* Waits for it. */
static void finish(struct sq_nccl *nccl, ncclResult_t code, const char *what)
{
    struct sq_cuda *cuda = cuda_of(nccl);
    end_call(nccl, code, &cuda->nccl_timer, what);
    wait(nccl, NULL, what);
    must(sq_cuda_timer_show(cuda, &cuda->nccl_timer, SQ_TRACE_NCCL, 0, what));
}

/* It goes on beside the work of the host: its end is marked. */
static void leave(struct sq_nccl *nccl, ncclResult_t code, struct sq_cuda_timer *timer, cudaEvent_t event,
                  const char *what)
{
    end_call(nccl, code, timer, what);
    must(sq_cuda_checked(cudaEventRecord(event, nccl->stream), "marking a collective"));
}

/* What comes now on the communicator's stream is after what the main thread's worker was given. */
static void follow_worker(const struct sq_nccl *nccl)
{
    must(sq_cuda_checked(cudaEventRecord(nccl->ready, sq_cuda_worker(nccl->backend)->stream), "marking a buffer"));
    must(sq_cuda_checked(cudaStreamWaitEvent(nccl->stream, nccl->ready, 0), "waiting for a buffer"));
}

/* Before NCCL gets work of so many bytes; the first call of a kind also connects ranks, and waits for them. */
static void begin(struct sq_nccl *nccl, struct sq_cuda_timer *timer, const char *what, size_t bytes)
{
    nccl->bytes = bytes;
    must(sq_cuda_timeline_start(cuda_of(nccl)));
    follow_worker(nccl);
    must(sq_cuda_timer_begin(timer, nccl->stream));
    sq_watch_begin(what);
}

/* --- collectives -------------------------------------------------------------------------------------------------- */

static enum sq_status start_sum_i64(struct sq_comm_device *device, int lane, int root, int64_t *values, int64_t count)
{
    struct sq_nccl *nccl = (struct sq_nccl *)device;
    struct sq_cuda_timer *timer = &cuda_of(nccl)->sum_timer;
    const char *what = root < 0 ? "a sum over ranks" : "a sum on one rank";
    begin(nccl, timer, what, (size_t)count * sizeof *values);
    ncclResult_t code =
        root < 0 ? ncclAllReduce(values, values, (size_t)count, ncclInt64, ncclSum, nccl->comm, nccl->stream)
                 : ncclReduce(values, values, (size_t)count, ncclInt64, ncclSum, root, nccl->comm, nccl->stream);
    leave(nccl, code, timer, nccl->summed[lane], what);
    return SQ_OK;
}

static enum sq_status finish_sum(struct sq_comm_device *device, int lane)
{
    struct sq_nccl *nccl = (struct sq_nccl *)device;
    wait(nccl, nccl->summed[lane], "a sum over ranks");
    return SQ_OK;
}

static enum sq_status broadcast(struct sq_comm_device *device, int root, void *buffer, size_t bytes)
{
    struct sq_nccl *nccl = (struct sq_nccl *)device;
    begin(nccl, &cuda_of(nccl)->nccl_timer, "a broadcast", bytes);
    finish(nccl, ncclBroadcast(buffer, buffer, bytes, ncclUint8, root, nccl->comm, nccl->stream), "a broadcast");
    return SQ_OK;
}

static enum sq_status start_broadcast(struct sq_comm_device *device, int root, void *buffer, size_t bytes)
{
    struct sq_nccl *nccl = (struct sq_nccl *)device;
    struct sq_cuda_timer *timer = &cuda_of(nccl)->broadcast_timer;
    begin(nccl, timer, "a broadcast", bytes);
    ncclResult_t code = ncclBroadcast(buffer, buffer, bytes, ncclUint8, root, nccl->comm, nccl->stream);
    leave(nccl, code, timer, nccl->broadcasted, "a broadcast");
    return SQ_OK;
}

/* The host waits, not the workers' streams: on the way it sees what NCCL knows of a failure. */
static enum sq_status finish_broadcast(struct sq_comm_device *device)
{
    struct sq_nccl *nccl = (struct sq_nccl *)device;
    wait(nccl, nccl->broadcasted, "a broadcast");
    return SQ_OK;
}

static size_t sum_of(const struct sq_nccl *nccl, const size_t *bytes)
{
    size_t all = 0;
    for (int rank = 0; rank < nccl->size; rank++)
        all += bytes[rank];
    return all;
}

/* Parts of different sizes: one broadcast each, all together. */
static ncclResult_t gather_parts(const struct sq_nccl *nccl, void *buffer, const size_t *offsets, const size_t *bytes)
{
    ncclResult_t code = ncclGroupStart();
    for (int rank = 0; rank < nccl->size && code == ncclSuccess; rank++) {
        char *part = (char *)buffer + offsets[rank];
        if (bytes[rank] > 0) code = ncclBroadcast(part, part, bytes[rank], ncclUint8, rank, nccl->comm, nccl->stream);
    }
    ncclResult_t ended = ncclGroupEnd();
    return code == ncclSuccess ? ended : code;
}

static enum sq_status all_gather(struct sq_comm_device *device, void *buffer, const size_t *offsets,
                                 const size_t *bytes)
{
    struct sq_nccl *nccl = (struct sq_nccl *)device;
    begin(nccl, &cuda_of(nccl)->nccl_timer, "gathering", sum_of(nccl, bytes));
    finish(nccl, gather_parts(nccl, buffer, offsets, bytes), "gathering");
    return SQ_OK;
}

static enum sq_status start_gather(struct sq_comm_device *device, int lane, void *buffer, const size_t *offsets,
                                   const size_t *bytes)
{
    struct sq_nccl *nccl = (struct sq_nccl *)device;
    struct sq_cuda_timer *timer = &cuda_of(nccl)->gather_timer;
    begin(nccl, timer, "gathering", sum_of(nccl, bytes));
    leave(nccl, gather_parts(nccl, buffer, offsets, bytes), timer, nccl->gathered[lane], "gathering");
    return SQ_OK;
}

static enum sq_status finish_gather(struct sq_comm_device *device, int lane)
{
    struct sq_nccl *nccl = (struct sq_nccl *)device;
    wait(nccl, nccl->gathered[lane], "gathering");
    return SQ_OK;
}

/* Parts that are empty are left out, on both sides. */
static ncclResult_t exchange_parts(const struct sq_nccl *nccl, const char *send, const size_t *send_bytes,
                                   char *receive, const size_t *receive_bytes)
{
    ncclResult_t code = ncclGroupStart();
    for (int rank = 0; rank < nccl->size && code == ncclSuccess; rank++) {
        bool is_other = rank != nccl->rank;
        if (is_other && send_bytes[rank] > 0)
            code = ncclSend(send, send_bytes[rank], ncclUint8, rank, nccl->comm, nccl->stream);
        if (is_other && receive_bytes[rank] > 0 && code == ncclSuccess)
            code = ncclRecv(receive, receive_bytes[rank], ncclUint8, rank, nccl->comm, nccl->stream);
        send += send_bytes[rank];
        receive += receive_bytes[rank];
    }
    ncclResult_t ended = ncclGroupEnd();
    return code == ncclSuccess ? ended : code;
}

static enum sq_status exchange(struct sq_comm_device *device, const void *send, const size_t *send_bytes, void *receive,
                               const size_t *receive_bytes)
{
    struct sq_nccl *nccl = (struct sq_nccl *)device;
    begin(nccl, &cuda_of(nccl)->nccl_timer, "an exchange", sum_of(nccl, send_bytes) - send_bytes[nccl->rank]);
    finish(nccl, exchange_parts(nccl, send, send_bytes, receive, receive_bytes), "an exchange");
    return SQ_OK;
}

/* --- creation ----------------------------------------------------------------------------------------------------- */

static enum sq_status join(struct sq_comm_device *device, struct sq_comm *part)
{
    return sq_nccl_attach(part, ((struct sq_nccl *)device)->backend);
}

static void destroy(struct sq_comm_device *device)
{
    struct sq_nccl *nccl = (struct sq_nccl *)device;
    sq_watch_begin("leaving a communicator");
    if (nccl->comm) (void)ncclCommDestroy(nccl->comm);
    if (nccl->stream) (void)cudaStreamDestroy(nccl->stream);
    sq_watch_end();
    if (nccl->ready) (void)cudaEventDestroy(nccl->ready);
    if (nccl->broadcasted) (void)cudaEventDestroy(nccl->broadcasted);
    for (int lane = 0; lane < SQ_COMM_GATHERS; lane++)
        if (nccl->gathered[lane]) (void)cudaEventDestroy(nccl->gathered[lane]);
    for (int lane = 0; lane < SQ_COMM_SUMS; lane++)
        if (nccl->summed[lane]) (void)cudaEventDestroy(nccl->summed[lane]);
    sq_free(nccl);
}

static enum sq_status connect(const struct sq_comm *comm, ncclComm_t *nccl_p)
{
    ncclUniqueId id;
    enum sq_status status = SQ_OK;
    if (comm->rank == 0) status = checked(ncclGetUniqueId(&id), NULL, "making a communicator's name");
    SQ_TRY(sq_comm_agree(comm, status));
    SQ_TRY(sq_comm_broadcast(comm, 0, &id, sizeof id));
    sq_watch_begin("joining a communicator");
    ncclResult_t code = ncclCommInitRank(nccl_p, comm->size, id, comm->rank);
    sq_watch_end();
    must(checked(code, NULL, "joining a communicator"));
    return SQ_OK;
}

static enum sq_status make_stream(struct sq_nccl *nccl)
{
    SQ_TRY(sq_cuda_stream_create(&nccl->stream));
    SQ_TRY(sq_cuda_event_create(&nccl->ready));
    SQ_TRY(sq_cuda_event_create(&nccl->broadcasted));
    for (int lane = 0; lane < SQ_COMM_GATHERS; lane++)
        SQ_TRY(sq_cuda_event_create(&nccl->gathered[lane]));
    for (int lane = 0; lane < SQ_COMM_SUMS; lane++)
        SQ_TRY(sq_cuda_event_create(&nccl->summed[lane]));
    return SQ_OK;
}

enum sq_status sq_nccl_attach(struct sq_comm *comm, struct sq_backend *backend)
{
    void *memory = NULL;
    SQ_TRY(sq_comm_agree(comm, sq_alloc("a device communicator", 1, sizeof(struct sq_nccl), &memory)));
    struct sq_nccl *nccl = memory;
    *nccl = (struct sq_nccl){.base = {.start_sum_i64 = start_sum_i64,
                                      .finish_sum = finish_sum,
                                      .broadcast = broadcast,
                                      .start_broadcast = start_broadcast,
                                      .finish_broadcast = finish_broadcast,
                                      .all_gather = all_gather,
                                      .start_gather = start_gather,
                                      .finish_gather = finish_gather,
                                      .exchange = exchange,
                                      .join = join,
                                      .destroy = destroy},
                             .backend = backend,
                             .rank = comm->rank,
                             .size = comm->size};
    enum sq_status status = sq_comm_agree(comm, make_stream(nccl));
    if (status == SQ_OK) status = connect(comm, &nccl->comm);
    if (status != SQ_OK) {
        destroy(&nccl->base);
        return status;
    }
    comm->device = &nccl->base;
    return SQ_OK;
}
