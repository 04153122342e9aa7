// Device and pinned memory. Every allocation has pages of its own between closed ones that nobody may touch; it ends at
// the end of its last page, but for what is left to 256 bytes. The pages of device memory are closed unless the device
// works (faults.cpp). Freed addresses are never used again.
#include "sim.hpp"

#include <cstdio>
#include <cstring>
#include <iterator>
#include <map>
#include <sys/mman.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, bytes) ((void)(address), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(address, bytes) ((void)(address), (void)(bytes))
#endif

namespace cudasim
{
namespace
{
constexpr size_t alignment = 256;       // as cudaMalloc promises
constexpr size_t guard_bytes = 1 << 20; // closed pages before and after each allocation
constexpr unsigned char poison = 0xFF, fence = 0xA5;

struct allocation {
    char *data;
    size_t bytes;
    char *pages; // the data lie at their end
    size_t page_bytes;
    int device; // -1: pinned host memory
};

struct memory_state {
    std::map<uintptr_t, allocation> live, freed; // by first page
    std::map<int, size_t> used;                  // bytes by device
};

memory_state &state()
{
    static memory_state *const all = new memory_state;
    return *all;
}

thread_local int this_device = 0;

size_t round_up(size_t bytes, size_t unit)
{
    return (bytes + unit - 1) / unit * unit;
}

// The allocation in whose pages the address lies, or within `margin` of them.
const allocation *find(const std::map<uintptr_t, allocation> &all, uintptr_t address, size_t margin = 0)
{
    const auto after = all.upper_bound(address);
    if (after != all.begin()) {
        const allocation &a = std::prev(after)->second;
        if (address - (uintptr_t)a.pages < a.page_bytes + margin) return &a;
    }
    return after != all.end() && after->first - address <= margin ? &after->second : nullptr;
}

const allocation *find_live(const void *pointer)
{
    return find(state().live, (uintptr_t)pointer);
}

// The allocation whose pages, or the closed ones beside them, hold the address.
const allocation *find_near(const void *pointer, bool *live_p)
{
    for (const auto *all : {&state().live, &state().freed})
        if (const allocation *a = find(*all, (uintptr_t)pointer, guard_bytes)) {
            *live_p = all == &state().live;
            return a;
        }
    return nullptr;
}

// The bytes of the pages before and after the data.
void fill_fences(const allocation &a)
{
    memset(a.pages, fence, (size_t)(a.data - a.pages));
    memset(a.data + a.bytes, fence, (size_t)(a.pages + a.page_bytes - (a.data + a.bytes)));
    ASAN_POISON_MEMORY_REGION(a.pages, (size_t)(a.data - a.pages));
    ASAN_POISON_MEMORY_REGION(a.data + a.bytes, (size_t)(a.pages + a.page_bytes - (a.data + a.bytes)));
}

void check_fence(const allocation &a, const char *start, const char *end)
{
    for (const char *p = start; p < end; p++)
        if ((unsigned char)*p != fence)
            die("something was written at byte %td of %zu bytes of %s memory", p - a.data, a.bytes,
                a.device < 0 ? "pinned" : "device");
}

void check_fences(const allocation &a)
{
    ASAN_UNPOISON_MEMORY_REGION(a.pages, a.page_bytes);
    check_fence(a, a.pages, a.data);
    check_fence(a, a.data + a.bytes, a.pages + a.page_bytes);
}

bool map_pages(size_t bytes, int device, allocation *a_p)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), data_bytes = round_up(bytes, alignment);
    const size_t page_bytes = round_up(data_bytes, page);
    void *all =
        mmap(nullptr, page_bytes + 2 * guard_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (all == MAP_FAILED) return false;
    char *pages = (char *)all + guard_bytes;
    *a_p = {pages + page_bytes - data_bytes, bytes, pages, page_bytes, device};
    return mprotect(pages, page_bytes, PROT_READ | PROT_WRITE) == 0;
}

cudaError_t allocate(void **memory, size_t bytes, int device)
{
    if (should_fail(kind::malloc)) return cudaErrorMemoryAllocation;
    if (bytes == 0) {
        *memory = nullptr;
        return cudaSuccess;
    }
    size_t &used = state().used[device];
    allocation a;
    if ((device >= 0 && (bytes > get_settings().memory || used + bytes > get_settings().memory)) ||
        !map_pages(bytes, device, &a))
        return cudaErrorMemoryAllocation;
    used += bytes;
    memset(a.data, poison, bytes);
    fill_fences(a);
    if (device >= 0 && mprotect(a.pages, a.page_bytes, PROT_NONE) != 0)
        die("mprotect of %zu bytes failed", a.page_bytes);
    state().live[(uintptr_t)a.pages] = a;
    if (device >= 0) written_begin(a.data, bytes);
    count_object(device < 0 ? "pinned memory" : "device memory", 1);
    *memory = a.data;
    return cudaSuccess;
}

cudaError_t release(const char *what, void *memory, bool pinned)
{
    if (!memory) return cudaSuccess;
    run_everything(); // the device may still use it; CUDA waits as well
    const allocation *found = find_live(memory);
    if (!found || found->data != memory || (found->device < 0) != pinned) {
        complain("%s: %p is not the start of such an allocation (%s)", what, memory, describe(memory).c_str());
        return cudaErrorInvalidValue;
    }
    const allocation a = *found;
    close_pages();
    mprotect(a.pages, a.page_bytes, PROT_READ | PROT_WRITE);
    check_fences(a);
    if (mmap(a.pages, a.page_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) !=
        a.pages)
        die("mmap of %zu bytes failed", a.page_bytes);
    access_forget(a.data, a.bytes);
    written_end(a.data);
    state().used[a.device] -= a.bytes;
    state().live.erase((uintptr_t)a.pages);
    state().freed[(uintptr_t)a.pages] = a;
    count_object(pinned ? "pinned memory" : "device memory", -1);
    return cudaSuccess;
}
} // namespace

