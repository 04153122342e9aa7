/* What goes on beside the workers of parallel(): for backends. */
#ifndef SQ_TENSOR_BESIDE_H
#define SQ_TENSOR_BESIDE_H

#include <stdatomic.h>

#include "tensor/backend.h"

/* Takes steps until there is no more to do, or until *n_left, the items that are not yet done, is 0. By the main thread
 * of parallel(), while other threads have the items. */
static inline void sq_beside_run(const struct sq_beside *beside, const atomic_llong *n_left)
{
    while (beside->step && atomic_load_explicit(n_left, memory_order_relaxed) > 0)
        if (!beside->step(beside->context)) return;
}

#endif
