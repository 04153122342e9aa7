/* The checks of what kernels read and write: silent where all is well, and a word where it is not. */
#include <cudasim_launch.h>

#include <csetjmp>
#include <cstdarg>
#include <cstddef>
extern "C" {
#include <cmocka.h>
}

#include "cudasim_child.h"

namespace
{
constexpr unsigned all_lanes = 0xffffffffu;

struct host_pointer {
    int *pointer; // the launch does not see it
};

// Two blocks of 64 threads on 128 ints; out of the way, as mistakes end the process.
template <class... P> void run(void (*kernel)(int *, P...), P... arguments)
{
    cudaStream_t stream;
    int *data;
    if (cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) || cudaMalloc((void **)&data, 512)) abort();
    cudaMemsetAsync(data, 0, 512, stream);
    if (sq_launch(kernel, 2, 64, stream, data, arguments...) || cudaStreamSynchronize(stream)) abort();
    cudaFree(data);
    cudaStreamDestroy(stream);
}

// --- all is well ---------------------------------------------------------------------------------------------------

const int table[4] = {1, 2, 3, 4};

__global__ void with_barriers(int *data)
{
    __shared__ int shared[64];
    const int i = threadIdx.x;
    shared[i] = table[i % 4];
    __syncthreads();
    data[blockIdx.x * 64 + i] = shared[63 - i] + shared[0]; // all read one word
    __syncthreads();
    shared[(i + 7) % 64] = 1;
}

__global__ void with_warp_barriers(int *data)
{
    __shared__ int shared[64];
    const int i = threadIdx.x, neighbour = i ^ 1;
    shared[i] = i;
    __syncwarp();
    const int other = shared[neighbour];
    __syncwarp();
    shared[neighbour] = other;
    if (i % 32 < 16) __syncwarp(0x0000ffffu);
    data[blockIdx.x * 64 + i] = i % 32 < 16 ? shared[neighbour] : 0;
}

// All lanes read a word; after the barrier one reads it again and writes it.
__global__ void readers_then_writer(int *data)
{
    __shared__ int shared[64];
    const int i = threadIdx.x, first = i / 32 * 32;
    shared[i] = i;
    __syncwarp();
    data[blockIdx.x * 64 + i] = shared[first];
    __syncwarp();
    if (i == first + 1) shared[first] = shared[first] + 1;
}

__global__ void bytes_of_words(int *data)
{
    __shared__ unsigned char shared[64];
    const int i = threadIdx.x;
    shared[i] = (unsigned char)i;
    ((unsigned char *)data)[i * 2 + blockIdx.x] = shared[i];
}

// Neighbours share words, and each reads and writes its own part.
__global__ void halves_of_words(int *data)
{
    unsigned short *mine = (unsigned short *)data + blockIdx.x * 64 + threadIdx.x;
    *mine = (unsigned short)(*mine + 1);
    __syncwarp();
    *mine = (unsigned short)(*mine + 1);
}

__global__ void atomics(int *data)
{
    if (threadIdx.x % 2) atomicOr(data, 1 << threadIdx.x % 32);
}

__global__ void locals(int *data)
{
    int many[16];
    for (int k = 0; k < 16; k++)
        many[(k + threadIdx.x) % 16] = k;
    data[blockIdx.x * 64 + threadIdx.x] += many[threadIdx.x % 16]; // what the memset wrote
}

void silent(void **)
{
    run(with_barriers);
    run(with_warp_barriers);
    run(readers_then_writer);
    run(bytes_of_words);
    run(halves_of_words);
    run(atomics);
    run(locals);
}

// --- races ---------------------------------------------------------------------------------------------------------

__global__ void write_then_read(int *data)
{
    __shared__ int shared[64];
    shared[threadIdx.x] = 1;
    data[blockIdx.x * 64 + threadIdx.x] = shared[(threadIdx.x + 1) % 64];
}

