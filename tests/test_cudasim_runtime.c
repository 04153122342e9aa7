/* The stand-in's runtime: memory that only the device touches, copies, what fails, and what is left at exit. */
#define _DEFAULT_SOURCE /* setenv */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <cublas_v2.h>
#include <cuda_runtime_api.h>
#include <cudasim.h>

#include "cudasim_child.h"

static cudaStream_t new_stream(void)
{
    cudaStream_t stream;
    if (cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) != cudaSuccess) abort();
    return stream;
}

static void *device_memory(size_t bytes)
{
    void *memory;
    if (cudaMalloc(&memory, bytes) != cudaSuccess) abort();
    return memory;
}

/* --- devices ------------------------------------------------------------------------------------------------------ */

static void no_devices(void)
{
    int count = -1;
    setenv("CUDASIM_DEVICES", "0", 1);
    exit(cudaGetDeviceCount(&count) == cudaErrorNoDevice && count == 0 && cudaSetDevice(0) == cudaErrorNoDevice ? 5
                                                                                                                : 1);
}

static void three_devices(void)
{
    int count, device, major;
    size_t all, before, after;
    setenv("CUDASIM_DEVICES", "3", 1);
    setenv("CUDASIM_MEMORY", "1000000", 1);
    bool good = cudaGetDeviceCount(&count) == cudaSuccess && count == 3;
    good = good && cudaSetDevice(2) == cudaSuccess && cudaGetDevice(&device) == cudaSuccess && device == 2;
    good = good && cudaSetDevice(3) == cudaErrorInvalidDevice && cudaSetDevice(-1) == cudaErrorInvalidDevice;
    good = good && cudaMemGetInfo(&before, &all) == cudaSuccess && before == 1000000 && all == 1000000;
    void *one = device_memory(600000), *two = NULL;
    good = good && cudaMalloc(&two, 400001) == cudaErrorMemoryAllocation && !two;
    good = good && cudaMalloc(&two, 400000) == cudaSuccess;
    good = good && cudaMemGetInfo(&after, &all) == cudaSuccess && after == 0;
    good = good && cudaSetDevice(0) == cudaSuccess && cudaMemGetInfo(&after, &all) == cudaSuccess && after == 1000000;
    good = good && cudaFree(one) == cudaSuccess && cudaFree(two) == cudaSuccess;
    good = good && cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 2) == cudaSuccess && major == 9;
    good = good && cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 3) == cudaErrorInvalidDevice;
    exit(good ? 5 : 1);
}

static int attribute(enum cudaDeviceAttr which, int device)
{
    int value = -1;
    return cudaDeviceGetAttribute(&value, which, device) == cudaSuccess ? value : -1;
}

static void devices_of_kinds(void)
{
    setenv("CUDASIM_DEVICES", "3", 1);
    setenv("CUDASIM_KINDS", "75x40,120x2", 1);
    bool good = true;
    for (int device = 0; device < 3; device++) {
        good = good && attribute(cudaDevAttrComputeCapabilityMajor, device) == (device == 0 ? 7 : 12);
        good = good && attribute(cudaDevAttrComputeCapabilityMinor, device) == (device == 0 ? 5 : 0);
        good = good && attribute(cudaDevAttrMultiProcessorCount, device) == (device == 0 ? 40 : 2);
    }
    exit(good && attribute(cudaDevAttrMultiProcessorCount, 3) == -1 ? 5 : 1);
}

static void devices_of_no_kind(void)
{
    int count;
    setenv("CUDASIM_KINDS", "75x40,x", 1);
    cudaGetDeviceCount(&count);
}

static void other_device(void)
{
    setenv("CUDASIM_DEVICES", "2", 1);
    void *memory = device_memory(4);
    cudaStream_t first = new_stream();
    cudaSetDevice(1);
    cudaStream_t second = new_stream();
    bool good = cudaMemsetAsync(memory, 0, 4, second) == cudaErrorInvalidValue;
    good = good && cudaMemsetAsync(memory, 0, 0, first) == cudaErrorInvalidResourceHandle;
    exit(good && cudaStreamDestroy(first) == cudaSuccess && cudaStreamDestroy(second) == cudaSuccess &&
                 cudaFree(memory) == cudaSuccess
             ? 5
             : 1);
}

