#include "access.hpp"

#include "sim.hpp"

#include <cstring>
#include <sys/mman.h>
#include <unordered_map>

// Bounds of the program's image, from the linker: constants first, then what can be written.
extern "C" char __executable_start, __data_start, _end;

namespace cudasim
{
namespace
{
// Who touched four bytes last. A reader or writer is a thread, with the bytes it touched (bits 12-15) and, for readers,
// whether there were more of its warp (bit 10) or of other warps (bit 11). Epochs count barriers and blocks of all
// launches.
struct cell {
    uint32_t write_epoch, read_epoch;
    uint16_t writer, reader;
    uint16_t write_syncs, read_syncs; // the thread's syncs then
};
constexpr unsigned thread_bits = 0x3ff, more_lanes = 0x400, more_warps = 0x800;

enum class region_kind { none, device, shared, constant };

struct region {
    uintptr_t start, end;
    region_kind kind;
    cell *cells;
    unsigned char *written; // of device memory: what written_at() says
};

// While this thread runs a kernel, if the settings want checks; other threads may be in host code of .cu files
// meanwhile.
thread_local bool is_on = false;

struct access_state {
    uint32_t epoch = 1, launch_start = 1, block_start = 1;
    uintptr_t arguments = 0, arguments_end = 0;
    std::unordered_map<uintptr_t, region> regions; // by start, once touched
    region recent[4] = {};                         // during one launch
    unsigned next = 0;
};

access_state &state()
{
    static access_state *const all = new access_state;
    return *all;
}

[[noreturn]] void refuse(bool is_write, uintptr_t address, size_t bytes)
{
    const std::string what = stack_pool::get().holds((const void *)address) ? "the stack of another thread"
                                                                            : describe((const void *)address);
    die("%s %s %zu bytes: %s", where_running().c_str(), is_write ? "writes" : "reads", bytes, what.c_str());
}

// --- regions -------------------------------------------------------------------------------------------------------

cell *new_cells(size_t bytes)
{
    void *cells = mmap(nullptr, (bytes / 4 + 2) * sizeof(cell), PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (cells == MAP_FAILED) die("no memory to check accesses to %zu bytes", bytes);
    return (cell *)cells;
}

region find_bounds(uintptr_t address)
{
    void *data;
    size_t bytes;
    if (memory_bounds((const void *)address, &data, &bytes))
        return {(uintptr_t)data, (uintptr_t)data + bytes, region_kind::device, nullptr, written_at(data)};
    if (address >= (uintptr_t)&__data_start && address < (uintptr_t)&_end)
        return {(uintptr_t)&__data_start & ~(uintptr_t)3, (uintptr_t)&_end, region_kind::shared, nullptr, nullptr};
    if (address >= (uintptr_t)&__executable_start && address < (uintptr_t)&__data_start)
        return {(uintptr_t)&__executable_start, (uintptr_t)&__data_start, region_kind::constant, nullptr, nullptr};
    return {0, 0, region_kind::none, nullptr, nullptr};
}

const region &find_region(uintptr_t address)
{
    access_state &s = state();
    for (const region &r : s.recent)
        if (address >= r.start && address < r.end) return r;
    region found = find_bounds(address);
    if (found.kind == region_kind::device || found.kind == region_kind::shared) {
        region &known = s.regions[found.start];
        if (!known.cells) {
            known = found;
            known.cells = new_cells(found.end - found.start);
        }
        found = known;
    }
    return s.recent[s.next++ % 4] = found;
}

bool is_own(uintptr_t address, size_t bytes, bool is_write)
{
    const access_state &s = state();
    const uintptr_t stack = (uintptr_t)stack_pool::get().bottom(running->index);
    if (address >= stack && address + bytes <= stack + stack_pool::bytes) return true;
    return !is_write && address >= s.arguments && address + bytes <= s.arguments_end;
}

// --- order ---------------------------------------------------------------------------------------------------------

// Whether an access of this launch, in `epoch` by `who`, which had taken part in `syncs`, comes before what this thread
// does now.
bool is_ordered(uint32_t epoch, unsigned who, uint16_t syncs)
{
    const access_state &s = state();
    if (epoch < s.block_start) return false; // another block's
    const unsigned thread = who & thread_bits, me = (unsigned)running->index;
    if (epoch < s.epoch) return true;
    if (who & more_warps) return false;
    if (thread == me && !(who & more_lanes)) return true;
    const lane &other = running->home->lanes[thread];
    return thread / 32 == me / 32 && syncs < (uint16_t)running->syncs &&
           (who & more_lanes || syncs < (uint16_t)other.syncs);
}

// What was before `since` does not count: shared memory begins with the block, other memory is ordered between
// launches.
bool conflicts(uint32_t since, uint32_t epoch, unsigned who, uint16_t syncs, unsigned bytes)
{
    return epoch >= since && who >> 12 & bytes && !is_ordered(epoch, who, syncs);
}

[[noreturn]] void report_race(const cell &c, bool with_write, uintptr_t address, bool is_write)
{
    const bool same_block = (with_write ? c.write_epoch : c.read_epoch) >= state().block_start;
    const unsigned thread = (with_write ? c.writer : c.reader) & thread_bits;
    const bool several = !with_write && c.reader & (more_lanes | more_warps);
    const std::string other = !same_block ? "another block"
                              : several   ? "another thread of the block"
                                          : "thread " + std::to_string(thread) + " of the block";
    die("race: %s %s %s, which %s has %s without a barrier between", where_running().c_str(),
        is_write ? "writes" : "reads",
        is_ours((const void *)address) ? describe((const void *)address).c_str() : "shared memory", other.c_str(),
        with_write ? "written" : "read");
}

void note_write(cell &c, unsigned bytes)
{
    const access_state &s = state();
    const unsigned me = (unsigned)running->index;
    const bool again = c.write_epoch == s.epoch && (c.writer & thread_bits) == me;
    c.writer = (uint16_t)(me | ((again ? c.writer >> 12 : 0) | bytes) << 12);
    c.write_epoch = s.epoch;
    c.write_syncs = (uint16_t)running->syncs;
}

// A reader that comes after the ones before it stands for them too. Of several that do not, the bytes that all of them
// read are kept; those of the last, if there are none.
void note_read(cell &c, unsigned bytes)
{
    const access_state &s = state();
    const unsigned me = (unsigned)running->index, before = c.reader & thread_bits, both = c.reader >> 12 & bytes;
    unsigned flags = c.reader & (more_lanes | more_warps), all = bytes;
    if (c.read_epoch == s.epoch && before == me && !flags)
        all |= c.reader >> 12;
    else if (c.read_epoch == s.epoch && both && !is_ordered(c.read_epoch, c.reader, c.read_syncs)) {
        flags |= before / 32 != me / 32 ? more_warps : before != me ? more_lanes : 0;
        all = both;
    } else
        flags = 0;
    c.reader = (uint16_t)(me | flags | all << 12);
    c.read_epoch = s.epoch;
    c.read_syncs = (uint16_t)running->syncs;
}

// One word, or the bytes of it that are touched.
void visit(const region &r, uintptr_t word, unsigned bytes, bool is_write)
{
    cell &c = r.cells[word - r.start / 4];
    const bool is_shared = r.kind == region_kind::shared;
    const uint32_t since = is_shared ? state().block_start : state().launch_start;
    if (conflicts(since, c.write_epoch, c.writer, c.write_syncs, bytes)) report_race(c, true, word * 4, is_write);
    if (is_write && conflicts(since, c.read_epoch, c.reader, c.read_syncs, bytes))
        report_race(c, false, word * 4, is_write);
    if (!is_write && is_shared && c.write_epoch < since)
        die("%s reads shared memory that nobody has written in this block", where_running().c_str());
    if (is_write)
        note_write(c, bytes);
    else
        note_read(c, bytes);
}

// The region that holds all of it; any other ends the process.
const region &checked_region(uintptr_t address, size_t bytes, bool is_write)
{
    const region &r = find_region(address);
    if (r.kind == region_kind::none || address + bytes > r.end || (r.kind == region_kind::constant && is_write))
        refuse(is_write, address, bytes);
    return r;
}

// Device memory: what is read must have been written by something, in whichever launch or copy.
void check_content(const region &r, uintptr_t address, size_t bytes, bool is_write)
{
    if (!r.written) return;
    unsigned char *written = r.written + (address - r.start);
    if (is_write)
        memset(written, 1, bytes);
    else if (memchr(written, 0, bytes))
        check_written((const void *)address, bytes);
}

void check(const void *pointer, size_t bytes, bool is_write)
{
    const uintptr_t address = (uintptr_t)pointer, end = address + bytes;
    if (is_own(address, bytes, is_write)) return;
    const region &r = checked_region(address, bytes, is_write);
    if (r.kind == region_kind::constant) return;
    check_content(r, address, bytes, is_write);
    for (uintptr_t word = address / 4; word * 4 < end; word++) {
        const unsigned from = word * 4 < address ? (unsigned)(address - word * 4) : 0;
        const unsigned to = word * 4 + 4 > end ? (unsigned)(end - word * 4) : 4;
        visit(r, word, (0xfu >> (4 - (to - from))) << from, is_write);
    }
}
} // namespace

// --- called by the block -------------------------------------------------------------------------------------------

void access_begin_launch(const thread_work &work)
{
    access_state &s = state();
    is_on = get_settings().check;
    s.launch_start = ++s.epoch;
    s.arguments = (uintptr_t)work.call;
    s.arguments_end = s.arguments + work.bytes;
    for (region &r : s.recent)
        r = {0, 0, region_kind::none, nullptr, nullptr}; // memory may have come and gone
}

void access_end_launch()
{
    is_on = false;
}

void access_begin_block()
{
    state().block_start = ++state().epoch;
}

void access_barrier()
{
    state().epoch++;
}

// Atomic operations do not race with each other; with plain accesses they might, which goes unseen.
int atomic_or(int *address, int value)
{
    if (is_on && !is_own((uintptr_t)address, sizeof *address, true)) {
        const region &r = checked_region((uintptr_t)address, sizeof *address, true);
        check_content(r, (uintptr_t)address, sizeof *address, false);
    }
    const int before = *address;
    *address |= value;
    return before;
}

void access_forget(const void *data, size_t bytes)
{
    auto known = state().regions.find((uintptr_t)data);
    if (known == state().regions.end()) return;
    munmap(known->second.cells, (bytes / 4 + 2) * sizeof(cell));
    state().regions.erase(known);
}
} // namespace cudasim

// --- called by the compiler ----------------------------------------------------------------------------------------

#define ON_ACCESS(name, bytes, is_write)                                                                               \
    extern "C" void __tsan_##name(void *address);                                                                      \
    extern "C" void __tsan_##name(void *address)                                                                       \
    {                                                                                                                  \
        if (cudasim::is_on) cudasim::check(address, bytes, is_write);                                                  \
    }
#define ON_SIZE(bytes)                                                                                                 \
    ON_ACCESS(read##bytes, bytes, false)                                                                               \
    ON_ACCESS(write##bytes, bytes, true)
#define ON_UNALIGNED(bytes)                                                                                            \
    ON_ACCESS(unaligned_read##bytes, bytes, false)                                                                     \
    ON_ACCESS(unaligned_write##bytes, bytes, true)

ON_SIZE(1)
ON_SIZE(2)
ON_SIZE(4)
ON_SIZE(8)
ON_SIZE(16)
ON_UNALIGNED(2)
ON_UNALIGNED(4)
ON_UNALIGNED(8)
ON_UNALIGNED(16)

// The types are those that the compiler knows.
#define ON_CALL(name, ...)                                                                                             \
    extern "C" void __tsan_##name(__VA_ARGS__);                                                                        \
    extern "C" void __tsan_##name(__VA_ARGS__)
ON_CALL(read_range, void *address, long bytes)
{
    if (cudasim::is_on) cudasim::check(address, (size_t)bytes, false);
}
ON_CALL(write_range, void *address, long bytes)
{
    if (cudasim::is_on) cudasim::check(address, (size_t)bytes, true);
}
ON_CALL(init, void)
{
}
ON_CALL(func_entry, void *)
{
}
ON_CALL(func_exit, void *)
{
}
ON_CALL(vptr_update, void *, void *)
{
}
