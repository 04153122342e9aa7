// One collective: what all ranks call alike.
#ifndef CUDASIM_COLLECTIVE_HPP
#define CUDASIM_COLLECTIVE_HPP

#include "exchange.hpp"

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

class collective_exchange : public exchange
{
  public:
    collective_exchange(std::shared_ptr<communicator> comm_, const collective &of_, const void *send_, void *receive_);

  private:
    enum class stage { shown, write, written, read, end };

    void begin() override;
    bool move() override;
    bool is_over() const override;
    void end_step(stage next);
    bool is_reader() const;
    bool is_writer() const;
    void compare();
    void write_chunk();
    void read_chunk();
    void add_chunks(size_t bytes);

    const collective of;
    const char *const send;
    char *const receive;
    stage now = stage::shown;
    uint64_t target = 0;        // the step at which all have done what is waited for
    size_t done = 0, total = 0; // bytes
};
} // namespace cudasim

#endif
