// A block of threads that runs, and what its lanes wait for.
#ifndef CUDASIM_BLOCK_HPP
#define CUDASIM_BLOCK_HPP

#include "fiber.hpp"

#include <cudasim_launch.h>

namespace cudasim
{
enum class lane_state { ready, at_barrier, exchanging, ended };

struct block;

struct lane {
    uint3 thread;
    int index; // in its block
    lane_state state;
    fiber context;
    block *home;
    const char *file; // where it waits
    int line;
    // while exchanging
    warp_op op;
    unsigned mask;
    uint64_t value, result;
    int operand;
    uint32_t syncs; // the last __syncwarp it took part in; counted in its warp

    void wait(lane_state why, const char *file_, int line_);
};

struct block {
    const char *name; // of the kernel
    const thread_work *work;
    uint3 index;
    dim3 size, grid;
    bool reversed; // last warp and lane first: half of the blocks, so that a missing barrier shows
    int count;
    lane lanes[max_block_threads];

    void run();

  private:
    bool run_warp(int warp);
    bool exchange(int first, int end); // warp.cpp: completes what the lanes of a warp wait for; true if one can go on
    bool open_barrier();
    [[noreturn]] void report(int i);
};

extern lane *running; // the lane that runs now; NULL: no kernel does
const char *name_of(warp_op op);

// Both wait for the same thing at the same line.
inline bool waits_alike(const lane &a, const lane &b)
{
    return a.state == b.state && a.line == b.line && (a.file == b.file || strcmp(a.file, b.file) == 0) &&
           (a.state != lane_state::exchanging || a.op == b.op);
}
} // namespace cudasim

#endif
