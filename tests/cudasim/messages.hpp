// The sends and receives of a group: each from one rank to one other, and all on their way at once.
#ifndef CUDASIM_MESSAGES_HPP
#define CUDASIM_MESSAGES_HPP

#include "exchange.hpp"

#include <vector>

namespace cudasim
{
struct message {
    bool is_send;
    size_t count;
    ncclDataType_t type;
    int peer;
    char *memory; // of a send: only read
};
std::string describe(const message &m);

class message_exchange : public exchange
{
  public:
    message_exchange(std::shared_ptr<communicator> comm_, const std::vector<message> &messages);

  private:
    struct part {
        message m;
        channel &way;
        size_t done, total; // bytes
        bool is_compared, is_over;

        channel::side &mine() const
        {
            return m.is_send ? way.sender : way.receiver;
        }
        const channel::side &other() const
        {
            return m.is_send ? way.receiver : way.sender;
        }
    };

    void begin() override;
    bool move() override;
    bool is_over() const override;
    bool move_part(part &p);
    void compare(const part &p);
    bool write_chunk(part &p);
    bool read_chunk(part &p);

    std::vector<part> parts;
};
} // namespace cudasim

#endif
