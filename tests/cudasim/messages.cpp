#include "messages.hpp"

#include "sim.hpp"

#include <algorithm>
#include <cstring>

namespace cudasim
{
std::string describe(const message &m)
{
    return (m.is_send ? "ncclSend of " : "ncclRecv of ") + describe(m.count, m.type) + (m.is_send ? " to" : " from") +
           " rank " + std::to_string(m.peer);
}

static std::string describe_all(const std::vector<message> &messages)
{
    std::string text;
    for (const message &m : messages)
        text += (text.empty() ? "" : "; ") + describe(m);
    return text;
}

message_exchange::message_exchange(std::shared_ptr<communicator> comm_, const std::vector<message> &messages)
    : exchange(std::move(comm_), describe_all(messages))
{
    for (const message &m : messages) {
        channel &way = m.is_send ? line.between(line.rank, m.peer) : line.between(m.peer, line.rank);
        parts.push_back({m, way, 0, m.count * bytes_of(m.type), false, false});
    }
}

// All at once: what is not begun now will not be before the end of this exchange.
void message_exchange::begin()
{
    for (part &p : parts) {
        if (p.m.is_send) p.way.end = p.way.written + (p.total + wire::chunk_bytes - 1) / wire::chunk_bytes;
        p.mine().count = p.m.count;
        p.mine().type = p.m.type;
        p.mine().begun++; // sequentially consistent: what was written before is seen with it
    }
    line.moves++;
}

bool message_exchange::is_over() const
{
    return std::all_of(parts.begin(), parts.end(), [](const part &p) { return p.is_over; });
}

bool message_exchange::move()
{
    bool moved = false;
    for (part &p : parts)
        moved = move_part(p) || moved;
    line.moves += moved;
    return moved;
}

// A message is over for its receiver when all is read, and for its sender when it has seen that.
bool message_exchange::move_part(part &p)
{
    if (p.is_over || p.other().begun < p.mine().begun) return false;
    if (!p.is_compared) compare(p);
    p.is_compared = true;
    if (comm->error != ncclSuccess) return false;
    return p.m.is_send ? write_chunk(p) : read_chunk(p);
}

// Before the first chunk: the other side is in this message as long as there are some to come.
void message_exchange::compare(const part &p)
{
    const std::string mine = describe(p.m.count, p.m.type), others = describe(p.other().count, p.other().type);
    if (mine != others)
        comm->fail(ncclInvalidUsage, "messages do not match: " + describe(p.m) + ", which " +
                                         (p.m.is_send ? "receives " : "sends ") + others);
}

bool message_exchange::write_chunk(part &p)
{
    const size_t bytes = std::min(wire::chunk_bytes, p.total - p.done);
    if (p.way.read != p.way.written) return false;
    p.is_over = bytes == 0;
    if (p.is_over) return true;
    check_written(p.m.memory + p.done, bytes);
    memcpy(p.way.data, p.m.memory + p.done, bytes);
    p.done += bytes;
    p.way.written++;
    return true;
}

bool message_exchange::read_chunk(part &p)
{
    const size_t bytes = std::min(wire::chunk_bytes, p.total - p.done);
    if (p.way.read == p.way.written) return false;
    note_written(p.m.memory + p.done, bytes);
    memcpy(p.m.memory + p.done, p.way.data, bytes);
    p.done += bytes;
    p.is_over = p.done == p.total;
    p.way.read++;
    return true;
}
} // namespace cudasim
