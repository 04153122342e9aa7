/* What an assembled checkpoint consists of: every tensor with its file and place, and who writes which part. Made by
 * every rank alike from the source checkpoint and the store's layers; no file is touched. */
#ifndef SQ_IO_ASSEMBLE_PLAN_H
#define SQ_IO_ASSEMBLE_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "io/assemble.h"
#include "io/checkpoint.h"
#include "io/format.h"
#include "io/safetensors_write.h"
#include "io/store.h"

/* A part of a layer, or a tensor that is copied from the source. */
struct sq_output {
    int layer;                      /* of the store; -1 for a copy */
    int part;                       /* of the layer, as the format lists them */
    const struct sq_tensor *source; /* of a copy, else NULL */
    int file;
    char *name; /* owned */
    struct sq_safetensors_entry entry;
};

struct sq_output_file {
    char *name;           /* "model.safetensors"; owned */
    int64_t first, count; /* its outputs */
    struct sq_safetensors_header header;
};

/* One piece of work: all tensors of a layer, or a range of bytes of a copied tensor. */
struct sq_output_job {
    int layer;      /* -1: a copy */
    int64_t output; /* the copied tensor */
    int64_t offset, bytes;
    int rank;
};

struct sq_assemble_plan {
    struct sq_output
        *outputs; /* by file; in a file by element size (largest first, so that all are aligned), then by name */
    int64_t n_outputs;
    struct sq_output_file *files;
    int n_files;
    struct sq_output_job *jobs;
    int64_t n_jobs;
    int64_t *layer_outputs; /* [layers, SQ_FORMAT_MAX_PARTS] index of the layer's part, -1 where there is none */
};

/* The tensor the layer's weights came from, NAME.weight; NULL when there is none of that shape. Local. */
const struct sq_tensor *sq_assemble_find_source(const struct sq_checkpoint *checkpoint,
                                                const struct sq_store_layer *layer);

/* The type in which a tensor that is kept is written: its own, but BF16 for F8_E4M3 and MXFP4, whose scales are not
 * written. */
enum sq_dtype sq_assemble_kept_dtype(const struct sq_tensor *source);

/* Checks that every layer of the store has its plain weights in the checkpoint, that no tensor would be written twice,
 * and that those that are kept can be read. SQ_ERR_INPUT names the layer. Local. */
enum sq_status sq_assemble_check_layers(const struct sq_checkpoint *checkpoint, const struct sq_store *store,
                                        const struct sq_format_writer *format) SQ_MUST_CHECK;

/* Checks that the checkpoint is the model the store was made from, and that every layer is complete. SQ_ERR_USAGE or
 * SQ_ERR_INPUT. Local. */
enum sq_status sq_assemble_check_source(const struct sq_checkpoint *checkpoint,
                                        const struct sq_store *store) SQ_MUST_CHECK;

/* Of the options: format, dequantized, shard_bytes. Released with sq_assemble_plan_release(). The source must have been
 * checked. Local, the same on every rank. */
enum sq_status sq_assemble_plan_make(const struct sq_checkpoint *checkpoint, const struct sq_store *store,
                                     const struct sq_assemble_options *options, int n_ranks,
                                     struct sq_assemble_plan *plan_p) SQ_MUST_CHECK;
void sq_assemble_plan_release(struct sq_assemble_plan *plan);

#endif
