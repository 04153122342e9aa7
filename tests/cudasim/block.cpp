// Runs kernels: block after block, each thread of a block as a fiber. A thread runs until it waits or ends. A barrier
// of the block waits for all threads of the block, an exchange for the lanes of its mask; when nobody can go on and
// somebody still waits, the threads have diverged, and the report says who waits where.
#include "access.hpp"

#include "sim.hpp"

#include <cstdio>
#include <cudasim_launch.h>

namespace cudasim
{
lane *running = nullptr;

namespace
{
std::string kernel_name(const char *text)
{
    int depth = 0;
    size_t length = 0;
    for (; text[length] && (text[length] != ',' || depth > 0); length++)
        depth += text[length] == '<' || text[length] == '(' ? 1 : text[length] == '>' || text[length] == ')' ? -1 : 0;
    return text[0] == '(' ? std::string(text + 1, length - 2) : std::string(text, length);
}

void run_lane(void *argument)
{
    lane *me = (lane *)argument;
    const thread_work &work = *me->home->work;
    work.run(work.call);
    me->state = lane_state::ended;
}

bool shape_is_valid(dim3 grid, dim3 b)
{
    const uint64_t threads = (uint64_t)b.x * b.y * b.z;
    return grid.x > 0 && grid.x <= 0x7fffffffu && grid.y > 0 && grid.y <= 65535 && grid.z > 0 && grid.z <= 65535 &&
           threads > 0 && threads <= max_block_threads && b.x <= 1024 && b.y <= 1024 && b.z <= 64;
}

void run_grid(const std::string &name, dim3 grid, dim3 size, const thread_work &work)
{
    static block *const shared = new block; // lanes are reused; one kernel runs at a time
    block &b = *shared;
    b.name = name.c_str();
    b.work = &work;
    b.size = size;
    b.grid = grid;
    access_begin_launch(work);
    for (b.index.z = 0; b.index.z < grid.z; b.index.z++)
        for (b.index.y = 0; b.index.y < grid.y; b.index.y++)
            for (b.index.x = 0; b.index.x < grid.x; b.index.x++)
                b.run();
    access_end_launch();
    running = nullptr;
}
} // namespace

// --- one block -----------------------------------------------------------------------------------------------------

void block::run()
{
    access_begin_block();
    count = (int)(size.x * size.y * size.z);
    reversed = (index.x + index.y + index.z) % 2 == 1;
    for (int i = 0; i < count; i++) {
        const unsigned t = (unsigned)i;
        lane &l = lanes[i];
        l.thread = {t % size.x, t / size.x % size.y, t / (size.x * size.y)};
        l.index = i;
        l.state = lane_state::ready;
        l.home = this;
        l.syncs = 0;
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
            running = &l;
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
    access_barrier();
    return true;
}

// --- divergence ----------------------------------------------------------------------------------------------------

static std::string lane_text(const lane &l)
{
    const char *file = strrchr(l.file ? l.file : "", '/');
    char text[256];
    if (l.state == lane_state::ended)
        snprintf(text, sizeof text, "thread (%u, %u, %u) has ended", l.thread.x, l.thread.y, l.thread.z);
    else
        snprintf(text, sizeof text, "thread (%u, %u, %u) waits in %s at %s:%d", l.thread.x, l.thread.y, l.thread.z,
                 l.state == lane_state::at_barrier ? "__syncthreads" : name_of(l.op), file ? file + 1 : l.file, l.line);
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
    die("divergence in kernel %s, block (%u, %u, %u): %s, but %s", name, index.x, index.y, index.z,
        lane_text(l).c_str(), missing.c_str());
}

// --- called by kernels ---------------------------------------------------------------------------------------------

void lane::wait(lane_state why, const char *file_, int line_)
{
    state = why;
    file = file_;
    line = line_;
    context.pause();
}

uint3 thread_index()
{
    return running->thread;
}

uint3 block_index()
{
    return running->home->index;
}

dim3 block_size()
{
    return running->home->size;
}

dim3 grid_size()
{
    return running->home->grid;
}

void barrier(const char *file, int line)
{
    running->wait(lane_state::at_barrier, file, line);
}

// --- launches ------------------------------------------------------------------------------------------------------

std::string where_running()
{
    if (!running) return current_work() ? current_work() : "the host";
    char text[512];
    const block &b = *running->home;
    snprintf(text, sizeof text, "kernel %s, block (%u, %u, %u), thread (%u, %u, %u)", b.name, b.index.x, b.index.y,
             b.index.z, running->thread.x, running->thread.y, running->thread.z);
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

void launch(const char *text, dim3 grid, dim3 size, cudaStream_t stream, thread_work work)
{
    call guard;
    std::shared_ptr<const void> owner(work.call, work.destroy);
    if (should_fail(kind::launch)) {
        failed(cudaErrorLaunchFailure);
        return;
    }
    const std::string name = kernel_name(text);
    if (!shape_is_valid(grid, size)) {
        complain("kernel %s: grid (%u, %u, %u) of blocks (%u, %u, %u) is too large or empty", name.c_str(), grid.x,
                 grid.y, grid.z, size.x, size.y, size.z);
        failed(cudaErrorInvalidConfiguration);
        return;
    }
    auto run = [name, grid, size, work, owner] { run_grid(name, grid, size, work); };
    failed(enqueue(stream, {"kernel " + name, run, nullptr, nullptr}));
}
} // namespace cudasim
