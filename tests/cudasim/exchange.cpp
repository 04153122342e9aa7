#include "exchange.hpp"

#include "sim.hpp"

#include <algorithm>
#include <cstring>

namespace cudasim
{
using steady = std::chrono::steady_clock;

void communicator::fail(ncclResult_t result, const std::string &words)
{
    if (error.exchange(result) == ncclSuccess) complain("NCCL rank %d: %s", line->rank, words.c_str());
}

void communicator::look_for_lost_ranks()
{
    if (!get_settings().lost_is_seen) return;
    for (int r = 0; r < line->ranks && error == ncclSuccess; r++)
        if (const char *why = r == line->rank ? nullptr : line->why_lost(r))
            fail(ncclRemoteError, "rank " + std::to_string(r) + " " + why);
}

exchange::exchange(std::shared_ptr<communicator> comm_, const collective &what_, const void *send_, void *receive_)
    : comm(std::move(comm_)), line(*comm->line), what(what_), send((const char *)send_), receive((char *)receive_),
      turn(comm->queued++), total(what.count * bytes_of(what.type))
{
}

// --- stages --------------------------------------------------------------------------------------------------------

bool exchange::advance()
{
    device_work work("NCCL", comm->device);
    while (now != stage::end)
        if (comm->error != ncclSuccess || !move()) return false;
    return true;
}

// One stage on; false if others must come first.
bool exchange::move()
{
    switch (now) {
    case stage::turn:
        if (comm->finished != turn) return false;
        line.show(what);
        now = stage::shown;
        break;
    case stage::shown:
        if (!all_came()) return false;
        compare();
        now = stage::write;
        return true;
    case stage::write:
        write_chunk();
        now = stage::written;
        break;
    case stage::written:
        if (!all_came()) return false;
        read_chunk();
        now = stage::read;
        break;
    case stage::read: // nobody writes the next chunk before all have read this one
        if (!all_came()) return false;
        done += std::min(wire::chunk_bytes, total - done);
        now = done < total ? stage::write : stage::end;
        comm->finished += now == stage::end;
        return true;
    case stage::end:
        return true;
    }
    line.end_step();
    target = line.step;
    return true;
}

bool exchange::all_came() const
{
    if (line.all_at(target)) return true;
    comm->look_for_lost_ranks();
    return false;
}

void exchange::compare()
{
    for (int r = 0; r < line.ranks; r++)
        if (describe(line.shown(r)) != describe(what))
            comm->fail(ncclInvalidUsage, "collectives do not match: " + describe(what) + ", but rank " +
                                             std::to_string(r) + " calls " + describe(line.shown(r)));
}

void exchange::await()
{
    const steady::time_point start = steady::now();
    while (!advance()) {
        if (comm->finished < turn) step_all(); // its turn comes when those of other streams are done
        if (std::chrono::duration<double>(steady::now() - start).count() > get_settings().nccl_timeout)
            die("NCCL rank %d would wait for ever for the end of %s", line.rank, describe(what).c_str());
        wait_a_little();
    }
}

// --- data ----------------------------------------------------------------------------------------------------------

bool exchange::is_writer() const
{
    return what.kind != collective_kind::broadcast || what.root == line.rank;
}

bool exchange::is_reader() const
{
    return what.kind != collective_kind::reduce || what.root == line.rank;
}

void exchange::write_chunk()
{
    const size_t bytes = std::min(wire::chunk_bytes, total - done);
    if (!is_writer()) return;
    check_written(send + done, bytes);
    memcpy(line.chunk(line.rank), send + done, bytes);
}

void exchange::read_chunk()
{
    const size_t bytes = std::min(wire::chunk_bytes, total - done);
    if (!is_reader()) return;
    note_written(receive + done, bytes);
    if (what.kind == collective_kind::broadcast)
        memcpy(receive + done, line.chunk(what.root), bytes);
    else
        add_chunks(bytes);
}

void exchange::add_chunks(size_t bytes)
{
    int64_t *out = (int64_t *)(receive + done);
    for (size_t i = 0; i < bytes / sizeof *out; i++) {
        int64_t value = ((const int64_t *)line.chunk(0))[i];
        for (int r = 1; r < line.ranks; r++) {
            const int64_t other = ((const int64_t *)line.chunk(r))[i];
            value = what.op == ncclSum ? (int64_t)((uint64_t)value + (uint64_t)other) : std::max(value, other);
        }
        out[i] = value;
    }
}
} // namespace cudasim
