/* The stand-in runs kernels as a GPU does: threads, barriers, shuffles; and it says when they go wrong. */
#include <cudasim_launch.h>

#include <csignal>
#include <csetjmp>
#include <cstdarg>
#include <cstddef>
#include <vector>
extern "C" {
#include <cmocka.h>
}

#include "cudasim_child.h"

namespace
{
constexpr unsigned all_lanes = 0xffffffffu;

struct device {
    cudaStream_t stream;
    int *data;
    size_t count;

    explicit device(size_t count_) : count(count_)
    {
        if (cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) ||
            cudaMalloc((void **)&data, count * sizeof *data))
            abort();
    }
    ~device()
    {
        cudaFree(data);
        cudaStreamDestroy(stream);
    }
    std::vector<int> get()
    {
        std::vector<int> values(count);
        cudaMemcpyAsync(values.data(), data, count * sizeof *data, cudaMemcpyDeviceToHost, stream);
        if (cudaStreamSynchronize(stream) != cudaSuccess) abort();
        return values;
    }
};

// --- indices -------------------------------------------------------------------------------------------------------

__global__ void write_index(int *out)
{
    const int block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
    const int thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    const int threads = blockDim.x * blockDim.y * blockDim.z;
    out[block * threads + thread] = block * 1000 + thread;
}

void indices(void **)
{
    const dim3 grid(3, 2, 4), block(5, 7, 2);
    device d(24 * 70);
    assert_int_equal(sq_launch(write_index, grid, block, d.stream, d.data), cudaSuccess);
    const std::vector<int> got = d.get();
    for (int b = 0; b < 24; b++)
        for (int t = 0; t < 70; t++)
            assert_int_equal(got[b * 70 + t], b * 1000 + t);
}

// --- barriers ------------------------------------------------------------------------------------------------------

// Every thread hands its value to the next one, round and round.
template <int steps, int threads> __global__ void rotate(int *out)
{
    __shared__ int values[threads];
    int mine = threadIdx.x + 100 * blockIdx.x;
    for (int s = 0; s < steps; s++) {
        values[(threadIdx.x + 1) % threads] = mine;
        __syncthreads();
        mine = values[threadIdx.x];
        __syncthreads();
    }
    out[blockIdx.x * threads + threadIdx.x] = mine;
}

template <int steps, int threads> void check_rotation()
{
    device d(4 * threads);
    assert_int_equal(sq_launch((rotate<steps, threads>), 4, threads, d.stream, d.data), cudaSuccess);
    const std::vector<int> got = d.get();
    for (int i = 0; i < 4 * threads; i++)
        assert_int_equal(got[i], (i % threads - steps % threads + threads) % threads + 100 * (i / threads));
}

void barriers(void **)
{
    check_rotation<5, 1>();
    check_rotation<5, 7>();
    check_rotation<3, 100>();
    check_rotation<2, 1024>();
}

// --- shuffles and votes --------------------------------------------------------------------------------------------

__global__ void shuffle(int *out, double *sums)
{
    const int lane = threadIdx.x % 32;
    int *row = out + (threadIdx.x / 32 * 8) * 32 + lane;
    row[0] = __shfl_sync(all_lanes, lane * 3, 5);
    row[32] = __shfl_sync(all_lanes, lane * 3, lane + 33); // the lane is taken modulo 32
    row[64] = __shfl_xor_sync(all_lanes, lane, 9);
    row[96] = __shfl_down_sync(all_lanes, lane, 4);
    row[128] = __shfl_up_sync(all_lanes, lane, 4);
    row[160] = __any_sync(all_lanes, lane == 17) + 2 * __any_sync(all_lanes, lane == 40);
    row[192] = __all_sync(all_lanes, lane < 32) + 2 * __all_sync(all_lanes, lane < 31);
    row[224] = (int)__ballot_sync(all_lanes, lane % 3 == 0);
    double sum = threadIdx.x;
    for (int step = 16; step > 0; step /= 2)
        sum += __shfl_xor_sync(all_lanes, sum, step);
    sums[threadIdx.x] = sum;
}

void shuffles(void **)
{
    device d(3 * 8 * 32), s(2 * 96);
    unsigned thirds = 0;
    for (int i = 0; i < 32; i += 3)
        thirds |= 1u << i;
    assert_int_equal(sq_launch(shuffle, 1, 96, d.stream, d.data, (double *)s.data), cudaSuccess);
    const std::vector<int> got = d.get(), bits = s.get();
    for (int w = 0; w < 3; w++)
        for (int i = 0; i < 32; i++) {
            const int *row = &got[w * 8 * 32 + i];
            assert_int_equal(row[0], 15);
            assert_int_equal(row[32], (i + 1) % 32 * 3);
            assert_int_equal(row[64], i ^ 9);
            assert_int_equal(row[96], i + 4 < 32 ? i + 4 : i);
            assert_int_equal(row[128], i < 4 ? i : i - 4);
            assert_int_equal(row[160], 1);
            assert_int_equal(row[192], 1);
            assert_int_equal(row[224], (int)thirds);
            double sum;
            memcpy(&sum, &bits[2 * (w * 32 + i)], sizeof sum);
            assert_true(sum == 32 * 32 * w + 496);
        }
}

