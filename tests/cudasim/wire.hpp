// What the ranks of an NCCL communicator share: a piece of memory of the machine with one slot for each rank, and one
// channel from each rank to each.
//
// All ranks take the same steps: a step ends when a rank raises its count, and the next begins when all ranks' counts
// have come that far. A collective is one step that shows every rank what every other is about to do, then two for each
// chunk: all write into their slots, all read. Messages take no steps: they go chunk by chunk through their channel, of
// whose two ranks each begins its side of a message before the first chunk.
//
// It is shared memory and not MPI, because a GPU goes on with its work while its host waits in an MPI call: here a
// thread of this process does (nccl.cpp), and MPI need not be called by two threads.
#ifndef CUDASIM_WIRE_HPP
#define CUDASIM_WIRE_HPP

#include <nccl.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <sys/types.h>

namespace cudasim
{
// "10 x int64"
std::string describe(size_t count, ncclDataType_t type);
size_t bytes_of(ncclDataType_t type);

struct channel;

class wire
{
  public:
    static constexpr size_t chunk_bytes = 1 << 20;

    // Makes the memory in this process and writes its name; it stays until close_id() or the end of the process.
    static bool make_id(ncclUniqueId *id);
    static void close_id(const ncclUniqueId &id);

    // Opens the memory; NULL if there is none or its size does not fit.
    static wire *open(const ncclUniqueId &id, int ranks, int rank);
    ~wire();
    // Takes the slot of this rank; false if another process has it.
    bool take_slot(int device);
    bool all_are_here() const;
    // Another rank on the same device, or -1.
    int rank_on_my_device() const;

    const int ranks, rank;
    uint64_t step = 0;  // steps this rank has taken
    uint64_t moves = 0; // of this rank: steps, and what it did in channels
    // Shows what this rank is about to do, in words.
    void show(const std::string &what);
    std::string doing(int of_rank) const;
    // This rank has begun all that the exchange is made of; it has ended.
    void begin_exchange();
    void end_exchange();
    // Where this rank writes in a collective.
    char *chunk(int of_rank) const;
    channel &between(int from, int to) const;
    // Ends this rank's part of a step; all_at() is true when the others have.
    void end_step();
    bool all_at(uint64_t n) const;
    // Some rank waits for us: it has come further, or needs something of ours.
    bool is_waited_for() const;
    // A rank that this one waits for in vain, as that waits itself for others that ... wait for it; -1: there is none.
    int rank_in_the_way() const;
    // Why rank r will not come any more: it is gone, or left before this step; NULL: it may come.
    const char *why_lost(int r) const;
    void leave();

  private:
    struct slot;
    wire(int ranks_, int rank_, void *memory);
    static size_t bytes_for(int ranks);
    bool waits_for(int waiting, int r) const;
    bool is_channel_waiting(int other) const;

    slot *slots;
    channel *channels; // [from, to]
};

// From one rank to one: messages one after another.
struct channel {
    struct side {
        std::atomic<uint64_t> begun; // messages
        size_t count;                // of the last one
        ncclDataType_t type;
    } sender, receiver;
    std::atomic<uint64_t> written, read; // chunks of all messages
    std::atomic<uint64_t> end;           // what they come to with the sender's last message
    alignas(4096) char data[wire::chunk_bytes];
};
} // namespace cudasim

#endif
