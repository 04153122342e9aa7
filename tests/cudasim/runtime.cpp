// Devices, versions, error codes, and copies.
#include "sim.hpp"

#include <cstring>

namespace cudasim
{
namespace
{
struct error_row {
    cudaError_t error;
    const char *name, *text;
};

const error_row errors[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration", "invalid configuration argument"},
    {cudaErrorInvalidMemcpyDirection, "cudaErrorInvalidMemcpyDirection", "invalid copy direction for memcpy"},
    {cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver",
     "CUDA driver version is insufficient for CUDA runtime version"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {cudaErrorUnknown, "cudaErrorUnknown", "unknown error"},
};

const error_row &row_of(cudaError_t error)
{
    for (const error_row &row : errors)
        if (row.error == error) return row;
    return row_of(cudaErrorUnknown);
}

thread_local cudaError_t last_error = cudaSuccess;

struct block_copy {
    char *to;
    size_t to_pitch;
    const char *from;
    size_t from_pitch, width, height;

    size_t to_bytes() const
    {
        return to_pitch * (height - 1) + width;
    }
    size_t from_bytes() const
    {
        return from_pitch * (height - 1) + width;
    }
    void run() const
    {
        for (size_t row = 0; row < height; row++) {
            copy_written(to + row * to_pitch, from + row * from_pitch, width);
            memmove(to + row * to_pitch, from + row * from_pitch, width);
        }
    }
};

// Whether the memory lies where the direction says.
bool is_there(const char *what, const void *memory, size_t bytes, bool on_device)
{
    place where;
    if (on_device) return is_device(what, memory, bytes);
    if (!find_place(what, memory, bytes, &where)) return false;
    if (where == place::device) complain("%s: the direction says host, but it is %s", what, describe(memory).c_str());
    return where != place::device;
}

// Host memory that is not pinned is read and written late too: who changes it before waiting sees it.
cudaError_t copy(const char *what, const block_copy &c, cudaMemcpyKind direction, cudaStream_t stream)
{
    if (should_fail(kind::copy)) return cudaErrorLaunchFailure;
    if (direction < cudaMemcpyHostToDevice || direction > cudaMemcpyDeviceToDevice)
        return cudaErrorInvalidMemcpyDirection;
    if (c.width == 0 || c.height == 0) return cudaSuccess;
    if (c.width > c.to_pitch || c.width > c.from_pitch) return cudaErrorInvalidValue;
    if (!is_there(what, c.to, c.to_bytes(), direction != cudaMemcpyDeviceToHost) ||
        !is_there(what, c.from, c.from_bytes(), direction != cudaMemcpyHostToDevice))
        return cudaErrorInvalidValue;
    place host = place::pinned;
    if (direction != cudaMemcpyDeviceToDevice)
        find_place(what, direction == cudaMemcpyHostToDevice ? c.from : c.to, 1, &host);
    return enqueue(stream, {what, [c] { c.run(); }, nullptr, nullptr, host == place::host});
}
} // namespace

cudaError_t failed(cudaError_t error)
{
    if (error != cudaSuccess) last_error = error;
    return error;
}
} // namespace cudasim

using namespace cudasim;

// --- devices -------------------------------------------------------------------------------------------------------

cudaError_t cudaGetDeviceCount(int *count)
{
    *count = get_settings().devices;
    return failed(*count > 0 ? cudaSuccess : cudaErrorNoDevice);
}

cudaError_t cudaGetDevice(int *device)
{
    *device = current_device();
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int device)
{
    if (device < 0 || device >= get_settings().devices) return failed(cudaErrorInvalidDevice);
    switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
        *value = get_settings().kind_of(device).n_multiprocessors;
        return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor:
        *value = get_settings().kind_of(device).capability / 10;
        return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
        *value = get_settings().kind_of(device).capability % 10;
        return cudaSuccess;
    }
    return failed(cudaErrorInvalidValue);
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int device)
{
    if (device < 0 || device >= get_settings().devices) return failed(cudaErrorInvalidDevice);
    *properties = {};
    snprintf(properties->name, sizeof properties->name, "a stand-in");
    return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char *id, int length, int device)
{
    if (device < 0 || device >= get_settings().devices) return failed(cudaErrorInvalidDevice);
    snprintf(id, (size_t)length, "0000:%02x:00.0", device_on_node(device));
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return cudaSuccess;
}

// --- errors --------------------------------------------------------------------------------------------------------

cudaError_t cudaGetLastError(void)
{
    cudaError_t error = last_error;
    last_error = cudaSuccess;
    return error;
}

cudaError_t cudaPeekAtLastError(void)
{
    return last_error;
}

const char *cudaGetErrorName(cudaError_t error)
{
    return row_of(error).name;
}

const char *cudaGetErrorString(cudaError_t error)
{
    return row_of(error).text;
}

// --- copies --------------------------------------------------------------------------------------------------------

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind direction,
                            cudaStream_t stream)
{
    call guard;
    const block_copy c = {(char *)to, bytes, (const char *)from, bytes, bytes, 1};
    return failed(copy("cudaMemcpyAsync", c, direction, stream));
}

cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width,
                              size_t height, enum cudaMemcpyKind direction, cudaStream_t stream)
{
    call guard;
    const block_copy c = {(char *)to, to_pitch, (const char *)from, from_pitch, width, height};
    return failed(copy("cudaMemcpy2DAsync", c, direction, stream));
}

cudaError_t cudaMemsetAsync(void *memory, int value, size_t bytes, cudaStream_t stream)
{
    call guard;
    if (should_fail(kind::copy)) return failed(cudaErrorLaunchFailure);
    place where = place::pinned; // which CUDA takes as well
    if (bytes > 0 && !find_place("cudaMemsetAsync", memory, bytes, &where)) return failed(cudaErrorInvalidValue);
    if (where != place::pinned && !is_device("cudaMemsetAsync", memory, bytes)) return failed(cudaErrorInvalidValue);
    auto run = [memory, value, bytes] {
        if (bytes > 0) note_written(memory, bytes);
        if (bytes > 0) memset(memory, value, bytes);
    };
    return failed(enqueue(stream, {"cudaMemsetAsync", run, nullptr, nullptr}));
}
