// Which bytes of device memory anything has written: one byte for each, kept where kernels' accesses are checked.
#include "sim.hpp"

#include <cstring>
#include <iterator>
#include <map>
#include <sys/mman.h>

namespace cudasim
{
namespace
{
struct shadow {
    uintptr_t start;
    size_t bytes;
    unsigned char *written; // [bytes]: 1 where something was written
};

std::map<uintptr_t, shadow> &shadows() // by start
{
    static auto *const all = new std::map<uintptr_t, shadow>;
    return *all;
}

[[noreturn]] void refuse(const void *data)
{
    die("%s reads %s, which nothing has written", where_running().c_str(), describe(data).c_str());
}
} // namespace

void written_begin(const void *data, size_t bytes)
{
    if (!get_settings().check) return;
    void *written = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (written == MAP_FAILED) die("no memory to check reads of %zu bytes", bytes);
    shadows()[(uintptr_t)data] = {(uintptr_t)data, bytes, (unsigned char *)written};
}

void written_end(const void *data)
{
    const auto known = shadows().find((uintptr_t)data);
    if (known == shadows().end()) return;
    munmap(known->second.written, known->second.bytes);
    shadows().erase(known);
}

unsigned char *written_at(const void *data)
{
    const auto after = shadows().upper_bound((uintptr_t)data);
    if (after == shadows().begin()) return nullptr;
    const shadow &s = std::prev(after)->second;
    const uintptr_t offset = (uintptr_t)data - s.start;
    return offset < s.bytes ? s.written + offset : nullptr;
}

void note_written(const void *data, size_t bytes)
{
    if (unsigned char *written = written_at(data)) memset(written, 1, bytes);
}

void check_written(const void *data, size_t bytes)
{
    const unsigned char *written = written_at(data);
    if (!written) return;
    if (const void *hole = memchr(written, 0, bytes))
        refuse((const char *)data + ((const unsigned char *)hole - written));
}

void copy_written(const void *to, const void *from, size_t bytes)
{
    unsigned char *written = written_at(to);
    const unsigned char *source = written_at(from);
    if (written && source)
        memmove(written, source, bytes);
    else if (written)
        memset(written, 1, bytes);
}
} // namespace cudasim
