/* Memory for what stays of every sample: areas of [rows, stride] bytes, in the backend's memory, or away: where that is
 * the host's, in an unlinked file that is mapped; of a device, in the host's (pinned). */
#ifndef SQ_MODEL_ACTIVATIONS_H
#define SQ_MODEL_ACTIVATIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "model/slots.h"
#include "tensor/backend.h"

struct sq_activations {
    char *areas[SQ_N_SLOTS];
    int64_t strides[SQ_N_SLOTS];
    int n_areas;
    char *memory; /* of all areas */
    size_t bytes;
    bool is_mapped; /* in a file */
    bool on_host;   /* of a device, and in memory of alloc_host */
};

/* Bytes that they take. Local. */
size_t sq_activations_bytes(const struct sq_slot_map *map, int64_t rows);

/* rows: tokens of all samples. folder: where a file would lie, NULL for the backend's memory. A full disk is found
 * here: SQ_ERR_IO. Local. */
enum sq_status sq_activations_create(struct sq_backend *backend, const struct sq_slot_map *map, int64_t rows,
                                     const char *folder, struct sq_activations *activations_p) SQ_MUST_CHECK;
void sq_activations_destroy(struct sq_backend *backend, struct sq_activations *activations);

/* These rows are not needed for a while: their pages leave this process (the file keeps them). Local. */
void sq_activations_forget(const struct sq_activations *activations, int64_t row, int64_t rows);

#endif
