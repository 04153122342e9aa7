#include "wire.hpp"

#include "sim.hpp"

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <new>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

namespace cudasim
{
enum slot_state { slot_free, slot_claimed, slot_taken, slot_left };

struct wire::slot { // fresh memory is zero: free
    std::atomic<int> state;
    pid_t process;
    int device;
    std::atomic<uint64_t> step;
    std::atomic<uint64_t> exchanges; // odd: in one
    char doing[256];
    alignas(4096) char data[chunk_bytes];
};

// --- the memory ----------------------------------------------------------------------------------------------------

// The name is that of an open file without a name: /proc/PID/fd/N. Nothing is left behind, whoever dies when.
bool wire::make_id(ncclUniqueId *id)
{
    int file = memfd_create("cudasim-nccl", MFD_CLOEXEC);
    if (file < 0) return false;
    memset(id, 0, sizeof *id);
    snprintf(id->internal, sizeof id->internal, "/proc/%ld/fd/%d", (long)getpid(), file);
    return true;
}

void wire::close_id(const ncclUniqueId &id)
{
    long process;
    int file;
    if (sscanf(id.internal, "/proc/%ld/fd/%d", &process, &file) == 2 && process == (long)getpid()) close(file);
}

size_t wire::bytes_for(int ranks)
{
    return (size_t)ranks * (sizeof(slot) + (size_t)ranks * sizeof(channel));
}

wire::wire(int ranks_, int rank_, void *memory)
    : ranks(ranks_), rank(rank_), slots((slot *)memory), channels((channel *)(void *)(slots + ranks))
{
}

wire *wire::open(const ncclUniqueId &id, int ranks, int rank)
{
    const size_t bytes = bytes_for(ranks);
    if (memchr(id.internal, 0, sizeof id.internal) == nullptr) return nullptr;
    int file = ::open(id.internal, O_RDWR | O_CLOEXEC);
    if (file < 0) return nullptr;
    void *memory = MAP_FAILED;
    struct stat now;
    if (fstat(file, &now) == 0 && (now.st_size == 0 || now.st_size == (off_t)bytes) &&
        ftruncate(file, (off_t)bytes) == 0)
        memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    return memory == MAP_FAILED ? nullptr : new wire(ranks, rank, memory);
}

wire::~wire()
{
    munmap((void *)slots, bytes_for(ranks));
}

// --- coming and going ----------------------------------------------------------------------------------------------

bool wire::take_slot(int device)
{
    static_assert(std::atomic<int>::is_always_lock_free && std::atomic<uint64_t>::is_always_lock_free);
    int expected = slot_free;
    if (!slots[rank].state.compare_exchange_strong(expected, slot_claimed)) return false;
    slots[rank].process = getpid();
    slots[rank].device = device;
    slots[rank].state = slot_taken;
    return true;
}

bool wire::all_are_here() const
{
    for (int r = 0; r < ranks; r++)
        if (slots[r].state < slot_taken) return false;
    return true;
}

int wire::rank_on_my_device() const
{
    for (int r = 0; r < ranks; r++)
        if (r != rank && slots[r].device == slots[rank].device) return r;
    return -1;
}

const char *wire::why_lost(int r) const
{
    const int state = slots[r].state;
    if (state == slot_left && waits_for(rank, r)) return "destroyed its communicator";
    if (state == slot_taken && kill(slots[r].process, 0) != 0 && errno == ESRCH) return "is no longer there";
    return nullptr;
}

void wire::leave()
{
    slots[rank].state = slot_left;
}

// --- steps ---------------------------------------------------------------------------------------------------------

void wire::show(const std::string &what)
{
    snprintf(slots[rank].doing, sizeof slots[rank].doing, "%s", what.c_str());
}

std::string wire::doing(int of_rank) const
{
    return slots[of_rank].doing;
}

char *wire::chunk(int of_rank) const
{
    return slots[of_rank].data;
}

channel &wire::between(int from, int to) const
{
    return channels[from * ranks + to];
}

void wire::end_step()
{
    moves++;
    slots[rank].step = ++step; // sequentially consistent: what was written before is seen with it
}

bool wire::all_at(uint64_t n) const
{
    for (int r = 0; r < ranks; r++)
        if (slots[r].step < n) return false;
    return true;
}

// --- who waits for whom --------------------------------------------------------------------------------------------

void wire::begin_exchange()
{
    slots[rank].exchanges++;
}

void wire::end_exchange()
{
    slots[rank].exchanges++;
}

// Whether the exchange that `waiting` is in needs what rank r has not begun.
bool wire::waits_for(int waiting, int r) const
{
    const channel &there = between(waiting, r), &back = between(r, waiting);
    return slots[waiting].step > slots[r].step || there.sender.begun > there.receiver.begun ||
           back.receiver.begun > back.sender.begun;
}

// Whether the other rank waits for a chunk of ours, or has one for us that stands in its way.
bool wire::is_channel_waiting(int other) const
{
    const channel &out = between(rank, other), &in = between(other, rank);
    const bool is_out = out.sender.begun == out.receiver.begun && out.read == out.written && out.written < out.end;
    return is_out || in.read < in.written;
}

bool wire::is_waited_for() const
{
    for (int r = 0; r < ranks; r++)
        if (waits_for(r, rank) || is_channel_waiting(r)) return true;
    return false;
}

// A rank in an exchange begins nothing else before the end of that; one in none may begin anything. While nobody's
// exchange has changed, what was seen of one is true of all at once.
int wire::rank_in_the_way() const
{
    std::vector<uint64_t> before(ranks);
    std::vector<bool> may_go_on(ranks);
    for (int r = 0; r < ranks; r++)
        before[r] = slots[r].exchanges;
    const auto waits_in_vain = [&](int waiting, int r) { return waits_for(waiting, r) && !may_go_on[r]; };
    const auto in_the_way = [&](int waiting) {
        int r = 0;
        while (r < ranks && !waits_in_vain(waiting, r))
            r++;
        return r < ranks ? r : -1;
    };
    for (int round = 0; round < ranks; round++)
        for (int r = 0; r < ranks; r++)
            may_go_on[r] = before[r] % 2 == 0 || in_the_way(r) < 0;
    const int found = may_go_on[rank] ? -1 : in_the_way(rank);
    for (int r = 0; r < ranks; r++)
        if (slots[r].exchanges != before[r]) return -1;
    return found;
}

// --- words ---------------------------------------------------------------------------------------------------------

size_t bytes_of(ncclDataType_t type)
{
    return type == ncclInt64 ? 8 : 1;
}

std::string describe(size_t count, ncclDataType_t type)
{
    return std::to_string(count) + " x " + (type == ncclInt64 ? "int64" : "uint8");
}
} // namespace cudasim
