// Fibers: the threads of a block. Each has a small stack of its own; the block's scheduler resumes one at a time.
#ifndef CUDASIM_FIBER_HPP
#define CUDASIM_FIBER_HPP

#include <boost/context/detail/fcontext.hpp>
#include <cstddef>

namespace cudasim
{
constexpr int max_block_threads = 1024;

// The stacks, one for each thread of the largest block; a closed page below each.
class stack_pool
{
  public:
    static stack_pool &get();
    char *bottom(int index) const;
    bool holds(const void *address) const;    // some thread's stack, or what is below it
    bool is_guard(const void *address) const; // what is below
    static constexpr size_t bytes = 64 << 10;

  private:
    stack_pool();
    char *memory;
    size_t page;
};

class fiber
{
  public:
    // Prepares to run entry(argument) on stack `index`; the first resume() starts it.
    void start(int index, void (*entry)(void *), void *argument);
    // From the scheduler: runs until the next pause() or the end.
    void resume();
    // From inside: back to the scheduler.
    void pause();
    // From inside, last: back to the scheduler for good.
    [[noreturn]] void end();

  private:
    static void main(boost::context::detail::transfer_t from);
    boost::context::detail::fcontext_t self, scheduler;
    void (*entry)(void *);
    void *argument;
    const char *stack;
    // for the address sanitizer: where the scheduler's stack is, and both sides' fake stacks
    const void *scheduler_stack;
    size_t scheduler_bytes;
    void *fake_stack;
};
} // namespace cudasim

#endif
