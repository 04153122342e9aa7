/* What the stages of sq_assemble() share. */
#ifndef SQ_IO_ASSEMBLE_PRIVATE_H
#define SQ_IO_ASSEMBLE_PRIVATE_H

#include "io/assemble.h"
#include "io/assemble_plan.h"

struct sq_assembly {
    const struct sq_comm *comm;
    const struct sq_checkpoint *checkpoint;
    struct sq_store *store;
    const struct sq_assemble_options *options;
    struct sq_assemble_plan plan;
    char *tmp; /* the folder that is being written */
};

/* Arrays for one tile of a layer. */
struct sq_assemble_tile {
    struct sq_store_rows rows; /* of SQ_STORE_TILE_ROWS rows */
    float *weights;            /* f32 [SQ_STORE_TILE_ROWS, in_features] */
};

enum sq_status sq_assemble_tile_alloc(const struct sq_store_layer *layer,
                                      struct sq_assemble_tile *tile_p) SQ_MUST_CHECK;
void sq_assemble_tile_release(struct sq_assemble_tile *tile);

/* Elements that are converted at a time, and room for them. */
#define SQ_ASSEMBLE_PIECE 8192
struct sq_assemble_piece {
    float values[SQ_ASSEMBLE_PIECE];
    float converted[SQ_ASSEMBLE_PIECE]; /* bytes of any type up to this width */
};

/* Elements [first, first + count) of a kept tensor in the type it is written in, into piece->converted. Local. */
enum sq_status sq_assemble_convert(const struct sq_output *output, int64_t first, int64_t count,
                                   struct sq_assemble_piece *piece) SQ_MUST_CHECK;

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
 * bit by bit. SQ_ERR_IO names the first difference. Collective. */
enum sq_status sq_assembly_check(const struct sq_assembly *assembly) SQ_MUST_CHECK;

#endif
