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

namespace cudasim
{
enum slot_state { slot_free, slot_claimed, slot_taken, slot_left };

struct wire::slot { // fresh memory is zero: free
    std::atomic<int> state;
    pid_t process;
    int device;
    std::atomic<uint64_t> step;
    collective shown;
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

wire *wire::open(const ncclUniqueId &id, int ranks, int rank)
{
    const size_t bytes = sizeof(slot) * (size_t)ranks;
    if (memchr(id.internal, 0, sizeof id.internal) == nullptr) return nullptr;
    int file = ::open(id.internal, O_RDWR | O_CLOEXEC);
    if (file < 0) return nullptr;
    void *memory = MAP_FAILED;
    struct stat now;
    if (fstat(file, &now) == 0 && (now.st_size == 0 || now.st_size == (off_t)bytes) &&
        ftruncate(file, (off_t)bytes) == 0)
        memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    return memory == MAP_FAILED ? nullptr : new wire(ranks, rank, (slot *)memory);
}

wire::~wire()
{
    munmap((void *)slots, sizeof(slot) * (size_t)ranks);
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
    if (state == slot_left && slots[r].step < step) return "destroyed its communicator";
    if (state == slot_taken && kill(slots[r].process, 0) != 0 && errno == ESRCH) return "is no longer there";
    return nullptr;
}

void wire::leave()
{
    slots[rank].state = slot_left;
}

// --- steps ---------------------------------------------------------------------------------------------------------

void wire::show(const collective &c)
{
    slots[rank].shown = c;
}

const collective &wire::shown(int of_rank) const
{
    return slots[of_rank].shown;
}

char *wire::chunk(int of_rank) const
{
    return slots[of_rank].data;
}

void wire::end_step()
{
    slots[rank].step = ++step; // sequentially consistent: what was written before is seen with it
}

bool wire::all_at(uint64_t n) const
{
    for (int r = 0; r < ranks; r++)
        if (slots[r].step < n) return false;
    return true;
}

bool wire::is_waited_for() const
{
    for (int r = 0; r < ranks; r++)
        if (slots[r].step > step) return true;
    return false;
}

// --- words ---------------------------------------------------------------------------------------------------------

size_t bytes_of(ncclDataType_t type)
{
    return type == ncclInt64 ? 8 : 1;
}

std::string describe(const collective &c)
{
    static const char *const names[] = {"ncclAllReduce", "ncclReduce", "ncclBroadcast"};
    char text[128];
    int length = snprintf(text, sizeof text, "%s of %zu x %s", names[(int)c.kind], c.count,
                          c.type == ncclInt64 ? "int64" : "uint8");
    if (c.kind != collective_kind::broadcast)
        length += snprintf(text + length, sizeof text - (size_t)length, ", %s", c.op == ncclSum ? "sum" : "max");
    if (c.kind != collective_kind::all_reduce)
        snprintf(text + length, sizeof text - (size_t)length, ", root %d", c.root);
    return text;
}
} // namespace cudasim