static void devices(void **state)
{
    (void)state;
    assert_true(child_exits(no_devices, 5, NULL));
    assert_true(child_exits(three_devices, 5, NULL));
    assert_true(child_exits(devices_of_kinds, 5, NULL));
    assert_true(child_dies(devices_of_no_kind, "CUDASIM_KINDS: '75x40,x' is not CAPABILITYxMULTIPROCESSORS,..."));
    assert_true(child_exits(other_device, 5, "not memory of device 1"));
}

/* --- memory ------------------------------------------------------------------------------------------------------- */

static void host_reads(void)
{
    exit(*(volatile char *)device_memory(100));
}

static void host_writes_beyond(void)
{
    *((volatile char *)device_memory(100) + 100) = 1;
}

static void host_reads_freed(void)
{
    volatile char *memory = device_memory(100);
    cudaFree((void *)(uintptr_t)memory);
    exit(memory[7]);
}

static void host_reads_after_work(void)
{
    volatile char *memory = device_memory(100);
    cudaStream_t stream = new_stream();
    cudaMemsetAsync((void *)(uintptr_t)memory, 0, 100, stream);
    cudaStreamSynchronize(stream);
    exit(memory[99]);
}

static void pinned_overrun(void)
{
    char *memory;
    cudaMallocHost((void **)&memory, 100);
    memory[101] = 1; /* the page is there: seen when it is freed */
    cudaFreeHost(memory);
}

static void plain_fault(void)
{
    char *volatile nowhere = (char *)16;
    signal(SIGSEGV, SIG_DFL); /* who had the signal before gets what is not ours */
    device_memory(1);
    *nowhere = 1;
}

static void protection(void **state)
{
    (void)state;
    assert_true(child_dies(host_reads, "the host touched byte 0 of 100 bytes of device memory"));
    assert_true(child_fails(host_writes_beyond, "the host touched byte 100 of 100 bytes of device memory", "poison"));
    assert_true(child_dies(host_reads_freed, "the host touched byte 7 of 100 bytes of freed memory"));
    assert_true(child_dies(host_reads_after_work, "the host touched byte 99 of 100 bytes of device memory"));
    assert_true(child_fails(pinned_overrun, "something was written at byte 101 of 100 bytes of pinned", "poison"));
    assert_true(child_fails(plain_fault, "", ""));
}

static void allocation(void **state)
{
    void *memory = &memory;
    (void)state;
    assert_int_equal(cudaMalloc(&memory, 0), cudaSuccess);
    assert_null(memory);
    assert_int_equal(cudaFree(NULL), cudaSuccess);
    for (size_t bytes = 1; bytes < 10000; bytes = bytes * 3 + 1) {
        memory = device_memory(bytes);
        assert_int_equal((uintptr_t)memory % 256, 0);
        assert_int_equal(cudaFree((char *)memory + 1), cudaErrorInvalidValue);
        assert_int_equal(cudaFreeHost(memory), cudaErrorInvalidValue);
        assert_int_equal(cudaFree(memory), cudaSuccess);
        assert_int_equal(cudaFree(memory), cudaErrorInvalidValue);
    }
    assert_int_equal(cudaMalloc(&memory, (size_t)1 << 60), cudaErrorMemoryAllocation);
    assert_int_equal(cudaGetLastError(), cudaErrorMemoryAllocation);
    assert_string_equal(cudaGetErrorName(cudaErrorMemoryAllocation), "cudaErrorMemoryAllocation");
    assert_string_equal(cudaGetErrorString(cudaErrorMemoryAllocation), "out of memory");
}

/* --- copies ------------------------------------------------------------------------------------------------------- */

static void poison(void **state)
{
    unsigned char host[300] = {0}, *device = device_memory(sizeof host);
    cudaStream_t stream = new_stream();
    (void)state;
    assert_int_equal(cudaMemcpyAsync(host, device, sizeof host, cudaMemcpyDeviceToHost, stream), cudaSuccess);
    assert_int_equal(cudaStreamSynchronize(stream), cudaSuccess);
    for (size_t i = 0; i < sizeof host; i++)
        assert_int_equal(host[i], 0xff);
    assert_int_equal(cudaFree(device) || cudaStreamDestroy(stream), 0);
}

