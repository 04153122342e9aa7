#define _POSIX_C_SOURCE 199309L /* nanosleep */
#include "cuda/nccl.h"

#include <nccl.h>
#include <time.h>

#include "base/log.h"
#include "base/memory.h"
#include "base/watch.h"
#include "cuda/cuda_private.h"
#include "mpi/comm_memory.h"

#define N_DEFER 100      /* pauses of 50 ms: mpirun ends the others one to three seconds after the first */
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
    int size;
    size_t bytes;   /* of the collective in work, for the trace */
    bool is_broken; /* aborted: nothing works any more */
};

static struct sq_cuda *cuda_of(const struct sq_nccl *nccl)
{
    return (struct sq_cuda *)nccl->backend;
}

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
    return SQ_ERR_LIBRARY;
}

/* --- waiting ------------------------------------------------------------------------------------------------------ */

static enum sq_status give_up(struct sq_nccl *nccl, enum sq_status status)
{
    if (!nccl->is_broken) (void)ncclCommAbort(nccl->comm);
    nccl->is_broken = true;
    return status;
}

/* One question: whether the event, or without one all of the stream, is done, and whether some rank has failed. */
static enum sq_status look(struct sq_nccl *nccl, cudaEvent_t event, const char *what, bool *done_p)
{
    cudaError_t code = event ? cudaEventQuery(event) : cudaStreamQuery(nccl->stream);
    ncclResult_t state = ncclSuccess;
    SQ_TRY(sq_cuda_answered(code, what, done_p));
    SQ_TRY(checked(ncclCommGetAsyncError(nccl->comm, &state), nccl->comm, what));
    return state == ncclInProgress ? SQ_OK : checked(state, nccl->comm, what);
}

static enum sq_status wait(struct sq_nccl *nccl, cudaEvent_t event, const char *what)
{
    const struct timespec pause = {.tv_nsec = 50000};
    enum sq_status status = SQ_OK;
    bool done = false;
    sq_watch_begin(what);
    for (int64_t asked = 0; !done && status == SQ_OK; asked++) {
        if (asked > N_IMPATIENT) nanosleep(&pause, NULL);
        status = look(nccl, event, what, &done);
    }
    sq_watch_end();
    return status == SQ_OK ? SQ_OK : give_up(nccl, status);
}

/* After NCCL has taken the work: waits for it. */
static enum sq_status finish(struct sq_nccl *nccl, ncclResult_t code, const char *what)
{
    struct sq_cuda *cuda = cuda_of(nccl);
    enum sq_status status = checked(code, nccl->comm, what);
    if (status == SQ_OK) status = sq_cuda_timer_end(&cuda->nccl_timer, nccl->stream, nccl->bytes);
    if (status != SQ_OK) return give_up(nccl, status);
    SQ_TRY(wait(nccl, NULL, what));
    return sq_cuda_timer_show(cuda, &cuda->nccl_timer, SQ_TRACE_NCCL, 0, what);
}

/* After NCCL has taken work that goes on beside that of the host: its end is marked. */
static enum sq_status leave(struct sq_nccl *nccl, ncclResult_t code, struct sq_cuda_timer *timer, cudaEvent_t event,
                            const char *what)
{
    enum sq_status status = checked(code, nccl->comm, what);
    if (status == SQ_OK) status = sq_cuda_timer_end(timer, nccl->stream, nccl->bytes);
    if (status == SQ_OK) status = sq_cuda_checked(cudaEventRecord(event, nccl->stream), "marking a collective");
    return status == SQ_OK ? SQ_OK : give_up(nccl, status);
}

/* What comes now on the communicator's stream is after what the main thread's worker was given. */
static enum sq_status follow_worker(struct sq_nccl *nccl)
{
    SQ_TRY(sq_cuda_checked(cudaEventRecord(nccl->ready, sq_cuda_worker(nccl->backend)->stream), "marking a buffer"));
    return sq_cuda_checked(cudaStreamWaitEvent(nccl->stream, nccl->ready, 0), "waiting for a buffer");
}

/* Before NCCL gets work of so many bytes. After a failure the other ranks need not wait for this one. */
static enum sq_status begin(struct sq_nccl *nccl, struct sq_cuda_timer *timer, const char *what, size_t bytes)
{
    struct sq_cuda *cuda = cuda_of(nccl);
    if (nccl->is_broken) {
        sq_error("NCCL: %s: the communicator was aborted", what);
        return SQ_ERR_LIBRARY;
    }
    nccl->bytes = bytes;
    enum sq_status status = sq_cuda_timeline_start(cuda);
    if (status == SQ_OK) status = follow_worker(nccl);
    if (status == SQ_OK) status = sq_cuda_timer_begin(timer, nccl->stream);
    return status == SQ_OK ? SQ_OK : give_up(nccl, status);
}

/* --- collectives -------------------------------------------------------------------------------------------------- */

static enum sq_status sum_i64(struct sq_comm_device *device, int64_t *values, int64_t count)
{
    struct sq_nccl *nccl = (struct sq_nccl *)device;
    SQ_TRY(begin(nccl, &cuda_of(nccl)->nccl_timer, "a sum over ranks", (size_t)count * sizeof *values));
    return finish(nccl, ncclAllReduce(values, values, (size_t)count, ncclInt64, ncclSum, nccl->comm, nccl->stream),
                  "a sum over ranks");
}

