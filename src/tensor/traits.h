/* What is known of a kind of backend without one at hand: the sizes of its pieces and the memory that its operations
 * take. A backend is made with these, and so is the plan of a job on a machine that is not here. */
#ifndef SQ_TENSOR_TRAITS_H
#define SQ_TENSOR_TRAITS_H

#include "tensor/backend.h"

struct sq_backend_traits {
    const char *name;
    struct sq_sizes sizes;
    bool is_host;
    int n_workers;         /* by default; 0: as many as there are processors */
    int64_t spread_inputs; /* of a layer, from which on several ranks factor its Hessian faster than each for itself */
    int split_products;    /* in BF16 that one of matmul_split() is made of where that is faster; 0: never */
    size_t worker_bytes;   /* of the backend's memory that each worker takes when the backend is made */
    /* Bytes of scratch that attention of one sample takes. */
    size_t (*attention_scratch)(const struct sq_attention *shape, int64_t length);
};

extern const struct sq_backend_traits sq_cpu_traits, sq_cuda_traits;

#endif
