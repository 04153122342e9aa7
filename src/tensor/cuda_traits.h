/* Sizes of the CUDA backend that cuda/ and its traits share. */
#ifndef SQ_TENSOR_CUDA_TRAITS_H
#define SQ_TENSOR_CUDA_TRAITS_H

#include "tensor/traits.h"

/* Sizes that keep a GPU busy, with panels of which half of a slice of the Hessian has room for 65,536 columns; the
 * stand-in for tests builds with small ones, so that small layers have many tiles. */
#define SQ_CUDA_DEVICE_SIZES                                                                                           \
    {                                                                                                                  \
        .solve_rows = 1024, .solve_columns = 1024, .factor_tile = 512, .factor_rows = 2048, .hessian_panel = 512,      \
        .hessian_tokens = (int64_t)1 << 20, .hessian_packed = 0, .hessian_slice = (int64_t)64 << 20,                   \
        .expert_rows = 1024                                                                                            \
    }

/* Bytes of a worker's device memory for the operation at hand, and for cuBLAS: what it asks for on sm_90. Rows of a
 * product by way of the room, at most; fixed, as shapes of products decide the order of sums. */
#ifndef SQ_CUDA_ROOM
#define SQ_CUDA_ROOM ((size_t)32 << 20)
#define SQ_CUDA_ROOM_ROWS 4096
#define SQ_CUDA_WORKSPACE ((size_t)32 << 20)
#endif

/* Blocks of queries and tiles of keys of attention; fixed, as they decide the order of sums. */
#ifndef SQ_CUDA_QUERIES
#define SQ_CUDA_QUERIES 256
#define SQ_CUDA_KEYS 512
#endif

/* Rows and columns that a full tile of scores has; columns so that rows start at multiples of 16 bytes. */
static inline int64_t sq_cuda_full_queries(int64_t length)
{
    return length < SQ_CUDA_QUERIES ? length : SQ_CUDA_QUERIES;
}

static inline int64_t sq_cuda_full_keys(int64_t length)
{
    int64_t whole = (length + 7) / 8 * 8;
    return whole < SQ_CUDA_KEYS ? whole : SQ_CUDA_KEYS;
}

#endif
