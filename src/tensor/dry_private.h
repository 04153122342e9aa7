/* What the files of the dry backend share. */
#ifndef SQ_TENSOR_DRY_PRIVATE_H
#define SQ_TENSOR_DRY_PRIVATE_H

#include "tensor/dry.h"

/* Time of one item, or of what runs outside of items. */
struct sq_dry_clock {
    double starting, working; /* seconds */
};

struct sq_dry {
    struct sq_backend base; /* first: a sq_backend * of this backend is a sq_dry * */
    const struct sq_rates *rates;
    struct sq_dry_clock clock; /* of the item in hand */
    double seconds;
    double work[SQ_N_WORK];
    double sent_at[SQ_LANES]; /* when what was sent in each lane is there */
    double *free_at;          /* [n_workers] while items are dealt out: when each has done its last one */
};

/* dry.c: memory and items */
void sq_dry_destroy(struct sq_backend *backend);
enum sq_status sq_dry_alloc(struct sq_backend *backend, const char *what, size_t bytes, void **memory_p);
enum sq_status sq_dry_alloc_host(struct sq_backend *backend, const char *what, size_t bytes, void **memory_p);
void sq_dry_free(struct sq_backend *backend, void *memory);
enum sq_status sq_dry_parallel(struct sq_backend *backend, int64_t count, sq_item_fn *fn, void *context);

/* dry.c: uploads beside the work, one after another */
enum sq_status sq_dry_send(struct sq_backend *backend, int lane, const void *host, size_t bytes, void *memory);
enum sq_status sq_dry_sent(struct sq_backend *backend, int lane);

extern const struct sq_backend_ops sq_dry_ops;
extern const struct sq_solve_ops sq_dry_solve_ops;

#endif
