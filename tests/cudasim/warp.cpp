// Exchanges between the lanes of a warp: shuffles, votes and __syncwarp. Each waits for the lanes of its mask, no
// others.
#include "block.hpp"

#include "sim.hpp"

#include <algorithm>

namespace cudasim
{
const char *name_of(warp_op op)
{
    static const char *const names[] = {"__syncwarp",     "__shfl_sync", "__shfl_xor_sync", "__shfl_down_sync",
                                        "__shfl_up_sync", "__any_sync",  "__all_sync",      "__ballot_sync"};
    return names[(int)op];
}

namespace
{
// The lane that a shuffle reads from, as CUDA defines it for a width of 32.
int source_of(const lane &l, int self)
{
    switch (l.op) {
    case warp_op::shfl:
        return l.operand & 31;
    case warp_op::shfl_xor:
        return self ^ l.operand;
    case warp_op::shfl_down:
        return self + l.operand > 31 ? self : self + l.operand;
    case warp_op::shfl_up:
        return self - l.operand < 0 ? self : self - l.operand;
    default:
        return self;
    }
}

uint64_t shuffled(const lane *warp, int self)
{
    const lane &l = warp[self];
    const int source = source_of(l, self);
    if (source < 0 || source > 31 || !(l.mask >> source & 1))
        die("%s: %s reads lane %d, which is not in its mask %08x", where_running().c_str(), name_of(l.op), source,
            l.mask);
    return warp[source].value;
}

uint64_t voted(const lane *warp, const lane &l)
{
    unsigned yes = 0;
    for (int i = 0; i < 32; i++)
        if (l.mask >> i & 1) yes |= (unsigned)(warp[i].value != 0) << i;
    return l.op == warp_op::any ? yes != 0 : l.op == warp_op::all ? yes == l.mask : yes;
}

// Whether all lanes of l's mask wait for the same exchange with the same mask.
bool is_complete(const lane *warp, int lanes, const lane &l)
{
    for (int i = 0; i < 32; i++)
        if (l.mask >> i & 1 && (i >= lanes || !waits_alike(l, warp[i]) || warp[i].mask != l.mask)) return false;
    return true;
}

void complete(lane *warp, unsigned mask)
{
    uint32_t syncs = 0;
    for (int i = 0; i < 32; i++)
        if (mask >> i & 1 && warp[i].op == warp_op::sync) syncs = std::max(syncs, warp[i].syncs + 1);
    for (int i = 0; i < 32; i++)
        if (mask >> i & 1) {
            lane &l = warp[i];
            running = &l;
            if (l.op >= warp_op::any)
                l.result = voted(warp, l);
            else if (l.op != warp_op::sync)
                l.result = shuffled(warp, i);
            else
                l.syncs = syncs;
            l.state = lane_state::ready;
        }
}
} // namespace

bool block::exchange(int first, int end)
{
    bool any = false;
    for (int i = first; i < end; i++)
        if (lanes[i].state == lane_state::exchanging && is_complete(lanes + first, end - first, lanes[i])) {
            complete(lanes + first, lanes[i].mask);
            any = true;
        }
    return any;
}

uint64_t warp(warp_op op, unsigned mask, uint64_t value, int operand, const char *file, int line)
{
    lane &l = *running;
    const int self = l.index % 32;
    if (!(mask >> self & 1))
        die("%s: %s with mask %08x, in which it is not itself", where_running().c_str(), name_of(op), mask);
    l.op = op;
    l.mask = mask;
    l.value = value;
    l.operand = operand;
    l.wait(lane_state::exchanging, file, line);
    return l.result;
}
} // namespace cudasim
