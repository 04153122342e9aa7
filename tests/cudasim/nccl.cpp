// NCCL's calls: communicators, collectives as operations of streams, groups, and the thread that goes on with the
// device's work while the host does something else and peers wait.
#include "exchange.hpp"
#include "sim.hpp"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <nccl.h>
#include <thread>
#include <vector>

struct ncclComm {
    std::shared_ptr<cudasim::communicator> shared;
    ncclUniqueId id;
};

namespace cudasim
{
namespace
{
using steady = std::chrono::steady_clock;

double seconds_since(steady::time_point start)
{
    return std::chrono::duration<double>(steady::now() - start).count();
}

struct waiting_collective {
    std::shared_ptr<communicator> comm;
    cudaStream_t stream;
    operation op;
};

struct nccl_state {
    std::vector<ncclComm_t> comms;
    std::thread server;
    std::atomic<bool> serving{false};
};

nccl_state &state()
{
    static nccl_state *const all = new nccl_state;
    return *all;
}

thread_local std::string last_words;
thread_local int group_depth = 0;
thread_local std::vector<waiting_collective> group;

__attribute__((format(printf, 2, 3))) ncclResult_t refuse(ncclResult_t result, const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    complain("%s", text);
    last_words = text;
    return result;
}

bool is_comm(ncclComm_t comm)
{
    return std::find(state().comms.begin(), state().comms.end(), comm) != state().comms.end();
}

// --- serving peers -------------------------------------------------------------------------------------------------

// Peers have waited for this rank for a while: its host is busy elsewhere, and its device must go on by itself.
bool must_serve(communicator &comm)
{
    if (!comm.line->is_waited_for() || comm.finished == comm.queued)
        comm.waited_step = UINT64_MAX;
    else if (comm.waited_step != comm.line->step) {
        comm.waited_step = comm.line->step;
        comm.waited_since = steady::now();
    }
    return comm.waited_step != UINT64_MAX && seconds_since(comm.waited_since) > 0.02;
}

void serve()
{
    while (state().serving) {
        {
            call guard;
            for (ncclComm_t comm : state().comms)
                if (must_serve(*comm->shared))
                    while (step_all() && comm->shared->line->is_waited_for())
                        ;
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
}

void add_comm(ncclComm_t comm)
{
    state().comms.push_back(comm);
    count_object("NCCL communicators", 1);
    if (!state().serving) {
        state().serving = true;
        state().server = std::thread(serve);
    }
}

// Takes it from the list; the server thread ends with the last one. The lock must be free meanwhile.
void remove_comm(ncclComm_t comm)
{
    bool is_last;
    {
        call guard;
        state().comms.erase(std::find(state().comms.begin(), state().comms.end(), comm));
        comm->shared->line->leave();
        is_last = state().comms.empty();
    }
    if (is_last) {
        state().serving = false;
        state().server.join();
    }
    wire::close_id(comm->id);
    delete comm;
    count_object("NCCL communicators", -1);
}

// --- collectives ---------------------------------------------------------------------------------------------------

ncclResult_t start(const collective &c, const void *send, void *receive, ncclComm_t comm, cudaStream_t stream)
{
    call guard;
    if (!is_comm(comm)) return refuse(ncclInvalidArgument, "%s: no such communicator", describe(c).c_str());
    if (should_fail(kind::nccl)) return refuse(ncclSystemError, "%s failed", describe(c).c_str());
    communicator &shared = *comm->shared;
    const bool is_root = c.root == shared.line->rank;
    const size_t bytes = c.count * bytes_of(c.type);
    const bool types_fit = c.kind == collective_kind::broadcast || c.type == ncclInt64;
    if (c.root < 0 || c.root >= shared.line->ranks || !types_fit)
        return refuse(ncclInvalidArgument, "%s: invalid argument", describe(c).c_str());
    if (c.count == 0) return ncclSuccess;
    if (((c.kind != collective_kind::broadcast || is_root) && !is_device("NCCL send buffer", send, bytes)) ||
        ((c.kind != collective_kind::reduce || is_root) && !is_device("NCCL receive buffer", receive, bytes)))
        return refuse(ncclInvalidArgument, "%s: invalid buffer", describe(c).c_str());
    auto e = std::make_shared<exchange>(comm->shared, c, send, receive);
    group.push_back({comm->shared, stream, {describe(c), [] {}, [e] { return e->advance(); }, [e] { e->await(); }}});
    return ncclSuccess;
}

// Queues what was started, unless a group is open.
ncclResult_t flush_group()
{
    call guard;
    ncclResult_t result = ncclSuccess;
    for (waiting_collective &c : group)
        if (group_depth == 0 && enqueue(c.stream, c.op) != cudaSuccess) {
            result = refuse(ncclInvalidArgument, "%s: invalid stream", c.op.what.c_str());
            c.comm->fail(result, last_words); // its turn will never come
        }
    if (group_depth == 0) group.clear();
    return result;
}

ncclResult_t collect(const collective &c, const void *send, void *receive, ncclComm_t comm, cudaStream_t stream)
{
    const ncclResult_t result = start(c, send, receive, comm, stream);
    return result == ncclSuccess ? flush_group() : result;
}

// Waits until every rank has opened the communicator.
bool all_come(const wire &line)
{
    const steady::time_point begin = steady::now();
    while (!line.all_are_here()) {
        if (seconds_since(begin) > get_settings().nccl_timeout) return false;
        wait_a_little();
    }
    return true;
}
} // namespace
} // namespace cudasim

using namespace cudasim;

// --- communicators -------------------------------------------------------------------------------------------------

ncclResult_t ncclGetVersion(int *version)
{
    *version = NCCL_VERSION_CODE;
    return ncclSuccess;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId *id)
{
    if (should_fail(kind::nccl) || !wire::make_id(id)) return refuse(ncclSystemError, "ncclGetUniqueId failed");
    return ncclSuccess;
}

ncclResult_t ncclCommInitRank(ncclComm_t *comm, int ranks, ncclUniqueId id, int rank)
{
    call guard;
    if (ranks < 1 || rank < 0 || rank >= ranks)
        return refuse(ncclInvalidArgument, "ncclCommInitRank: rank %d of %d", rank, ranks);
    if (should_fail(kind::nccl)) return refuse(ncclSystemError, "ncclCommInitRank failed");
    std::unique_ptr<wire> line(wire::open(id, ranks, rank));
    if (!line) return refuse(ncclInvalidArgument, "ncclCommInitRank: no such id for %d ranks", ranks);
    if (!line->take_slot(device_on_node(current_device())))
        return refuse(ncclInvalidUsage, "ncclCommInitRank: rank %d is there already", rank);
    if (!all_come(*line))
        return refuse(ncclSystemError, "ncclCommInitRank: rank %d waited in vain for the other ranks", rank);
    if (line->rank_on_my_device() >= 0)
        return refuse(ncclInvalidUsage, "Duplicate GPU detected: ranks %d and %d are both on device %d", rank,
                      line->rank_on_my_device(), device_on_node(current_device()));
    *comm = new ncclComm{std::make_shared<communicator>(), id};
    (*comm)->shared->line = std::move(line);
    (*comm)->shared->device = current_device();
    add_comm(*comm);
    return ncclSuccess;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm)
{
    {
        call guard;
        if (!is_comm(comm)) return refuse(ncclInvalidArgument, "ncclCommDestroy: no such communicator");
        run_everything();
    }
    remove_comm(comm);
    return ncclSuccess;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *error)
{
    call guard;
    if (!is_comm(comm)) return refuse(ncclInvalidArgument, "ncclCommGetAsyncError: no such communicator");
    comm->shared->look_for_lost_ranks();
    *error = comm->shared->error;
    return ncclSuccess;
}

const char *ncclGetErrorString(ncclResult_t result)
{
    static const char *const texts[] = {"no error",
                                        "unhandled cuda error",
                                        "unhandled system error",
                                        "internal error",
                                        "invalid argument",
                                        "invalid usage",
                                        "remote process exited or there was a network error",
                                        "NCCL operation in progress"};
    return (size_t)result < sizeof texts / sizeof *texts ? texts[result] : "unknown result code";
}

const char *ncclGetLastError(ncclComm_t)
{
    return last_words.c_str();
}

// --- collectives ---------------------------------------------------------------------------------------------------

ncclResult_t ncclAllReduce(const void *send, void *receive, size_t count, ncclDataType_t type, ncclRedOp_t op,
                           ncclComm_t comm, cudaStream_t stream)
{
    return collect({collective_kind::all_reduce, count, type, op, 0}, send, receive, comm, stream);
}

ncclResult_t ncclReduce(const void *send, void *receive, size_t count, ncclDataType_t type, ncclRedOp_t op, int root,
                        ncclComm_t comm, cudaStream_t stream)
{
    return collect({collective_kind::reduce, count, type, op, root}, send, receive, comm, stream);
}

ncclResult_t ncclBroadcast(const void *send, void *receive, size_t count, ncclDataType_t type, int root,
                           ncclComm_t comm, cudaStream_t stream)
{
    return collect({collective_kind::broadcast, count, type, ncclSum, root}, send, receive, comm, stream);
}

ncclResult_t ncclGroupStart(void)
{
    group_depth++;
    return ncclSuccess;
}

ncclResult_t ncclGroupEnd(void)
{
    if (group_depth == 0) return refuse(ncclInvalidUsage, "ncclGroupEnd without ncclGroupStart");
    group_depth--;
    return flush_group();
}