bool find_place(const char *what, const void *pointer, size_t bytes, place *place_p)
{
    const allocation *a = find_live(pointer);
    if (!a && !find(state().freed, (uintptr_t)pointer)) {
        *place_p = place::host;
        return true;
    }
    const char *start = (const char *)pointer;
    if (!a || start < a->data || bytes > a->bytes || start > a->data + (a->bytes - bytes)) {
        complain("%s: %zu bytes do not fit at %s", what, bytes, describe(pointer).c_str());
        return false;
    }
    *place_p = a->device < 0 ? place::pinned : place::device;
    return true;
}

bool is_device(const char *what, const void *pointer, size_t bytes)
{
    place where;
    if (!find_place(what, pointer, bytes, &where)) return false;
    if (where == place::device && find_live(pointer)->device == this_device) return true;
    complain("%s: not memory of device %d: %s", what, this_device, describe(pointer).c_str());
    return false;
}

std::string describe(const void *pointer)
{
    bool live;
    const allocation *a = find_near(pointer, &live);
    char text[160];
    if (!a)
        snprintf(text, sizeof text, "host memory at %p", pointer);
    else
        snprintf(text, sizeof text, "byte %td of %zu bytes of %s memory", (const char *)pointer - a->data, a->bytes,
                 !live           ? "freed"
                 : a->device < 0 ? "pinned"
                                 : "device");
    return text;
}

bool is_ours(const void *pointer)
{
    bool live;
    return find_near(pointer, &live) != nullptr;
}

bool device_pages(const void *pointer, int device, char **start_p, size_t *bytes_p)
{
    const allocation *a = find_live(pointer);
    if (!a || a->device != device) return false;
    *start_p = a->pages;
    *bytes_p = a->page_bytes;
    return true;
}

bool memory_bounds(const void *pointer, void **data_p, size_t *bytes_p)
{
    const allocation *a = find_live(pointer);
    if (!a || (const char *)pointer < a->data || (const char *)pointer >= a->data + a->bytes) return false;
    *data_p = a->data;
    *bytes_p = a->bytes;
    return true;
}

int current_device()
{
    return this_device;
}

int device_on_node(int device)
{
    return get_settings().first_device + device;
}
} // namespace cudasim

using namespace cudasim;

cudaError_t cudaSetDevice(int device)
{
    if (device < 0 || device >= get_settings().devices)
        return failed(get_settings().devices ? cudaErrorInvalidDevice : cudaErrorNoDevice);
    this_device = device;
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes)
{
    call guard;
    *total_bytes = get_settings().memory;
    *free_bytes = *total_bytes - state().used[this_device];
    return cudaSuccess;
}

cudaError_t cudaMalloc(void **memory, size_t bytes)
{
    call guard;
    return failed(allocate(memory, bytes, this_device));
}

cudaError_t cudaFree(void *memory)
{
    call guard;
    return failed(release("cudaFree", memory, false));
}

cudaError_t cudaMallocHost(void **memory, size_t bytes)
{
    call guard;
    return failed(allocate(memory, bytes, -1));
}

cudaError_t cudaFreeHost(void *memory)
{
    call guard;
    return failed(release("cudaFreeHost", memory, true));
}
