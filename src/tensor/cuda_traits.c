#include "tensor/cuda_traits.h"

#ifndef SQ_CUDA_SIZES
#define SQ_CUDA_SIZES SQ_CUDA_DEVICE_SIZES
#endif

#ifndef SQ_CUDA_SPREAD_INPUTS
#define SQ_CUDA_SPREAD_INPUTS 16384
#endif

static size_t attention_scratch(const struct sq_attention *shape, int64_t length)
{
    size_t rows = (size_t)(shape->n_heads * sq_cuda_full_queries(length)), keys = (size_t)sq_cuda_full_keys(length);
    size_t row_bytes = keys * (sizeof(float) + sizeof(uint16_t)) + ((size_t)shape->value_dim + 2) * sizeof(float);
    return rows * row_bytes + 64;
}

const struct sq_backend_traits sq_cuda_traits = {.name = "cuda",
                                                 .sizes = SQ_CUDA_SIZES,
                                                 .is_host = false,
                                                 .n_workers = 4,
                                                 .spread_inputs = SQ_CUDA_SPREAD_INPUTS,
                                                 .split_products = 6,
                                                 .worker_bytes = SQ_CUDA_ROOM + SQ_CUDA_WORKSPACE,
                                                 .attention_scratch = attention_scratch};