static enum sq_status reduce_sum_i64(struct sq_comm_device *device, int root, int64_t *values, int64_t count)
{
    struct sq_nccl *nccl = (struct sq_nccl *)device;
    SQ_TRY(begin(nccl, &cuda_of(nccl)->nccl_timer, "a sum on one rank", (size_t)count * sizeof *values));
    return finish(nccl, ncclReduce(values, values, (size_t)count, ncclInt64, ncclSum, root, nccl->comm, nccl->stream),
                  "a sum on one rank");
}

static enum sq_status broadcast(struct sq_comm_device *device, int root, void *buffer, size_t bytes)
{
    struct sq_nccl *nccl = (struct sq_nccl *)device;
    SQ_TRY(begin(nccl, &cuda_of(nccl)->nccl_timer, "a broadcast", bytes));
    return finish(nccl, ncclBroadcast(buffer, buffer, bytes, ncclUint8, root, nccl->comm, nccl->stream), "a broadcast");
}

static enum sq_status start_broadcast(struct sq_comm_device *device, int root, void *buffer, size_t bytes)
{
    struct sq_nccl *nccl = (struct sq_nccl *)device;
    struct sq_cuda_timer *timer = &cuda_of(nccl)->broadcast_timer;
    SQ_TRY(begin(nccl, timer, "a broadcast", bytes));
    ncclResult_t code = ncclBroadcast(buffer, buffer, bytes, ncclUint8, root, nccl->comm, nccl->stream);
    return leave(nccl, code, timer, nccl->broadcasted, "a broadcast");
}

/* The host waits, not the workers' streams: on the way it sees when a rank has failed. */
static enum sq_status finish_broadcast(struct sq_comm_device *device)
{
    struct sq_nccl *nccl = (struct sq_nccl *)device;
    if (nccl->is_broken) return SQ_ERR_LIBRARY;
    return wait(nccl, nccl->broadcasted, "a broadcast");
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
    SQ_TRY(begin(nccl, &cuda_of(nccl)->nccl_timer, "gathering", sum_of(nccl, bytes)));
    return finish(nccl, gather_parts(nccl, buffer, offsets, bytes), "gathering");
}

static enum sq_status start_gather(struct sq_comm_device *device, int lane, void *buffer, const size_t *offsets,
                                   const size_t *bytes)
{
    struct sq_nccl *nccl = (struct sq_nccl *)device;
    struct sq_cuda_timer *timer = &cuda_of(nccl)->gather_timer;
    SQ_TRY(begin(nccl, timer, "gathering", sum_of(nccl, bytes)));
    return leave(nccl, gather_parts(nccl, buffer, offsets, bytes), timer, nccl->gathered[lane], "gathering");
}

static enum sq_status finish_gather(struct sq_comm_device *device, int lane)
{
    struct sq_nccl *nccl = (struct sq_nccl *)device;
    if (nccl->is_broken) return SQ_ERR_LIBRARY;
    return wait(nccl, nccl->gathered[lane], "gathering");
}

/* --- creation ----------------------------------------------------------------------------------------------------- */

static void destroy(struct sq_comm_device *device)
{
    struct sq_nccl *nccl = (struct sq_nccl *)device;
    sq_watch_begin("leaving a communicator");
    if (nccl->comm && !nccl->is_broken) (void)ncclCommDestroy(nccl->comm);
    if (nccl->stream) (void)cudaStreamDestroy(nccl->stream);
    sq_watch_end();
    if (nccl->ready) (void)cudaEventDestroy(nccl->ready);
    if (nccl->broadcasted) (void)cudaEventDestroy(nccl->broadcasted);
    for (int lane = 0; lane < SQ_COMM_GATHERS; lane++)
        if (nccl->gathered[lane]) (void)cudaEventDestroy(nccl->gathered[lane]);
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
    return sq_comm_agree(comm, checked(code, NULL, "joining a communicator"));
}

static enum sq_status make_stream(struct sq_nccl *nccl)
{
    SQ_TRY(sq_cuda_stream_create(&nccl->stream));
    SQ_TRY(sq_cuda_event_create(&nccl->ready));
    SQ_TRY(sq_cuda_event_create(&nccl->broadcasted));
    for (int lane = 0; lane < SQ_COMM_GATHERS; lane++)
        SQ_TRY(sq_cuda_event_create(&nccl->gathered[lane]));
    return SQ_OK;
}

enum sq_status sq_nccl_attach(struct sq_comm *comm, struct sq_backend *backend)
{
    void *memory = NULL;
    SQ_TRY(sq_comm_agree(comm, sq_alloc("a device communicator", 1, sizeof(struct sq_nccl), &memory)));
    struct sq_nccl *nccl = memory;
    *nccl = (struct sq_nccl){.base = {.sum_i64 = sum_i64,
                                      .reduce_sum_i64 = reduce_sum_i64,
                                      .broadcast = broadcast,
                                      .start_broadcast = start_broadcast,
                                      .finish_broadcast = finish_broadcast,
                                      .all_gather = all_gather,
                                      .start_gather = start_gather,
                                      .finish_gather = finish_gather,
                                      .destroy = destroy},
                             .backend = backend,
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
