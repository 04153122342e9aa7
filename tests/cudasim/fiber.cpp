#include "fiber.hpp"

#include "sim.hpp"

#include <sys/mman.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#define START_SWITCH(fake_p, stack, bytes) __sanitizer_start_switch_fiber(fake_p, stack, bytes)
#define FINISH_SWITCH(fake, stack_p, bytes_p) __sanitizer_finish_switch_fiber(fake, stack_p, bytes_p)
#define NOT_SANITIZED __attribute__((no_sanitize_address))
#else
#define START_SWITCH(fake_p, stack, bytes) ((void)(fake_p))
#define FINISH_SWITCH(fake, stack_p, bytes_p) ((void)(fake), (void)(stack_p))
#define NOT_SANITIZED
#endif

namespace cudasim
{
namespace detail = boost::context::detail;

stack_pool &stack_pool::get()
{
    static stack_pool *const pool = new stack_pool;
    return *pool;
}

stack_pool::stack_pool() : page((size_t)sysconf(_SC_PAGESIZE))
{
    const size_t each = bytes + page;
    void *all = mmap(nullptr, each * max_block_threads, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (all == MAP_FAILED) die("no memory for the stacks of a block");
    memory = (char *)all;
    for (int i = 0; i < max_block_threads; i++)
        if (mprotect(memory + (size_t)i * each, page, PROT_NONE) != 0) die("mprotect of a stack failed");
}

char *stack_pool::bottom(int index) const
{
    return memory + (size_t)index * (bytes + page) + page;
}

bool stack_pool::holds(const void *address) const
{
    return (uintptr_t)address - (uintptr_t)memory < (bytes + page) * max_block_threads;
}

bool stack_pool::is_guard(const void *address) const
{
    return holds(address) && ((uintptr_t)address - (uintptr_t)memory) % (bytes + page) < page;
}

bool in_stack_guard(const void *address)
{
    return stack_pool::get().is_guard(address);
}

void fiber::start(int index, void (*entry_)(void *), void *argument_)
{
    stack = stack_pool::get().bottom(index);
    entry = entry_;
    argument = argument_;
    fake_stack = nullptr;
    const size_t shift =
        (size_t)index % 32 * 128; // tops at the same place of their pages would share few lines of the cache
    self = detail::make_fcontext((void *)(stack + stack_pool::bytes - shift), stack_pool::bytes - shift, main);
}

NOT_SANITIZED void fiber::main(detail::transfer_t from)
{
    fiber *me = (fiber *)from.data;
    me->scheduler = from.fctx;
    FINISH_SWITCH(nullptr, &me->scheduler_stack, &me->scheduler_bytes);
    me->entry(me->argument);
    me->end();
}

void fiber::resume()
{
    void *fake = nullptr;
    START_SWITCH(&fake, stack, stack_pool::bytes);
    self = detail::jump_fcontext(self, this).fctx;
    FINISH_SWITCH(fake, nullptr, nullptr);
}

void fiber::pause()
{
    START_SWITCH(&fake_stack, scheduler_stack, scheduler_bytes);
    scheduler = detail::jump_fcontext(scheduler, nullptr).fctx;
    FINISH_SWITCH(fake_stack, &scheduler_stack, &scheduler_bytes);
}

NOT_SANITIZED void fiber::end()
{
    START_SWITCH(nullptr, scheduler_stack, scheduler_bytes);
    detail::jump_fcontext(scheduler, nullptr);
    __builtin_unreachable();
}
} // namespace cudasim
