/* Which devices this program has kernels for. */
#include <stdio.h>

#include "cuda/cuda_private.h"
#include "cuda/kernels/kernels.h"

int sq_cuda_capability(int device)
{
    int major = 0, minor = 0;
    if (cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) != cudaSuccess ||
        cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device) != cudaSuccess) {
        sq_cuda_forget_error();
        return 0;
    }
    return 10 * major + minor;
}

static bool is_usable(int device)
{
    return sq_cuda_capability(device) >= sq_kernels_lowest_capability();
}

/* Behind what text holds already, as far as there is room. */
static size_t append_device(int device, char *text, size_t bytes, size_t length)
{
    struct cudaDeviceProp properties;
    bool known = cudaGetDeviceProperties(&properties, device) == cudaSuccess;
    if (!known) sq_cuda_forget_error();
    int written =
        snprintf(text + length, bytes - length, "%sdevice %d (%.*s, sm_%d)", length > 0 ? ", " : "", device,
                 (int)sizeof properties.name, known ? properties.name : "no name", sq_cuda_capability(device));
    size_t end = length + (size_t)written;
    return end < bytes ? end : bytes - 1;
}

/* The devices that are not usable, and why. */
static void name_others(int n_devices, char *text, size_t bytes)
{
    size_t length = 0;
    for (int device = 0; device < n_devices; device++)
        if (!is_usable(device)) length = append_device(device, text, bytes, length);
    if (length > 0)
        snprintf(text + length, bytes - length, ": built for sm_%d and later", sq_kernels_lowest_capability());
}

int sq_cuda_device_count(char *others, size_t bytes)
{
    int n_devices = 0, count = 0;
    cudaError_t code = cudaGetDeviceCount(&n_devices);
    if (code != cudaSuccess) sq_cuda_forget_error();
    if (code == cudaSuccess && n_devices == 0) code = cudaErrorNoDevice;
    snprintf(others, bytes, "%s", code == cudaSuccess ? "" : cudaGetErrorString(code));
    if (code != cudaSuccess) return 0;
    for (int device = 0; device < n_devices; device++)
        count += is_usable(device);
    name_others(n_devices, others, bytes);
    return count;
}

int sq_cuda_device_number(int index)
{
    int device = 0;
    for (int usable = is_usable(0); usable <= index; usable += is_usable(device))
        device++;
    return device;
}