// Each thread reads its successor's word, then writes its own: in order of threads nothing is wrong with the numbers.
__global__ void read_then_write(int *data, int step)
{
    __shared__ int shared[64];
    shared[threadIdx.x] = threadIdx.x;
    __syncthreads();
    const int other = shared[(threadIdx.x + step) % 64];
    shared[threadIdx.x] = 2;
    data[blockIdx.x * 64 + threadIdx.x] = other;
}

__global__ void all_write(int *data)
{
    __shared__ int shared;
    shared = 1;
    __syncthreads();
    data[blockIdx.x * 64 + threadIdx.x] = shared;
}

__global__ void shuffle_is_no_barrier(int *data)
{
    __shared__ int shared[64];
    const int i = threadIdx.x;
    shared[i] = __shfl_xor_sync(all_lanes, i, 1);
    __shfl_xor_sync(all_lanes, i, 1);
    data[blockIdx.x * 64 + i] = shared[i ^ 1];
}

__global__ void warp_barrier_is_not_for_the_block(int *data)
{
    __shared__ int shared[64];
    shared[threadIdx.x] = 1;
    __syncwarp();
    data[blockIdx.x * 64 + threadIdx.x] = shared[threadIdx.x % 32];
}

__global__ void blocks_write_one_word(int *data)
{
    if (threadIdx.x == 0) data[5] = 1;
}

__global__ void block_reads_anothers(int *data)
{
    data[64 * blockIdx.x + threadIdx.x] = data[threadIdx.x] + 1;
}

void races(void **)
{
    assert_true(child_dies([] { run(write_then_read); }, "reads shared memory that nobody has written in this block"));
    assert_true(child_dies([] { run(read_then_write, 1); }, "race: kernel kernel, block (0, 0, 0), thread ("));
    assert_true(child_dies([] { run(read_then_write, 63); }, "without a barrier between"));
    assert_true(
        child_dies([] { run(all_write); }, "thread (1, 0, 0) writes shared memory, which thread 0 of the block has"));
    assert_true(
        child_dies([] { run(shuffle_is_no_barrier); }, "reads shared memory, which thread 1 of the block has written"));
    assert_true(child_dies([] { run(warp_barrier_is_not_for_the_block); }, "race: "));
    assert_true(child_dies([] { run(blocks_write_one_word); },
                           "writes byte 20 of 512 bytes of device memory, which another block has written"));
    assert_true(child_dies([] { run(block_reads_anothers); },
                           "of 512 bytes of device memory, which another block has written"));
}

// --- memory that is none of a kernel's business --------------------------------------------------------------------

__global__ void read_unwritten(int *data)
{
    __shared__ int shared[64];
    if (threadIdx.x != 40) shared[threadIdx.x] = 1;
    __syncthreads();
    data[blockIdx.x * 64 + threadIdx.x] = shared[threadIdx.x];
}

__global__ void read_host(int *data, host_pointer host)
{
    data[0] = *host.pointer;
}

__global__ void write_host(int *, host_pointer host)
{
    *host.pointer = 1;
}

__global__ void read_other_stack(int *data)
{
    __shared__ int *shared;
    int mine = 5;
    if (threadIdx.x == 0) shared = &mine;
    __syncthreads();
    data[0] = *shared;
    __syncthreads();
}

__global__ void read_beyond(int *data, int index)
{
    data[0] = data[index];
}

__global__ void atomic_beyond(int *data)
{
    atomicOr(data + 128, 1);
}

// --- device memory that nothing has written ------------------------------------------------------------------------

// Two pieces of 512 bytes: what the kernel is given first is new, the other zeros.
template <class Before> void run_new(void (*kernel)(int *, int *), Before before)
{
    cudaStream_t stream;
    int *data, *zeros;
    if (cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) || cudaMalloc((void **)&data, 512) ||
        cudaMalloc((void **)&zeros, 512))
        abort();
    cudaMemsetAsync(zeros, 0, 512, stream);
    before(data, zeros, stream);
    if (sq_launch(kernel, 1, 64, stream, data, zeros) || cudaStreamSynchronize(stream)) abort();
    cudaFree(data);
    cudaFree(zeros);
    cudaStreamDestroy(stream);
}

