// NCCL's calls: communicators, collectives and messages as operations of streams, groups, and the thread that goes on
// with the device's work while the host does something else and peers wait.
#include "collective.hpp"
#include "messages.hpp"
#include "sim.hpp"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <iterator>
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

// What an open group holds back: those that are queued one by one, and those that become one operation.
struct waiting_exchange {
    std::shared_ptr<communicator> comm;
    cudaStream_t stream;
    std::shared_ptr<exchange> e;
};

struct waiting_message {
    std::shared_ptr<communicator> comm;
    cudaStream_t stream;
    message m;
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
thread_local std::vector<waiting_exchange> group;
thread_local std::vector<waiting_message> group_messages;

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
        comm.waited_moves = UINT64_MAX;
    else if (comm.waited_moves != comm.line->moves) {
        comm.waited_moves = comm.line->moves;
        comm.waited_since = steady::now();
    }
    return comm.waited_moves != UINT64_MAX && seconds_since(comm.waited_since) > 0.02;
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

// --- what is started -----------------------------------------------------------------------------------------------

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
    group.push_back({comm->shared, stream, std::make_shared<collective_exchange>(comm->shared, c, send, receive)});
    return ncclSuccess;
}

// Whether it is one of those that the stand-in takes: of a group one to, and one from, each rank, all on one stream.
bool fits_group(const message &m, const std::shared_ptr<communicator> &comm, cudaStream_t stream)
{
    return std::none_of(group_messages.begin(), group_messages.end(), [&](const waiting_message &w) {
        return w.comm == comm && (w.stream != stream || (w.m.is_send == m.is_send && w.m.peer == m.peer));
    });
}

ncclResult_t start(const message &m, ncclComm_t comm, cudaStream_t stream)
{
    call guard;
    if (!is_comm(comm)) return refuse(ncclInvalidArgument, "%s: no such communicator", describe(m).c_str());
    if (should_fail(kind::nccl)) return refuse(ncclSystemError, "%s failed", describe(m).c_str());
    if (m.peer < 0 || m.peer >= comm->shared->line->ranks)
        return refuse(ncclInvalidArgument, "%s: no such rank", describe(m).c_str());
    if (m.count == 0) return ncclSuccess;
    if (!is_device(m.is_send ? "NCCL send buffer" : "NCCL receive buffer", m.memory, m.count * bytes_of(m.type)))
        return refuse(ncclInvalidArgument, "%s: invalid buffer", describe(m).c_str());
    if (!fits_group(m, comm->shared, stream))
        return refuse(ncclInvalidUsage, "%s: the group has one already, or another stream; that is not simulated",
                      describe(m).c_str());
    group_messages.push_back({comm->shared, stream, m});
    return ncclSuccess;
}

// --- groups --------------------------------------------------------------------------------------------------------

// The messages of each communicator become one exchange.
void join_messages()
{
    while (!group_messages.empty()) {
        const waiting_message first = group_messages.front();
        const auto is_other = [&](const waiting_message &w) { return w.comm != first.comm; };
        const auto others = std::stable_partition(group_messages.begin(), group_messages.end(), is_other);
        std::vector<message> messages;
        std::transform(others, group_messages.end(), std::back_inserter(messages), [](const auto &w) { return w.m; });
        group_messages.erase(others, group_messages.end());
        group.push_back({first.comm, first.stream, std::make_shared<message_exchange>(first.comm, messages)});
    }
}

// Queues what was started, with this result, unless a group is open.
ncclResult_t flush_group(ncclResult_t result = ncclSuccess)
{
    call guard;
    if (result != ncclSuccess || group_depth > 0) return result;
    join_messages();
    for (const waiting_exchange &w : group) {
        const std::shared_ptr<exchange> e = w.e;
        const operation op = {e->what, [] {}, [e] { return e->advance(); }, [e] { e->await(); }};
        if (enqueue(w.stream, op) == cudaSuccess) continue;
        result = refuse(ncclInvalidArgument, "%s: invalid stream", e->what.c_str());
        w.comm->fail(result, last_words); // its turn will never come
    }
    group.clear();
    return result;
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
    return flush_group(start(collective{collective_kind::all_reduce, count, type, op, 0}, send, receive, comm, stream));
}

ncclResult_t ncclReduce(const void *send, void *receive, size_t count, ncclDataType_t type, ncclRedOp_t op, int root,
                        ncclComm_t comm, cudaStream_t stream)
{
    return flush_group(start(collective{collective_kind::reduce, count, type, op, root}, send, receive, comm, stream));
}

ncclResult_t ncclBroadcast(const void *send, void *receive, size_t count, ncclDataType_t type, int root,
                           ncclComm_t comm, cudaStream_t stream)
{
    return flush_group(
        start(collective{collective_kind::broadcast, count, type, ncclSum, root}, send, receive, comm, stream));
}

// --- messages and groups -------------------------------------------------------------------------------------------

ncclResult_t ncclSend(const void *send, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream)
{
    return flush_group(start(message{true, count, type, peer, (char *)send}, comm, stream));
}

ncclResult_t ncclRecv(void *receive, size_t count, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream)
{
    return flush_group(start(message{false, count, type, peer, (char *)receive}, comm, stream));
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