// Warps of one block take different numbers of shuffles, and halves of a warp different paths, between two barriers.
__global__ void uneven(int *out)
{
    __shared__ int totals[4];
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    int sum = lane;
    for (int round = 0; round <= warp; round++)
        for (int step = 16; step > 0; step /= 2)
            sum += __shfl_xor_sync(all_lanes, sum, step);
    if (lane < 16)
        sum += __shfl_xor_sync(0x0000ffffu, lane, 1);
    else
        sum -= __shfl_xor_sync(0xffff0000u, lane, 1);
    __syncwarp();
    if (lane == 0) totals[warp] = sum;
    __syncthreads();
    out[threadIdx.x] = totals[threadIdx.x % 4];
}

void warps_apart(void **)
{
    device d(128);
    assert_int_equal(sq_launch(uneven, 1, 128, d.stream, d.data), cudaSuccess);
    const std::vector<int> got = d.get();
    const int expected[] = {496 + 1, 496 * 32 + 1, 496 * 32 * 32 + 1, 496 * 32 * 32 * 32 + 1};
    for (int i = 0; i < 128; i++)
        assert_int_equal(got[i], expected[i % 4]);
}

// --- atomics -------------------------------------------------------------------------------------------------------

__global__ void set_bits(int *out)
{
    out[1 + threadIdx.x + blockIdx.x * 4] = atomicOr(out, 1 << (threadIdx.x + blockIdx.x * 4)); // what was there before
}

void atomics(void **)
{
    device d(13);
    cudaMemsetAsync(d.data, 0, sizeof(int), d.stream);
    assert_int_equal(sq_launch(set_bits, 3, 4, d.stream, d.data), cudaSuccess);
    const std::vector<int> got = d.get();
    int all = 0, seen = 0;
    for (int i = 0; i < 12; i++)
        all |= 1 << i, seen |= got[1 + i];
    assert_int_equal(got[0], all);
    assert_int_equal(__builtin_popcount((unsigned)seen), 11); // nobody saw the last one's bit
}

// --- divergence ----------------------------------------------------------------------------------------------------

__global__ void leaves_early(int n)
{
    if ((int)threadIdx.x >= n) return;
    __syncthreads();
}

__global__ void two_barriers(int n)
{
    if ((int)threadIdx.x < n)
        __syncthreads();
    else
        __syncthreads();
}

__global__ void lane_leaves(int n)
{
    if ((int)threadIdx.x < n) __shfl_sync(all_lanes, 1, 0);
}

__global__ void masks_differ()
{
    __syncwarp(threadIdx.x < 16 ? 0x0000ffffu : all_lanes);
}

__global__ void not_in_mask()
{
    __any_sync(0x7fffffffu, 1);
}

__global__ void reads_outside_mask()
{
    if (threadIdx.x < 16) __shfl_xor_sync(0x0000ffffu, 1, 16);
}

__global__ void barrier_or_shuffle()
{
    if (threadIdx.x < 32)
        __syncthreads();
    else if (threadIdx.x < 40)
        __syncwarp();
    else
        __shfl_sync(all_lanes, 1, 0);
}

template <class... P> void run(unsigned threads, void (*kernel)(P...), P... arguments)
{
    cudaStream_t stream;
    cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
    sq_launch(kernel, dim3(1, 2), threads, stream, arguments...);
    cudaStreamSynchronize(stream);
}

void divergence(void **)
{
    assert_true(
        child_dies([] { run(64, leaves_early, 40); }, "block (0, 0, 0): thread (0, 0, 0) waits in __syncthreads"));
    assert_true(child_dies([] { run(64, leaves_early, 40); }, "but thread (40, 0, 0) has ended"));
    assert_true(child_dies([] { run(64, two_barriers, 33); }, "but thread (33, 0, 0) waits in __syncthreads"));
    assert_true(child_dies([] { run(64, lane_leaves, 50); }, "but thread (50, 0, 0) has ended"));
    assert_true(child_dies([] { run(48, lane_leaves, 48); }, "but lane 16 of its mask does not exist"));
    assert_true(child_dies([] { run(32, masks_differ); }, "thread (16, 0, 0) waits in __syncwarp"));
    assert_true(child_dies([] { run(32, not_in_mask); },
                           "thread (31, 0, 0): __any_sync with mask 7fffffff, in which it is not"));
    assert_true(
        child_dies([] { run(32, reads_outside_mask); }, "__shfl_xor_sync reads lane 16, which is not in its mask"));
    assert_true(child_dies([] { run(64, barrier_or_shuffle); }, "divergence in kernel kernel, block (0, 0, 0)"));
}

