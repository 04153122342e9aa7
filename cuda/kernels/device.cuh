/* What the kernels share: elements as floats, and sums over a block in a fixed order. BF16 is uint16_t here. */
#ifndef SQ_CUDA_DEVICE_CUH
#define SQ_CUDA_DEVICE_CUH

#include "base/half.h"
#include "cuda/launch.h"

#define SQ_ALL_LANES 0xffffffffu

static __device__ __forceinline__ float sq_get(const float *x, int64_t i)
{
    return x[i];
}

static __device__ __forceinline__ float sq_get(const uint16_t *x, int64_t i)
{
    return sq_bf16_to_f32(x[i]);
}

static __device__ __forceinline__ void sq_put(float value, float *y, int64_t i)
{
    y[i] = value;
}

static __device__ __forceinline__ void sq_put(float value, uint16_t *y, int64_t i)
{
    y[i] = sq_f32_to_bf16(value);
}

template <class T> static __device__ __forceinline__ T sq_warp_sum(T value)
{
    for (int distance = 16; distance > 0; distance /= 2)
        value += __shfl_xor_sync(SQ_ALL_LANES, value, distance);
    return value;
}

/* The sum over a block of THREADS threads, on every thread; `parts` is shared memory. */
template <int THREADS, class T> static __device__ T sq_block_sum(T value, T parts[THREADS / 32])
{
    value = sq_warp_sum(value);
    __syncthreads(); /* parts may still be read from an earlier sum */
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = value;
    __syncthreads();
    T sum = parts[0];
    for (int warp = 1; warp < THREADS / 32; warp++)
        sum += parts[warp];
    return sum;
}

#endif
