/* What the stages of sq_assemble() share. */
#ifndef SQ_IO_ASSEMBLE_PRIVATE_H
#define SQ_IO_ASSEMBLE_PRIVATE_H

#include "io/assemble.h"
#include "io/assemble_plan.h"
#include "tensor/backend.h"

struct sq_assembly {
    const struct sq_comm *comm;
    const struct sq_checkpoint *checkpoint;
    struct sq_store *store;
    const struct sq_assemble_options *options;
    struct sq_assemble_plan plan;
    char *tmp; /* the folder that is being written */
    int lock;  /* of it, on rank 0; else -1 */
};

/* Arrays for one tile of a layer. */
struct sq_assemble_tile {
    struct sq_store_rows rows; /* of SQ_STORE_TILE_ROWS rows */
    float *weights, *found;    /* f32 [SQ_STORE_TILE_ROWS, in_features] */
};

/* fn for every index in [0, count), by this rank's threads in any order; the worst status. A thread begins no more
 * after a failure of its own. Local. */
enum sq_status sq_assembly_parallel(const struct sq_assembly *assembly, int64_t count, sq_item_fn *fn,
                                    void *context) SQ_MUST_CHECK;

/* Tile t of layer l, whose rows are in `tile`; the rest of `tile` is room. */
typedef enum sq_status sq_assembly_tile_fn(void *context, int l, int64_t t, struct sq_assemble_tile *tile);

/* fn for every tile of the layer, by this rank's threads. Local. */
enum sq_status sq_assembly_each_tile(const struct sq_assembly *assembly, int l, sq_assembly_tile_fn *fn,
                                     void *context) SQ_MUST_CHECK;

/* Elements that are converted at a time, and room for them. */
#define SQ_ASSEMBLE_PIECE 8192
struct sq_assemble_piece {
    float values[SQ_ASSEMBLE_PIECE];
    float converted[SQ_ASSEMBLE_PIECE]; /* bytes of any type up to this width */
};

/* Elements [first, first + count) of a kept tensor in the type it is written in, into piece->converted. Local. */
enum sq_status sq_assemble_convert(const struct sq_output *output, int64_t first, int64_t count,
                                   struct sq_assemble_piece *piece) SQ_MUST_CHECK;

/* A job of copying in parts, each of one thread. */
#define SQ_ASSEMBLE_PART ((int64_t)1 << 18) /* bytes: still in cache when they are written */
struct sq_assemble_part {
    int64_t offset, bytes;
};

static inline int64_t sq_assemble_n_parts(const struct sq_output_job *job)
{
    return (job->bytes + SQ_ASSEMBLE_PART - 1) / SQ_ASSEMBLE_PART;
}

static inline struct sq_assemble_part sq_assemble_part(const struct sq_output_job *job, int64_t index)
{
    int64_t done = index * SQ_ASSEMBLE_PART, left = job->bytes - done;
    return (struct sq_assemble_part){job->offset + done, left < SQ_ASSEMBLE_PART ? left : SQ_ASSEMBLE_PART};
}

/* Rows of tile t: SQ_STORE_TILE_ROWS, fewer in the last. */
static inline int64_t sq_assemble_tile_rows(const struct sq_store_layer *layer, int64_t t)
{
    int64_t left = layer->out_features - t * SQ_STORE_TILE_ROWS;
    return left < SQ_STORE_TILE_ROWS ? left : SQ_STORE_TILE_ROWS;
}

static inline int64_t sq_assemble_n_tiles(const struct sq_store_layer *layer)
{
    return (layer->out_features + SQ_STORE_TILE_ROWS - 1) / SQ_STORE_TILE_ROWS;
}

typedef enum sq_status sq_assembly_job_fn(void *context, const struct sq_output_job *job);

/* Does the jobs of rank `owner`; `doing` stands before how far it is. Every few jobs all ranks agree, so that a failure
 * or a stop signal (SQ_STOPPED) on one of them ends it for all. Collective. */
enum sq_status sq_assembly_each_job(const struct sq_assembly *assembly, int owner, const char *doing,
                                    sq_assembly_job_fn *fn, void *context) SQ_MUST_CHECK;

/* Writes this rank's jobs into the files, which rank 0 has made, and brings them to the disk. A copied value that is
 * NaN or infinite is SQ_ERR_NUMERIC without a message: one rank gives it for all. Collective. */
enum sq_status sq_assembly_write(const struct sq_assembly *assembly) SQ_MUST_CHECK;

/* Prints the first of the copied tensors' values that is not finite. Local. */
void sq_assembly_report_not_finite(const struct sq_assembly *assembly);

/* Opens the written folder as any reader would and compares the jobs of this rank's neighbour with store and source,
 * bit by bit. SQ_ERR_IO names one that differs, or a few. Collective. */
enum sq_status sq_assembly_check(const struct sq_assembly *assembly) SQ_MUST_CHECK;

#endif
