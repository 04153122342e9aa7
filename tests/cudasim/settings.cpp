// Messages, settings from the environment, calls that are told to fail, and what is left at exit.
#include "sim.hpp"

#include <cudasim.h>

#include <atomic>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <unistd.h>

namespace cudasim
{
namespace
{
const char *const kind_names[] = {"malloc", "create", "launch", "copy", "sync", "blas", "solver", "nccl"};
static_assert(sizeof kind_names / sizeof *kind_names == (size_t)kind::count);

std::atomic<long> calls[(int)kind::count], fail_at[(int)kind::count]; // fail_at: 0: never

struct objects {
    std::mutex lock;
    std::map<std::string, long> counts;
};

objects &get_objects()
{
    static objects *const all = new objects; // outlives static destructors, as programs may free things in them
    return *all;
}

void say(const char *format, va_list arguments)
{
    char line[1024];
    int length = snprintf(line, sizeof line, "cudasim: ");
    length += vsnprintf(line + length, sizeof line - (size_t)length, format, arguments);
    if (length > (int)sizeof line - 2) length = (int)sizeof line - 2;
    line[length++] = '\n';
    if (write(STDERR_FILENO, line, (size_t)length) < 0) // one write: lines of many ranks do not mix
        abort();
}

int find_kind(const char *name, size_t length)
{
    for (int i = 0; i < (int)kind::count; i++)
        if (strlen(kind_names[i]) == length && strncmp(kind_names[i], name, length) == 0) return i;
    die("no kind of call is named '%.*s'", (int)length, name);
}

// KIND:N,KIND:N,...
void parse_failures(const char *text)
{
    while (*text) {
        const char *colon = strchr(text, ':');
        char *end = nullptr;
        long nth = colon ? strtol(colon + 1, &end, 10) : 0;
        if (nth < 1 || (*end && *end != ',')) die("CUDASIM_FAIL: '%s' is not KIND:N,...", text);
        fail_at[find_kind(text, (size_t)(colon - text))] = nth;
        text = *end ? end + 1 : end;
    }
}

uint64_t number(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    if (!text) return otherwise;
    char *end;
    uint64_t value = strtoull(text, &end, 10);
    if (end == text || *end) die("%s: '%s' is not a number", name, text);
    return value;
}

// NAME:N
template <class operations> void parse_operation(const char *variable, operations *o)
{
    const char *text = getenv(variable), *colon = text ? strrchr(text, ':') : nullptr;
    char *end = nullptr;
    if (!text) return;
    o->at = colon ? strtol(colon + 1, &end, 10) : 0;
    if (o->at < 1 || *end) die("%s: '%s' is not NAME:N", variable, text);
    o->name = std::string(text, (size_t)(colon - text));
}

// CAPABILITYxMULTIPROCESSORS,...
std::vector<device_kind> parse_kinds(const char *text)
{
    std::vector<device_kind> kinds;
    for (const char *at = text;;) {
        device_kind kind;
        int length = 0;
        if (sscanf(at, "%dx%d%n", &kind.capability, &kind.n_multiprocessors, &length) < 2 ||
            (at[length] && at[length] != ','))
            die("CUDASIM_KINDS: '%s' is not CAPABILITYxMULTIPROCESSORS,...", text);
        kinds.push_back(kind);
        if (!at[length]) return kinds;
        at += length + 1;
    }
}

settings read_settings()
{
    settings s = {};
    s.devices = (int)number("CUDASIM_DEVICES", 1);
    s.first_device = (int)number("CUDASIM_FIRST_DEVICE", 0);
    const char *kinds = getenv("CUDASIM_KINDS");
    s.kinds = parse_kinds(kinds ? kinds : "90x4");
    s.memory = number("CUDASIM_MEMORY", (size_t)2 << 30);
    s.nccl_timeout = (double)number("CUDASIM_NCCL_TIMEOUT", 60);
    const char *lost = getenv("CUDASIM_LOST");
    s.lost_is_seen = lost && strcmp(lost, "seen") == 0;
    const char *check = getenv("CUDASIM_CHECK");
    s.check = !check || strcmp(check, "off") != 0;
#ifdef __SANITIZE_ADDRESS__ // the compiler does not tell us of accesses
    s.check = false;
#endif
    const char *order = getenv("CUDASIM_ORDER");
    s.early = order && strcmp(order, "early") == 0;
    if (order && !s.early && strcmp(order, "late") != 0) s.seed = number("CUDASIM_ORDER", 0);
    if (const char *failures = getenv("CUDASIM_FAIL")) parse_failures(failures);
    parse_operation("CUDASIM_KILL", &s.kill);
    parse_operation("CUDASIM_FREEZE", &s.freeze);
    parse_operation("CUDASIM_HOLD", &s.hold);
    return s;
}

// Runs at exit. _exit: exit() must not be called from here, and a leak must not look like success.
__attribute__((destructor)) void report_leaks()
{
    bool leaks = false;
    for (const auto &[name, left] : get_objects().counts)
        if (left != 0) {
            complain("%ld of %s left at exit", left, name.c_str());
            leaks = true;
        }
    if (leaks) {
        fflush(nullptr);
        _exit(70);
    }
}
} // namespace

void die(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    say(format, arguments);
    va_end(arguments);
    abort();
}

void complain(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    say(format, arguments);
    va_end(arguments);
}

const settings &get_settings()
{
    static const settings all = read_settings();
    return all;
}

bool should_fail(kind which)
{
    get_settings();
    long n = ++calls[(int)which];
    if (n != fail_at[(int)which]) return false;
    complain("%s call %ld fails, as it was told to", kind_names[(int)which], n);
    return true;
}

void stop_if_told_to(const std::string &what)
{
    static std::atomic<long> killed, frozen, held;
    const auto is_it = [&](const auto &o, std::atomic<long> &count) {
        return o.at > 0 && what.compare(0, o.name.size(), o.name) == 0 && ++count == o.at;
    };
    const settings &s = get_settings();
    if (is_it(s.kill, killed)) raise(SIGKILL);
    if (is_it(s.freeze, frozen))
        for (;;) // whoever ends the job wakes its processes first
            kill(getpid(), SIGSTOP);
    if (is_it(s.hold, held)) kill(getpid(), SIGSTOP);
}

void count_object(const char *name, int change)
{
    objects &all = get_objects();
    std::lock_guard<std::mutex> guard(all.lock);
    all.counts[name] += change;
}
} // namespace cudasim

void cudasim_fail(const char *kind, long nth)
{
    cudasim::get_settings();
    int i = cudasim::find_kind(kind, strlen(kind));
    cudasim::fail_at[i] = nth ? cudasim::calls[i] + nth : 0;
}

long cudasim_calls(const char *kind)
{
    return cudasim::calls[cudasim::find_kind(kind, strlen(kind))];
}
