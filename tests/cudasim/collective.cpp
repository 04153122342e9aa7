#include "collective.hpp"

#include "sim.hpp"

#include <algorithm>
#include <cstdio>
#include <cstring>

namespace cudasim
{
std::string describe(const collective &c)
{
    static const char *const names[] = {"ncclAllReduce", "ncclReduce", "ncclBroadcast"};
    char text[128];
    int length = snprintf(text, sizeof text, "%s of %s", names[(int)c.kind], describe(c.count, c.type).c_str());
    if (c.kind != collective_kind::broadcast)
        length += snprintf(text + length, sizeof text - (size_t)length, ", %s", c.op == ncclSum ? "sum" : "max");
    if (c.kind != collective_kind::all_reduce)
        snprintf(text + length, sizeof text - (size_t)length, ", root %d", c.root);
    return text;
}

collective_exchange::collective_exchange(std::shared_ptr<communicator> comm_, const collective &of_, const void *send_,
                                         void *receive_)
    : exchange(std::move(comm_), describe(of_)), of(of_), send((const char *)send_), receive((char *)receive_),
      total(of.count * bytes_of(of.type))
{
}

// --- stages --------------------------------------------------------------------------------------------------------

void collective_exchange::begin()
{
    end_step(stage::shown);
}

void collective_exchange::end_step(stage next)
{
    line.end_step();
    target = line.step;
    now = next;
}

bool collective_exchange::is_over() const
{
    return now == stage::end;
}

bool collective_exchange::move()
{
    if (now != stage::write && !line.all_at(target)) return false;
    switch (now) {
    case stage::shown:
        compare();
        now = stage::write;
        break;
    case stage::write:
        write_chunk();
        end_step(stage::written);
        break;
    case stage::written:
        read_chunk();
        end_step(stage::read);
        break;
    case stage::read: // nobody writes the next chunk before all have read this one
        done += std::min(wire::chunk_bytes, total - done);
        now = done < total ? stage::write : stage::end;
        break;
    case stage::end:
        break;
    }
    return true;
}

void collective_exchange::compare()
{
    for (int r = 0; r < line.ranks; r++)
        if (line.doing(r) != what)
            comm->fail(ncclInvalidUsage, "collectives do not match: " + what + ", but rank " + std::to_string(r) +
                                             " calls " + line.doing(r));
}

// --- data ----------------------------------------------------------------------------------------------------------

bool collective_exchange::is_writer() const
{
    return of.kind != collective_kind::broadcast || of.root == line.rank;
}

bool collective_exchange::is_reader() const
{
    return of.kind != collective_kind::reduce || of.root == line.rank;
}

void collective_exchange::write_chunk()
{
    const size_t bytes = std::min(wire::chunk_bytes, total - done);
    if (!is_writer()) return;
    check_written(send + done, bytes);
    memcpy(line.chunk(line.rank), send + done, bytes);
}

void collective_exchange::read_chunk()
{
    const size_t bytes = std::min(wire::chunk_bytes, total - done);
    if (!is_reader()) return;
    note_written(receive + done, bytes);
    if (of.kind == collective_kind::broadcast)
        memcpy(receive + done, line.chunk(of.root), bytes);
    else
        add_chunks(bytes);
}

void collective_exchange::add_chunks(size_t bytes)
{
    int64_t *out = (int64_t *)(receive + done);
    for (size_t i = 0; i < bytes / sizeof *out; i++) {
        int64_t value = ((const int64_t *)line.chunk(0))[i];
        for (int r = 1; r < line.ranks; r++) {
            const int64_t other = ((const int64_t *)line.chunk(r))[i];
            value = of.op == ncclSum ? (int64_t)((uint64_t)value + (uint64_t)other) : std::max(value, other);
        }
        out[i] = value;
    }
}
} // namespace cudasim
