/* What the files of the Hessian share: its lower triangle in panels of rows, panels in slices. */
#ifndef SQ_GPTQ_HESSIAN_PRIVATE_H
#define SQ_GPTQ_HESSIAN_PRIVATE_H

#include "gptq/hessian.h"

/* The lower triangle of a matrix [n, n] in panels of rows, one after another. */
struct sq_panels {
    struct sq_sizes sizes;
    int64_t n;
};

/* Rows [row, row + rows) of the lower triangle: columns [0, columns). */
struct sq_panel {
    int64_t row, rows, columns;
    int64_t offset; /* of its first element */
};

/* With slices as these rooms have them. */
struct sq_panels sq_panels_make(const struct sq_sizes *sizes, int64_t n, const struct sq_hessian_rooms *rooms);
int64_t sq_panels_count(const struct sq_panels *panels);
struct sq_panel sq_panels_at(const struct sq_panels *panels, int64_t p);

/* Panels of the slice that starts with panel `first`. */
int64_t sq_panels_slice(const struct sq_panels *panels, int64_t first);

#endif