static void copies(void **state)
{
    char in[60], out[60] = {0}, expected[60] = {0};
    char *device = device_memory(60), *other = device_memory(60);
    cudaStream_t stream = new_stream();
    (void)state;
    for (int i = 0; i < 60; i++)
        in[i] = (char)i;
    assert_int_equal(cudaMemcpyAsync(device, in, 60, cudaMemcpyHostToDevice, stream), cudaSuccess);
    assert_int_equal(cudaStreamSynchronize(stream), cudaSuccess);
    assert_int_equal(cudaMemsetAsync(other, 9, 60, stream), cudaSuccess);
    assert_int_equal(cudaMemcpy2DAsync(other, 10, device + 2, 12, 7, 4, cudaMemcpyDeviceToDevice, stream), cudaSuccess);
    assert_int_equal(cudaMemcpy2DAsync(out, 15, other, 10, 9, 4, cudaMemcpyDeviceToHost, stream), cudaSuccess);
    assert_int_equal(cudaStreamSynchronize(stream), cudaSuccess);
    for (int row = 0; row < 4; row++)
        for (int i = 0; i < 9; i++)
            expected[15 * row + i] = (char)(i < 7 ? 2 + 12 * row + i : 9);
    assert_memory_equal(out, expected, sizeof out);
    assert_int_equal(cudaFree(device) || cudaFree(other) || cudaStreamDestroy(stream), 0);
}

static void refused_copies(void **state)
{
    char host[64], *device = device_memory(64), *pinned;
    cudaStream_t stream = new_stream();
    (void)state;
    assert_int_equal(cudaMallocHost((void **)&pinned, 32), cudaSuccess);
#define COPY(to, from, bytes, kind) cudaMemcpyAsync(to, from, bytes, cudaMemcpy##kind, stream)
    assert_int_equal(COPY(device, host, 65, HostToDevice), cudaErrorInvalidValue);
    assert_int_equal(COPY(device + 1, host, 64, HostToDevice), cudaErrorInvalidValue);
    assert_int_equal(COPY(host, device, 64, HostToDevice), cudaErrorInvalidValue);
    assert_int_equal(COPY(device, host, 64, DeviceToHost), cudaErrorInvalidValue);
    assert_int_equal(COPY(device, device, 64, HostToDevice), cudaErrorInvalidValue);
    assert_int_equal(COPY(device, host, 64, DeviceToDevice), cudaErrorInvalidValue);
    assert_int_equal(COPY(device, pinned, 33, HostToDevice), cudaErrorInvalidValue);
    assert_int_equal(COPY(pinned, device, 33, DeviceToHost), cudaErrorInvalidValue);
    assert_int_equal(cudaMemcpyAsync(device, host, 1, cudaMemcpyHostToDevice, NULL), cudaErrorInvalidResourceHandle);
    assert_int_equal(cudaMemcpyAsync(device, host, 1, (enum cudaMemcpyKind)7, stream), cudaErrorInvalidMemcpyDirection);
    assert_int_equal(cudaMemcpy2DAsync(device, 8, host, 10, 9, 2, cudaMemcpyHostToDevice, stream),
                     cudaErrorInvalidValue);
    assert_int_equal(cudaMemcpy2DAsync(device, 20, host, 9, 9, 4, cudaMemcpyHostToDevice, stream),
                     cudaErrorInvalidValue);
    assert_int_equal(cudaMemcpy2DAsync(device, 20, host, 9, 9, 0, cudaMemcpyHostToDevice, stream), cudaSuccess);
    assert_int_equal(cudaMemsetAsync(device, 0, 65, stream), cudaErrorInvalidValue);
    assert_int_equal(cudaMemsetAsync(host, 0, 64, stream), cudaErrorInvalidValue);
    assert_int_equal(cudaFree(device) || cudaFreeHost(pinned) || cudaStreamDestroy(stream), 0);
#undef COPY
}

/* --- failures that were asked for, leaks -------------------------------------------------------------------------- */

static void told_to_fail(void **state)
{
    char *device = device_memory(64), *host;
    cudaStream_t stream = new_stream();
    (void)state;
    assert_int_equal(cudaMallocHost((void **)&host, 64), cudaSuccess);
    long before = cudasim_calls("copy");
    cudasim_fail("copy", 2);
    assert_int_equal(cudaMemcpyAsync(device, host, 64, cudaMemcpyHostToDevice, stream), cudaSuccess);
    assert_int_equal(cudaMemcpyAsync(device, host, 64, cudaMemcpyHostToDevice, stream), cudaErrorLaunchFailure);
    assert_int_equal(cudaMemcpyAsync(device, host, 64, cudaMemcpyHostToDevice, stream), cudaSuccess);
    assert_int_equal(cudasim_calls("copy"), before + 3);
    cudasim_fail("sync", 1);
    assert_int_equal(cudaStreamSynchronize(stream), cudaErrorLaunchFailure);
    cudasim_fail("malloc", 1);
    cudasim_fail("malloc", 0);
    void *memory = device_memory(1);
    assert_int_equal(cudaFree(device) || cudaFree(memory) || cudaFreeHost(host) || cudaStreamDestroy(stream), 0);
}