__global__ void read_new(int *data, int *zeros)
{
    zeros[threadIdx.x] = data[threadIdx.x];
}

__global__ void write_new(int *data, int *zeros)
{
    data[threadIdx.x] = zeros[threadIdx.x];
    data[threadIdx.x] += 1;
}

__global__ void write_half(int *data, int *)
{
    *(unsigned short *)(data + threadIdx.x) = 1;
}

__global__ void add_to_new(int *data, int *)
{
    if (threadIdx.x == 0) atomicOr(data + 3, 1);
}

void nothing(int *, int *, cudaStream_t)
{
}

void halves(int *data, int *zeros, cudaStream_t stream)
{
    sq_launch(write_half, 1, 64, stream, data, zeros);
}

void unwritten(void **)
{
    const char *const words = "thread (0, 0, 0) reads byte 0 of 512 bytes of device memory, which nothing has written";
    run_new(write_new, nothing);
    run_new(read_new, [](int *data, int *, cudaStream_t s) { cudaMemsetAsync(data, 0, 256, s); });
    run_new(read_new, [](int *data, int *zeros, cudaStream_t s) {
        cudaMemcpyAsync(data, zeros, 256, cudaMemcpyDeviceToDevice, s);
    });
    run_new(read_new, [](int *data, int *zeros, cudaStream_t s) { sq_launch(write_new, 1, 64, s, data, zeros); });
    assert_true(child_dies([] { run_new(read_new, nothing); }, words));
    assert_true(
        child_dies([] { run_new(read_new, halves); }, "reads byte 2 of 512 bytes of device memory, which nothing"));
    assert_true(child_dies([] { run_new(add_to_new, nothing); }, "reads byte 12 of 512 bytes of device memory"));
    auto too_little = [] {
        run_new(read_new, [](int *data, int *, cudaStream_t s) { cudaMemsetAsync(data, 0, 252, s); });
    };
    assert_true(
        child_dies(too_little, "thread (63, 0, 0) reads byte 252 of 512 bytes of device memory, which nothing"));
    auto copied = [] { // a copy of what nothing has written is no better
        run_new(read_new, [](int *data, int *zeros, cudaStream_t s) {
            cudaMemcpyAsync(zeros, data, 256, cudaMemcpyDeviceToDevice, s);
            cudaMemcpyAsync(data, zeros, 256, cudaMemcpyDeviceToDevice, s);
        });
    };
    assert_true(child_dies(copied, words));
}

void strangers(void **)
{
    assert_true(child_dies([] { run(read_unwritten); }, "thread (40, 0, 0) reads shared memory that nobody"));
    auto heap = [] { run(read_host, host_pointer{(int *)calloc(1, 4)}); };
    auto stack = [] {
        int local = 0;
        run(write_host, host_pointer{&local});
    };
    assert_true(child_dies(heap, "thread (0, 0, 0) reads 4 bytes: host memory at"));
    assert_true(child_dies(stack, "thread (0, 0, 0) writes 4 bytes: host memory at"));
    assert_true(child_dies([] { run(read_other_stack); }, "reads 4 bytes: the stack of another thread"));
    assert_true(child_dies([] { run(atomic_beyond); }, "writes 4 bytes: byte 512 of 512 bytes of device memory"));
    assert_true(child_dies([] { run(read_beyond, 128); }, "reads 4 bytes: byte 512 of 512 bytes of device memory"));
    assert_true(child_dies([] { run(read_beyond, -1); }, "reads 4 bytes: byte -4 of 512 bytes of device memory"));
}
} // namespace

int main(void)
{
    const CMUnitTest tests[] = {cmocka_unit_test(silent), cmocka_unit_test(races), cmocka_unit_test(unwritten),
                                cmocka_unit_test(strangers)};
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
