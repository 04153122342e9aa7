/* What the main thread does beside the workers of a run, in short steps: it writes the rows of the group that was
 * solved last, and on a device reads the weights of the group to come (or the forward pass does those of whole groups):
 *
 *      workers     solve g | forward to g + 1 | Hessian | factor | solve g + 1
 *      writing               rows of g ...................
 *      reading               weights of g + 1 ............  ->  two pinned buffers  ->  the device
 *
 * What is not done in time is finished, or left to the workers, before records and weights are used again. */
#ifndef SQ_GPTQ_BESIDE_H
#define SQ_GPTQ_BESIDE_H

#include <stdbool.h>

#include "gptq/spread.h"
#include "io/store.h"
#include "tensor/backend.h"

struct sq_job;
struct sq_group;

/* Rows on their way into the store. */
struct sq_behind {
    struct sq_spread spread; /* n_members 0: none */
    int64_t tile, row;       /* the next ones; row within the tile */
    enum sq_status status;   /* the first that failed */
};

/* Weights on their way to the device: those of this rank's first tiles of a group. */
struct sq_ahead {
    size_t bytes;            /* of memory; 0: nothing is read ahead */
    char *memory;            /* of the backend: tiles f32 [rows, in_features], one after the other */
    float *lanes[SQ_LANES];  /* host, alloc_host: rows on their way */
    int lane;                /* the next one */
    bool is_open;            /* for reading; then nobody takes from it */
    enum sq_status status;   /* of the reading */
    int block, index;        /* of the group */
    struct sq_spread spread; /* n_members 0: none */
    int64_t tile, row;       /* the next ones, counted from this rank's first tile; tiles before are whole */
    size_t offset;           /* of that tile in memory */
};

/* Sets what the backend does beside its workers, and takes job->memory.ahead bytes of its memory, unless the forward
 * pass has them for whole groups (model/forward.h). Local. */
enum sq_status sq_beside_create(struct sq_job *job) SQ_MUST_CHECK;
void sq_beside_destroy(struct sq_job *job);

/* --- reading (ahead.c) -------------------------------------------------------------------------------------------- */

/* The group to be solved next: its weights are read from now on, unless it is done or is not quantized. Local. */
void sq_ahead_begin(struct sq_job *job, const struct sq_group *group);

/* One step; whether there is more to read. Local. */
bool sq_ahead_step(struct sq_job *job);

/* Ends the reading: from now on workers may look for weights. What failed in it; not that there is no number, which
 * the workers find, too. Local. */
enum sq_status sq_ahead_end(struct sq_job *job) SQ_MUST_CHECK;

/* Weights of tile `index` of this rank's, f32 [rows, in_features] in backend memory, there for operations that this
 * worker starts after receive(); false: they were not read. Local. */
bool sq_ahead_find(const struct sq_job *job, const struct sq_group *group, int64_t index, struct sq_matrix *weights_p);

/* --- writing (beside.c) ------------------------------------------------------------------------------------------- */

/* This rank's rows of a solved group are written from now on; its records stay as they are until the end. Local. */
void sq_behind_begin(struct sq_job *job, const struct sq_spread *spread);

/* One step; whether there is more to write. Local. */
bool sq_behind_step(struct sq_job *job);

/* Writes what is left; the worst status of all rows of the group. Local. */
enum sq_status sq_behind_finish(struct sq_job *job) SQ_MUST_CHECK;

/* Rows [row, rows) of a tile as the store takes and gives them. Local. */
struct sq_store_rows sq_tile_rows_from(const struct sq_spread_tile *tile, int64_t row);

#endif
