// Runs kernels: block after block, each thread of a block as a fiber. A thread runs until it waits or ends. A barrier
// of the block waits for all threads of the block, an exchange for the lanes of its mask; when nobody can go on and
// somebody still waits, the threads have diverged, and the report says who waits where.
#include "block.hpp"

#include "sim.hpp"

#include <cstdio>
#include <cudasim_launch.h>

namespace cudasim
{
const thread_view *running = nullptr;

namespace
{
block *current_block = nullptr;
lane *current_lane = nullptr;

std::string kernel_name(const char *text)
{
    int depth = 0;
    size_t length = 0;
    for (; text[length] && (text[length] != ',' || depth > 0); length++)
        depth += text[length] == '<' || text[length] == '(' ? 1 : text[length] == '>' || text[length] == ')' ? -1 : 0;
    return std::string(text, length);
}

void run_lane(void *argument)
{
    lane *me = (lane *)argument;
    (*me->home->body)();
    me->state = lane_state::ended;
}

bool shape_is_valid(dim3 grid, dim3 b)
{
    const uint64_t threads = (uint64_t)b.x * b.y * b.z;
    return grid.x > 0 && grid.x <= 0x7fffffffu && grid.y > 0 && grid.y <= 65535 && grid.z > 0 && grid.z <= 65535 &&
           threads > 0 && threads <= max_block_threads && b.x <= 1024 && b.y <= 1024 && b.z <= 64;
}

void run_grid(const std::string &name, dim3 grid, dim3 block_dim, const std::function<void()> &body)
{
    static block *const shared = new block; // lanes are reused; one kernel runs at a time
    block &b = *shared;
    b.name = name.c_str();
    b.body = &body;
    current_block = &b;
    for (unsigned z = 0; z < grid.z; z++)
        for (unsigned y = 0; y < grid.y; y++)
            for (unsigned x = 0; x < grid.x; x++) {
                b.reversed = (x + y + z) % 2 == 1;
                b.run({x, y, z}, block_dim, grid);
            }
    current_block = nullptr;
    set_running(nullptr);
}
} // namespace

// --- one block
// --------------------------------------------------------------------------------------------------------

void block::run(uint3 index, dim3 block_dim, dim3 grid)
{
    count = (int)(block_dim.x * block_dim.y * block_dim.z);
    for (int i = 0; i < count; i++) {
        const unsigned t = (unsigned)i;
        lane &l = lanes[i];
        l.view = {
            {t % block_dim.x, t / block_dim.x % block_dim.y, t / (block_dim.x * block_dim.y)}, index, block_dim, grid};
        l.state = lane_state::ready;
        l.home = this;
        l.context.start(i, run_lane, &l);
    }
    bool moved = true;
    while (moved) {
        moved = false;
        const int warps = (count + 31) / 32;
        for (int w = 0; w < warps; w++)
            moved = run_warp(reversed ? warps - 1 - w : w) || moved;
        moved = open_barrier() || moved;
    }
    for (int i = 0; i < count; i++)
        if (lanes[i].state != lane_state::ended) report(i);
}

// Runs every lane that can, until the warp waits for others.
bool block::run_warp(int warp)
{
    const int first = warp * 32, end = first + 32 < count ? first + 32 : count;
    bool moved = false;
    do {
        for (int i = first; i < end; i++) {
            lane &l = lanes[reversed ? end - 1 - (i - first) : i];
            if (l.state != lane_state::ready) continue;
            set_running(&l);
            l.context.resume();
            moved = true;
        }
    } while (exchange(first, end));
    return moved;
}

// Lets all go on when all are at the same barrier.
bool block::open_barrier()
{
    for (int i = 0; i < count; i++)
        if (lanes[i].state != lane_state::at_barrier || !waits_alike(lanes[i], lanes[0])) return false;
    for (int i = 0; i < count; i++)
        lanes[i].state = lane_state::ready;
    return true;
}

// --- divergence
// -------------------------------------------------------------------------------------------------------

static std::string lane_text(const lane &l)
{
    const char *file = strrchr(l.file ? l.file : "", '/');
    char text[256];
    if (l.state == lane_state::ended)
        snprintf(text, sizeof text, "thread (%u, %u, %u) has ended", l.view.thread.x, l.view.thread.y, l.view.thread.z);
    else
        snprintf(text, sizeof text, "thread (%u, %u, %u) waits in %s at %s:%d", l.view.thread.x, l.view.thread.y,
                 l.view.thread.z, l.state == lane_state::at_barrier ? "__syncthreads" : name_of(l.op),
                 file ? file + 1 : l.file, l.line);
    return text;
}

// Lane i waits and nothing can free it: names it and the first one that it misses.
void block::report(int i)
{
    const lane &l = lanes[i];
    const int first = l.state == lane_state::at_barrier ? 0 : i / 32 * 32;
    const int end = l.state == lane_state::at_barrier ? count : first + 32;
    std::string missing;
    for (int j = first; j < end && missing.empty(); j++) {
        if (l.state == lane_state::exchanging && !(l.mask >> (j - first) & 1)) continue;
        if (j >= count)
            missing = "lane " + std::to_string(j - first) + " of its mask does not exist";
        else if (!waits_alike(l, lanes[j]))
            missing = lane_text(lanes[j]);
        if (missing.empty() && j < count && l.state == lane_state::exchanging && lanes[j].mask != l.mask)
            missing = lane_text(lanes[j]) + " with another mask";
    }
    die("divergence in kernel %s, block (%u, %u, %u): %s, but %s", name, l.view.block.x, l.view.block.y, l.view.block.z,
        lane_text(l).c_str(), missing.c_str());
}

// --- called by kernels
// ------------------------------------------------------------------------------------------------

void set_running(lane *l)
{
    current_lane = l;
    running = l ? &l->view : nullptr;
}

lane &this_lane()
{
    return *current_lane;
}

void lane::wait(lane_state why, const char *file_, int line_)
{
    state = why;
    file = file_;
    line = line_;
    context.pause();
}

void barrier(const char *file, int line)
{
    this_lane().wait(lane_state::at_barrier, file, line);
}

// --- launches
// ---------------------------------------------------------------------------------------------------------

std::string where_running()
{
    if (!running) return current_work() ? current_work() : "the host";
    char text[512];
    const thread_view &v = *running;
    snprintf(text, sizeof text, "kernel %s, block (%u, %u, %u), thread (%u, %u, %u)", current_block->name, v.block.x,
             v.block.y, v.block.z, v.thread.x, v.thread.y, v.thread.z);
    return text;
}

bool kernel_may_use(const char *text, const void *pointer)
{
    call guard;
    place where;
    const std::string what = "kernel " + kernel_name(text);
    if (!pointer) return true;
    if (!find_place(what.c_str(), pointer, 0, &where)) return failed(cudaErrorInvalidValue), false;
    if (where == place::pinned) return true;
    return is_device(what.c_str(), pointer, 0) || (failed(cudaErrorInvalidValue), false);
}

cudaError_t launch(const char *text, dim3 grid, dim3 block_dim, cudaStream_t stream, std::function<void()> body)
{
    call guard;
    if (should_fail(kind::launch)) return failed(cudaErrorLaunchFailure);
    const std::string name = kernel_name(text);
    if (!shape_is_valid(grid, block_dim)) {
        complain("kernel %s: grid (%u, %u, %u) of blocks (%u, %u, %u) is too large or empty", name.c_str(), grid.x,
                 grid.y, grid.z, block_dim.x, block_dim.y, block_dim.z);
        return failed(cudaErrorInvalidConfiguration);
    }
    auto run = [name, grid, block_dim, body] { run_grid(name, grid, block_dim, body); };
    return failed(enqueue(stream, {"kernel " + name, run, nullptr, nullptr}));
}
} // namespace cudasim
