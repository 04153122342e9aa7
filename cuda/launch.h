/* sq_launch(kernel, grid, block, stream, args...): kernel<<<grid, block, 0, stream>>>(args...), and its error. The one
 * place where kernels are started, so that the tests' stand-in for CUDA can take it over. For .cu files. */
#ifndef SQ_CUDA_LAUNCH_H
#define SQ_CUDA_LAUNCH_H

#include <cuda_runtime.h>
#include <stdint.h>

#ifdef __CUDACC__
template <class... P, class... A>
cudaError_t sq_launch(void (*kernel)(P...), dim3 grid, dim3 block, cudaStream_t stream, A... args)
{
    kernel<<<grid, block, 0, stream>>>(static_cast<P>(args)...);
    return cudaGetLastError();
}
#else
#include <cudasim_launch.h>
#endif

/* Blocks of `size` threads that cover count. */
static inline unsigned sq_blocks(int64_t count, int64_t size)
{
    return (unsigned)((count + size - 1) / size);
}

/* For kernels over the elements of a matrix: threads along a row, rows in steps of gridDim.y (at most 65535). */
#define SQ_ELEMENT_THREADS 128

static inline dim3 sq_element_grid(int64_t rows, int64_t cols)
{
    return dim3(sq_blocks(cols, SQ_ELEMENT_THREADS), (unsigned)(rows < 65535 ? rows : 65535));
}

#endif
