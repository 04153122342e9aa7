// One collective of one communicator, as it goes on.
#ifndef CUDASIM_EXCHANGE_HPP
#define CUDASIM_EXCHANGE_HPP

#include "wire.hpp"

#include <chrono>
#include <memory>

namespace cudasim
{
// A communicator; collectives in flight keep it.
struct communicator {
    std::unique_ptr<wire> line;
    int device;
    std::atomic<ncclResult_t> error{ncclSuccess};
    uint64_t queued = 0,
             finished = 0; // collectives: they take their turns in the order they were queued, on all streams
    // The step of ours that others wait for, and since when; kept by the thread that serves them.
    uint64_t waited_step = UINT64_MAX;
    std::chrono::steady_clock::time_point waited_since;

    // Notes that the communicator cannot go on, and says it.
    void fail(ncclResult_t result, const std::string &words);
    // Notes that another rank is lost, if one is and the settings have that seen.
    void look_for_lost_ranks();
};

class exchange
{
  public:
    exchange(std::shared_ptr<communicator> comm_, const collective &what_, const void *send_, void *receive_);

    // Goes on as far as it gets without waiting; true at the end.
    bool advance();
    // Waits for the end; a wait without end ends the process.
    void await();

  private:
    enum class stage { turn, shown, write, written, read, end };

    bool move();
    bool all_came() const;
    bool is_reader() const;
    bool is_writer() const;
    void compare();
    void write_chunk();
    void read_chunk();
    void add_chunks(size_t bytes);

    const std::shared_ptr<communicator> comm;
    wire &line;
    const collective what;
    const char *const send;
    char *const receive;
    const uint64_t turn;
    stage now = stage::turn;
    uint64_t target = 0;        // the step at which all have done what is waited for
    size_t done = 0, total = 0; // bytes
};
} // namespace cudasim

#endif