// --- memory --------------------------------------------------------------------------------------------------------

__global__ void write_at(int *out, long index)
{
    out[index] = 1;
}

__global__ void overflow_stack(int *out)
{
    volatile char big[1 << 20];
    big[0] = 1;
    out[0] = big[0];
}

void write_beyond(long index)
{
    device d(64);
    sq_launch(write_at, 1, 1, d.stream, d.data, index);
    cudaStreamSynchronize(d.stream);
}

struct hidden {
    int *pointer; // the launch does not see it
};

__global__ void write_hidden(hidden h)
{
    *h.pointer = 1;
}

void write_through(int *pointer)
{
    device d(1);
    sq_launch(write_hidden, 1, 1, d.stream, hidden{pointer});
    cudaStreamSynchronize(d.stream);
}

void write_freed()
{
    int *data = nullptr;
    cudaMalloc((void **)&data, 4);
    cudaFree(data);
    write_through(data);
}

void memory(void **)
{
    assert_true(
        child_fails([] { write_beyond(4096); }, "byte 16384 of 256 bytes of device memory", "byte 16384 of 256"));
    assert_true(
        child_fails([] { write_beyond(4096); }, "kernel write_at, block (0, 0, 0), thread (0, 0, 0)", "kernel"));
    assert_true(child_fails([] { write_beyond(64); }, "byte 256 of 256 bytes of device memory", "byte 256 of 256"));
    assert_true(child_fails([] { write_beyond(-1); }, "byte -4 of 256 bytes of device memory", "poison"));
    assert_true(child_dies(write_freed, "byte 0 of 4 bytes of freed memory"));
    auto deep = [] {
        device d(1);
        sq_launch(overflow_stack, 1, 1, d.stream, d.data);
        cudaStreamSynchronize(d.stream);
    };
    assert_true(child_dies(deep, "the stack of the device thread is full"));
}

void refused_launches(void **)
{
    device d(4);
    int host = 0;
    assert_int_equal(sq_launch(write_at, 1, 1025, d.stream, d.data, 0L), cudaErrorInvalidConfiguration);
    assert_int_equal(sq_launch(write_at, 0, 32, d.stream, d.data, 0L), cudaErrorInvalidConfiguration);
    assert_int_equal(sq_launch(write_at, dim3(1, 65536), 32, d.stream, d.data, 0L), cudaErrorInvalidConfiguration);
    assert_int_equal(sq_launch(write_at, 1, 1, d.stream, &host, 0L), cudaErrorInvalidValue);
    assert_int_equal(sq_launch(write_at, 1, 1, (cudaStream_t) nullptr, d.data, 0L), cudaErrorInvalidResourceHandle);
    assert_int_equal(cudaGetLastError(), cudaSuccess);
}

// A launch goes well, and returns what an earlier call left.
void errors_of_others(void **)
{
    device d(4);
    void *memory = nullptr;
    assert_int_equal(cudaMalloc(&memory, (size_t)1 << 60), cudaErrorMemoryAllocation);
    assert_int_equal(cudaPeekAtLastError(), cudaErrorMemoryAllocation);
    assert_int_equal(sq_launch(write_at, 1, 1, d.stream, d.data, 2L), cudaErrorMemoryAllocation);
    assert_int_equal(cudaPeekAtLastError(), cudaSuccess);
    assert_int_equal(sq_launch(write_at, 1, 1, d.stream, d.data, 3L), cudaSuccess);
    assert_int_equal(cudaStreamQuery(d.stream), cudaErrorNotReady);
    assert_int_equal(sq_launch(write_at, 1, 1, d.stream, d.data, 1L), cudaErrorNotReady);
    assert_int_equal(cudaStreamSynchronize(d.stream), cudaSuccess);
    const std::vector<int> got = d.get();
    assert_true(got[1] == got[2] && got[2] == got[3] && got[3] != got[0]);
}
} // namespace

int main(void)
{
    const CMUnitTest tests[] = {
        cmocka_unit_test(indices),     cmocka_unit_test(barriers),         cmocka_unit_test(shuffles),
        cmocka_unit_test(warps_apart), cmocka_unit_test(atomics),          cmocka_unit_test(divergence),
        cmocka_unit_test(memory),      cmocka_unit_test(refused_launches), cmocka_unit_test(errors_of_others),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
