// Checks of what kernels read and write. The compiler calls us for every load and store of a .cu file (the
// instrumentation of its thread sanitizer, without that one's library). A kernel may touch its arguments, its own
// stack, device and pinned memory, and read constants; shared memory must be written in the block, and device memory by
// anything (written.cpp), before it is read; and of two threads that touch the same bytes, one writing, a barrier must
// stand between: __syncthreads in a block, __syncwarp in a warp. Blocks of one launch are never ordered.
#ifndef CUDASIM_ACCESS_HPP
#define CUDASIM_ACCESS_HPP

#include "block.hpp"

namespace cudasim
{
void access_begin_launch(const thread_work &work);
void access_end_launch();
void access_begin_block();
void access_barrier(); // the block passes a __syncthreads
} // namespace cudasim

#endif
