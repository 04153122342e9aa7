// What ranks of a communicator do together, as it goes on: a collective (collective.hpp) or messages (messages.hpp).
#ifndef CUDASIM_EXCHANGE_HPP
#define CUDASIM_EXCHANGE_HPP

#include "wire.hpp"

#include <chrono>
#include <memory>

namespace cudasim
{
// A communicator; exchanges in flight keep it.
struct communicator {
    std::unique_ptr<wire> line;
    int device;
    std::atomic<ncclResult_t> error{ncclSuccess};
    uint64_t queued = 0,
             finished = 0; // exchanges: they take their turns in the order they were queued, on all streams
    // How far we were when others began to wait for us, and since when; kept by the thread that serves them.
    uint64_t waited_moves = UINT64_MAX;
    std::chrono::steady_clock::time_point waited_since;

    // Notes that the communicator cannot go on, and says it.
    void fail(ncclResult_t result, const std::string &words);
    // Notes that another rank is lost, if one is and the settings have that seen.
    void look_for_lost_ranks();
    // Notes that ranks wait for each other in a circle: their calls do not match.
    void look_for_circle();
};

class exchange
{
  public:
    exchange(std::shared_ptr<communicator> comm_, std::string what_);
    virtual ~exchange() = default;

    // Goes on as far as it gets without waiting; true at the end.
    bool advance();
    // Waits for the end; a wait without end ends the process.
    void await();

    const std::string what; // the calls

  protected:
    // Its turn has come, and other ranks see what it is.
    virtual void begin() = 0;
    // One piece on; false if others must come first.
    virtual bool move() = 0;
    virtual bool is_over() const = 0;

    const std::shared_ptr<communicator> comm;
    wire &line;

  private:
    bool go_on();

    enum class stage { turn, begun, end };
    const uint64_t turn;
    stage now = stage::turn;
};
} // namespace cudasim

#endif
