/* From a store to a checkpoint folder. Written to OUT.tmp, read back and checked against the store, then renamed. */
#ifndef SQ_IO_ASSEMBLE_H
#define SQ_IO_ASSEMBLE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "config/config.h"
#include "io/checkpoint.h"
#include "io/store.h"
#include "mpi/comm.h"

struct sq_assemble_options {
    const char *out; /* folder that must not exist, unless `replace` */
    bool is_locked;  /* rank 0 holds the lock of `out` (io/folder.h) and keeps it; else it is taken and given back */
    bool replace;    /* a finished folder of the same store is replaced (resume) */
    enum sq_format format; /* not auto */
    int64_t shard_bytes;   /* largest file; one tensor alone may be larger */
    bool dequantized;      /* plain checkpoint with the rounded weights, in the source's dtype */
    int n_threads;         /* of this rank; the bytes do not depend on it */
    const char *version;   /* "0.1.0", for meta.quantizer */
    double damping;        /* for meta */
    bool static_groups, true_sequential, activation_order;
};

/* The options that follow from `made`, the configuration the store was made with, and `wanted`, what the user asks for
 * now (out, resume, format, shard_bytes, dequantized, threads); both may be the same. Format auto is that of `made`,
 * and there gptq when every layer is symmetric with 4 or 8 bits, else gptq_v2. The strings stay wanted's. Local. */
void sq_assemble_options_set(const struct sq_config *made, const struct sq_config *wanted, const struct sq_store *store,
                             struct sq_assemble_options *options_p);

/* Finds before the work what sq_assemble() would refuse after it: layers that are no plain weights in the checkpoint,
 * tensors that could not be written, a format that does not hold the layers, an `out` that may not be replaced (NULL:
 * there will be none). SQ_ERR_INPUT or SQ_ERR_USAGE. Collective. */
enum sq_status sq_assemble_check(const struct sq_comm *comm, const struct sq_checkpoint *checkpoint,
                                 const struct sq_store *store, const struct sq_assemble_options *options) SQ_MUST_CHECK;

/* Every layer of the store must be complete. Output files are shared among ranks; tensors that are not quantized are
 * copied from the checkpoint; tokenizer, generation config, chat template and other side files are copied unchanged.
 * The bytes do not depend on the number of ranks. SQ_ERR_USAGE when `out` is there and may not be replaced, or when
 * the format cannot hold the layers of the store; SQ_STOPPED after a stop signal (mpi/stop.h). On any failure nothing
 * is left. total_bytes_p: size of the safetensors files. Collective. */
enum sq_status sq_assemble(const struct sq_comm *comm, const struct sq_checkpoint *checkpoint, struct sq_store *store,
                           const struct sq_assemble_options *options, int64_t *total_bytes_p) SQ_MUST_CHECK;

/* Whether options->out is a finished folder that was assembled from this very store in the same form: format,
 * dequantized and shard size. A folder that is not there, or has no config.json or
 * another's, is no error; one whose config.json cannot be read is. Collective. */
enum sq_status sq_assemble_matches(const struct sq_comm *comm, struct sq_store *store,
                                   const struct sq_assemble_options *options, bool *matches_p) SQ_MUST_CHECK;

#endif
