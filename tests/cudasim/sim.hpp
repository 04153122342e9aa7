// What the files of the stand-in share. There is one "driver" per process, so each file keeps its own state in one
// static object; all of it is guarded by the one lock that class call takes.
#ifndef CUDASIM_SIM_HPP
#define CUDASIM_SIM_HPP

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <cuda_runtime_api.h>

namespace cudasim
{
// --- messages ------------------------------------------------------------------------------------------------------
// A mistake for which CUDA has no error code: says it and ends the process with SIGABRT.
[[noreturn]] void die(const char *format, ...) __attribute__((format(printf, 1, 2)));
// Says why a call is about to return an error.
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

// --- settings ------------------------------------------------------------------------------------------------------
enum class kind { malloc, create, launch, copy, sync, blas, solver, nccl, count };

struct device_kind {
    int capability; // times 10
    int n_multiprocessors;
};

struct settings {
    int devices;
    std::vector<device_kind> kinds; // of the first devices; the last is that of all others
    int first_device;               // number on the node of the first device that this process sees
    size_t memory;                  // bytes of each device
    bool early;
    uint64_t seed; // 0: late or early
    double nccl_timeout;
    bool lost_is_seen;
    bool check; // what kernels read and write
    struct {
        std::string name; // operations whose names begin so count ...
        long at;          // ... up to this one; 0: none
    } kill, freeze, hold;

    const device_kind &kind_of(int device) const
    {
        return (size_t)device < kinds.size() ? kinds[(size_t)device] : kinds.back();
    }
};
const settings &get_settings();
// Counts one call of this kind; true if it was told to fail.
bool should_fail(kind which);
// Kills or stops the process, if this is the operation that the settings name.
void stop_if_told_to(const std::string &what);

// --- the lock ------------------------------------------------------------------------------------------------------
// Held during every call of the API. Device pages that the work of the call opened are closed when it ends.
class call
{
  public:
    call();
    ~call();
    call(const call &) = delete;
};
// Lets other threads in for a moment; device pages are closed meanwhile. Inside a call.
void wait_a_little();

// --- memory --------------------------------------------------------------------------------------------------------
enum class place { host, pinned, device };
// Where [pointer, pointer + bytes) lies; false, with a complaint, when it begins inside an allocation and does not end
// there or lies in freed memory.
bool find_place(const char *what, const void *pointer, size_t bytes, place *place_p);
// Whether all of it lies in memory of the current device; complains if not.
bool is_device(const char *what, const void *pointer, size_t bytes);
// The words for a message about an address: "byte 16 of 64 bytes of device memory".
std::string describe(const void *pointer);
// Whether it lies in memory that was ever allocated here, or just beside it.
bool is_ours(const void *pointer);
// The pages of the live allocation on this device that holds the address; false: none does.
bool device_pages(const void *pointer, int device, char **start_p, size_t *bytes_p);
int current_device();
// Its number on the node, which tells it from those that other processes see.
int device_on_node(int device);
// The data of the live allocation on any device, or pinned, that holds the address; false: none does.
bool memory_bounds(const void *pointer, void **data_p, size_t *bytes_p);

// --- what was written ----------------------------------------------------------------------------------------------
// Where the settings have accesses checked: which bytes of device memory anything has written. Host and pinned memory
// counts as written. New memory, which nothing has, and memory that is no more:
void written_begin(const void *data, size_t bytes);
void written_end(const void *data);
// One byte for each of device memory from here on: 1 where something was written; NULL: not looked at.
unsigned char *written_at(const void *data);
void note_written(const void *data, size_t bytes);
// A copy has what it was made from: copies to the host may hold what nobody means to read, and then NaN.
void copy_written(const void *to, const void *from, size_t bytes);
// The device computes with it: ends the process where nothing was written.
void check_written(const void *data, size_t bytes);

// --- faults --------------------------------------------------------------------------------------------------------
// Makes this thread's faults come to us (a test framework may have taken the signal meanwhile).
void catch_faults();
// While one lives this thread does the device's work: pages of that device open when they are touched.
class device_work
{
  public:
    device_work(const char *what, int device);
    ~device_work();
    device_work(const device_work &) = delete;

  private:
    const char *outer_what;
    int outer_device;
};
// What the device does on this thread; NULL: the thread is the host.
const char *current_work();
// Closes what was opened.
void close_pages();

// --- streams -------------------------------------------------------------------------------------------------------
struct operation {
    std::string what;
    std::function<void()> run;
    std::function<bool()> ready; // empty: always; otherwise tries, without waiting, to get there
    std::function<void()> await; // waits until it is ready
    bool pageable = false;       // copies from or to host memory that is not pinned
};
// Queues an operation; cudaErrorInvalidResourceHandle for no stream, one of another device, or the default stream.
cudaError_t enqueue(cudaStream_t stream, operation op);
void run_everything();
// One step on every stream that can go on without waiting; false if none could.
bool step_all();
// Runs what stands before and including the operation `ticket` of the stream.
uint64_t last_ticket(cudaStream_t stream);
void run_until(cudaStream_t stream, uint64_t ticket);

// --- kernels -------------------------------------------------------------------------------------------------------
// "kernel f, block (0, 0, 0), thread (1, 0, 0)" while one runs on this thread, else what the device does.
std::string where_running();
// This memory is no more: forget who touched it.
void access_forget(const void *data, size_t bytes);
bool in_stack_guard(const void *address);

// --- leaks ---------------------------------------------------------------------------------------------------------
// Counts objects that the program must destroy, by name; what is left at exit fails the process.
void count_object(const char *name, int change);

// Keeps the error for cudaGetLastError and passes it on.
cudaError_t failed(cudaError_t error);
} // namespace cudasim

#endif
