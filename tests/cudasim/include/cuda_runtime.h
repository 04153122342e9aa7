/* The device side: what a .cu file may use when the C++ compiler stands in for nvcc. */
#ifndef CUDASIM_CUDA_RUNTIME_H
#define CUDASIM_CUDA_RUNTIME_H

#include <cuda_runtime_api.h>

#include <math.h>
#include <stdint.h>
#include <string.h>

#define __CUDA_ARCH_LIST__ 800
#define __global__
#define __device__
#define __host__
#define __shared__ static /* one block runs at a time */
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __restrict__ __restrict

struct uint3 {
    unsigned x, y, z;
};

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_)
    {
    }
};

namespace cudasim
{
/* Of the device thread that runs now; the same during all of its kernel. */
uint3 thread_index() __attribute__((const));
uint3 block_index() __attribute__((const));
dim3 block_size() __attribute__((const));
dim3 grid_size() __attribute__((const));

enum class warp_op { sync, shfl, shfl_xor, shfl_down, shfl_up, any, all, ballot };

void barrier(const char *file, int line);
int atomic_or(int *address, int value);
uint64_t warp(warp_op op, unsigned mask, uint64_t value, int operand, const char *file, int line);

template <class T> T exchange(warp_op op, unsigned mask, T value, int operand, const char *file, int line)
{
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "a shuffle moves 4 or 8 bytes");
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof value);
    bits = warp(op, mask, bits, operand, file, line);
    memcpy(&value, &bits, sizeof value);
    return value;
}
} // namespace cudasim

#define threadIdx (cudasim::thread_index())
#define blockIdx (cudasim::block_index())
#define blockDim (cudasim::block_size())
#define gridDim (cudasim::grid_size())

/* Barriers and exchanges know the line they are called from: lanes that wait at different ones have diverged. */
#define CUDASIM_HERE const char *file = __builtin_FILE(), int line = __builtin_LINE()

inline void __syncthreads(CUDASIM_HERE)
{
    cudasim::barrier(file, line);
}

inline void __syncwarp(unsigned mask = 0xffffffffu, CUDASIM_HERE)
{
    cudasim::warp(cudasim::warp_op::sync, mask, 0, 0, file, line);
}

template <class T> T __shfl_sync(unsigned mask, T value, int lane, CUDASIM_HERE)
{
    return cudasim::exchange(cudasim::warp_op::shfl, mask, value, lane, file, line);
}

template <class T> T __shfl_xor_sync(unsigned mask, T value, int lane_mask, CUDASIM_HERE)
{
    return cudasim::exchange(cudasim::warp_op::shfl_xor, mask, value, lane_mask, file, line);
}

template <class T> T __shfl_down_sync(unsigned mask, T value, int delta, CUDASIM_HERE)
{
    return cudasim::exchange(cudasim::warp_op::shfl_down, mask, value, delta, file, line);
}

template <class T> T __shfl_up_sync(unsigned mask, T value, int delta, CUDASIM_HERE)
{
    return cudasim::exchange(cudasim::warp_op::shfl_up, mask, value, delta, file, line);
}

inline int __any_sync(unsigned mask, int predicate, CUDASIM_HERE)
{
    return (int)cudasim::warp(cudasim::warp_op::any, mask, predicate != 0, 0, file, line);
}

inline int __all_sync(unsigned mask, int predicate, CUDASIM_HERE)
{
    return (int)cudasim::warp(cudasim::warp_op::all, mask, predicate != 0, 0, file, line);
}

inline unsigned __ballot_sync(unsigned mask, int predicate, CUDASIM_HERE)
{
    return (unsigned)cudasim::warp(cudasim::warp_op::ballot, mask, predicate != 0, 0, file, line);
}

#undef CUDASIM_HERE

inline int atomicOr(int *address, int value)
{
    return cudasim::atomic_or(address, value);
}

inline unsigned __float_as_uint(float value)
{
    unsigned bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

inline float __uint_as_float(unsigned bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

#endif
