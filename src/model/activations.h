/* Memory for what stays of every sample: areas of [rows, stride] bytes. */
#ifndef SQ_MODEL_ACTIVATIONS_H
#define SQ_MODEL_ACTIVATIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "model/slots.h"
#include "tensor/backend.h"

/* Where it is. */
enum sq_activations_place {
    SQ_ACTIVATIONS_NEAR,    /* in the backend's memory */
    SQ_ACTIVATIONS_ON_HOST, /* of a device, in the host's (of alloc_host); a worker has one sample at a time near */
    SQ_ACTIVATIONS_IN_FILE  /* where the backend's memory is the host's: in an unlinked file that is mapped */
};

/* "", "on the host", "in a file". */
const char *sq_activations_where(enum sq_activations_place place);

/* Where those go that are not near. */
enum sq_activations_place sq_activations_away(bool is_host);

struct sq_activations {
    char *areas[SQ_N_SLOTS];
    int64_t strides[SQ_N_SLOTS];
    int n_areas;
    char *memory; /* of all areas */
    size_t bytes;
    enum sq_activations_place place;
};

/* Bytes that they take. Local. */
size_t sq_activations_bytes(const struct sq_slot_map *map, int64_t rows);

/* rows: tokens of all samples. folder: of the file, if there is one. A full disk is found here: SQ_ERR_IO. Local. */
enum sq_status sq_activations_create(struct sq_backend *backend, const struct sq_slot_map *map, int64_t rows,
                                     enum sq_activations_place place, const char *folder,
                                     struct sq_activations *activations_p) SQ_MUST_CHECK;
void sq_activations_destroy(struct sq_backend *backend, struct sq_activations *activations);

/* These rows are not needed for a while: their pages leave this process (the file keeps them). Local. */
void sq_activations_forget(const struct sq_activations *activations, int64_t row, int64_t rows);

#endif
