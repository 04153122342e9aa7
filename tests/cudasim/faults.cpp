// Who may touch device memory. Its pages are closed; when the device's own work touches them, the fault opens the
// allocation until the call ends. Any other touch is a mistake, which is named before the process ends.
#include "sim.hpp"

#include <csignal>
#include <cstdlib>
#include <mutex>
#include <sys/mman.h>
#include <time.h>
#include <vector>

namespace cudasim
{
namespace
{
struct page_range {
    char *start;
    size_t bytes;
};

std::mutex api_lock;
std::vector<page_range> open_pages; // guarded by api_lock, as only its owner does the device's work
struct sigaction previous;

thread_local const char *work = nullptr; // what the device does on this thread; NULL: the thread is the host
thread_local int work_device = 0;

[[noreturn]] void report(const void *address)
{
    if (in_stack_guard(address)) die("%s: the stack of the device thread is full", where_running().c_str());
    if (work) die("%s touched %s", where_running().c_str(), describe(address).c_str());
    die("the host touched %s", describe(address).c_str());
}

void on_fault(int, siginfo_t *info, void *)
{
    page_range pages;
    if (work && device_pages(info->si_addr, work_device, &pages.start, &pages.bytes)) {
        if (mprotect(pages.start, pages.bytes, PROT_READ | PROT_WRITE) != 0)
            die("mprotect of %zu bytes failed", pages.bytes);
        open_pages.push_back(pages);
        return;
    }
    if (work || is_ours(info->si_addr)) report(info->si_addr);
    sigaction(SIGSEGV, &previous, nullptr); // not ours: the instruction faults again, for whoever was here before
}

// Handlers run on a stack of their own, as the fault may be the end of a stack.
void give_signal_stack()
{
    static thread_local std::vector<char> memory;
    stack_t stack = {};
    if (sigaltstack(nullptr, &stack) == 0 && !(stack.ss_flags & SS_DISABLE)) return;
    memory.resize(64 << 10);
    stack = {};
    stack.ss_sp = memory.data();
    stack.ss_size = memory.size();
    sigaltstack(&stack, nullptr);
}
} // namespace

void catch_faults()
{
    struct sigaction ours = {}, old;
    ours.sa_sigaction = on_fault;
    ours.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    sigaction(SIGSEGV, &ours, &old);
    if (!(old.sa_flags & SA_SIGINFO) || old.sa_sigaction != on_fault) previous = old;
    static thread_local bool has_stack = false;
    if (!has_stack) give_signal_stack();
    has_stack = true;
}

device_work::device_work(const char *what, int device) : outer_what(work), outer_device(work_device)
{
    work = what;
    work_device = device;
}

device_work::~device_work()
{
    work = outer_what;
    work_device = outer_device;
}

const char *current_work()
{
    return work;
}

void close_pages()
{
    for (const page_range &pages : open_pages)
        if (mprotect(pages.start, pages.bytes, PROT_NONE) != 0) die("mprotect of %zu bytes failed", pages.bytes);
    open_pages.clear();
}

call::call()
{
    api_lock.lock();
    catch_faults();
}

call::~call()
{
    close_pages();
    api_lock.unlock();
}

void wait_a_little()
{
    close_pages();
    api_lock.unlock();
    const timespec pause = {0, 50000};
    nanosleep(&pause, nullptr);
    api_lock.lock();
}
} // namespace cudasim
