#include "exchange.hpp"

#include "sim.hpp"

namespace cudasim
{
using steady = std::chrono::steady_clock;

// --- failures ------------------------------------------------------------------------------------------------------

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

void communicator::look_for_circle()
{
    const int r = line->rank_in_the_way();
    if (r >= 0 && error == ncclSuccess)
        fail(ncclInvalidUsage, "calls do not match: " + std::string(line->doing(line->rank)) + " waits for rank " +
                                   std::to_string(r) + ", and that for others, in " + line->doing(r));
}

// --- exchanges -----------------------------------------------------------------------------------------------------

exchange::exchange(std::shared_ptr<communicator> comm_, std::string what_)
    : what(std::move(what_)), comm(std::move(comm_)), line(*comm->line), turn(comm->queued++)
{
}

bool exchange::advance()
{
    device_work work("NCCL", comm->device);
    while (now != stage::end)
        if (comm->error != ncclSuccess || !go_on()) return false;
    return true;
}

bool exchange::go_on()
{
    if (now == stage::turn) {
        if (comm->finished != turn) return false;
        line.show(what);
        begin();
        line.begin_exchange();
        now = stage::begun;
    } else if (is_over()) {
        line.end_exchange();
        comm->finished++;
        now = stage::end;
    } else if (!move()) {
        comm->look_for_lost_ranks();
        comm->look_for_circle();
        return false;
    }
    return true;
}

void exchange::await()
{
    const steady::time_point start = steady::now();
    while (!advance()) {
        if (comm->finished < turn) step_all(); // its turn comes when those of other streams are done
        if (std::chrono::duration<double>(steady::now() - start).count() > get_settings().nccl_timeout)
            die("NCCL rank %d would wait for ever for the end of %s", line.rank, what.c_str());
        wait_a_little();
    }
}
} // namespace cudasim