static void fails_by_environment(void)
{
    void *memory;
    setenv("CUDASIM_FAIL", "malloc:2,create:1", 1);
    cudaStream_t stream;
    bool good = cudaFree(device_memory(1)) == cudaSuccess;
    good = good && cudaMalloc(&memory, 1) == cudaErrorMemoryAllocation;
    good = good && cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaErrorMemoryAllocation;
    exit(good ? 5 : 1);
}

static void bad_environment(void)
{
    setenv("CUDASIM_FAIL", "malloc:2,crate:1", 1);
    device_memory(1);
}

/* Of memset's calls the second; another operation does not count. */
static void killed_by_environment(void)
{
    char *device = device_memory(1);
    cudaStream_t stream = new_stream();
    cudaMemsetAsync(device, 0, 1, stream);
    cudaMemcpyAsync(device, device, 1, cudaMemcpyDeviceToDevice, stream);
    fputs("not yet", stderr);
    cudaMemsetAsync(device, 0, 1, stream);
    fputs("too late", stderr);
}

/* A child with this setting, which has stopped there and was let go on. */
static pid_t child_let_go(const char *setting, const char *where)
{
    setenv(setting, where, 1);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        killed_by_environment();
        _exit(5);
    }
    unsetenv(setting);
    int status = 0;
    assert_int_equal(waitpid(child, &status, WUNTRACED), child);
    assert_true(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
    assert_int_equal(kill(child, SIGCONT), 0);
    return child;
}

/* At the second memset, and for good. */
static void freezes(void **state)
{
    (void)state;
    int status = 0;
    pid_t child = child_let_go("CUDASIM_FREEZE", "cudaMemset:2");
    assert_int_equal(waitpid(child, &status, WUNTRACED), child);
    assert_true(WIFSTOPPED(status));
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* There, once. */
static void holds(void **state)
{
    (void)state;
    int status = 0;
    pid_t child = child_let_go("CUDASIM_HOLD", "cudaMemset:1");
    assert_int_equal(waitpid(child, &status, WUNTRACED), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 5);
}

static void kills(void **state)
{
    static char text[4096];
    (void)state;
    setenv("CUDASIM_KILL", "cudaMemset:2", 1);
    int status = child_run(killed_by_environment, 0, text, sizeof text);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    assert_string_equal(text, "not yet");
    setenv("CUDASIM_KILL", "cudaMemset", 1);
    assert_true(child_dies(killed_by_environment, "CUDASIM_KILL: 'cudaMemset' is not NAME:N"));
    unsetenv("CUDASIM_KILL");
}

static void leaks_memory(void)
{
    device_memory(1);
    device_memory(1);
}

static void leaks_handles(void)
{
    cublasHandle_t handle;
    cudaEvent_t event;
    new_stream();
    cublasCreate(&handle);
    cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
}

static void failures(void **state)
{
    (void)state;
    assert_true(child_exits(fails_by_environment, 5, "malloc call 2 fails, as it was told to"));
    assert_true(child_dies(bad_environment, "no kind of call is named 'crate'"));
    assert_true(child_exits(leaks_memory, 70, "2 of device memory left at exit"));
    assert_true(child_exits(leaks_handles, 70, "1 of cuBLAS handles left at exit"));
    assert_true(child_exits(leaks_handles, 70, "1 of streams left at exit"));
    assert_true(child_exits(leaks_handles, 70, "1 of events left at exit"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(devices), /* first: its children read settings of their own */
        cmocka_unit_test(failures),     cmocka_unit_test(kills),      cmocka_unit_test(freezes),
        cmocka_unit_test(holds),        cmocka_unit_test(protection), cmocka_unit_test(allocation),
        cmocka_unit_test(poison),       cmocka_unit_test(copies),     cmocka_unit_test(refused_copies),
        cmocka_unit_test(told_to_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
