// What the ranks of an NCCL communicator share: a piece of memory of the machine with one slot for each rank.
//
// All ranks take the same steps: a step ends when a rank raises its count, and the next begins when all ranks' counts
// have come that far. A collective is one step that shows every rank what every other is about to do, then two for each
// chunk: all write into their slots, all read.
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
enum class collective_kind { all_reduce, reduce, broadcast };

// What must be the same on all ranks.
struct collective {
    collective_kind kind;
    size_t count;
    ncclDataType_t type;
    ncclRedOp_t op;
    int root;
};
std::string describe(const collective &c);
size_t bytes_of(ncclDataType_t type);

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
    uint64_t step = 0; // steps this rank has taken
    // Shows what this rank is about to do; the slot's chunk is where it writes.
    void show(const collective &c);
    const collective &shown(int of_rank) const;
    char *chunk(int of_rank) const;
    // Ends this rank's part of a step; all_at() is true when the others have.
    void end_step();
    bool all_at(uint64_t n) const;
    // Some rank has come further than this one: it waits for us.
    bool is_waited_for() const;
    // Why rank r will not come any more: it is gone, or left before this step; NULL: it may come.
    const char *why_lost(int r) const;
    void leave();

  private:
    struct slot;
    wire(int ranks_, int rank_, slot *slots_) : ranks(ranks_), rank(rank_), slots(slots_)
    {
    }
    slot *slots;
};
} // namespace cudasim

#endif
