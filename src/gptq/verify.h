/* Layer errors recomputed from files: the original's weights, a quantized checkpoint, and tokens. */
#ifndef SQ_GPTQ_VERIFY_H
#define SQ_GPTQ_VERIFY_H

#include "base/status.h"
#include "config/config.h"
#include "mpi/comm.h"

/* Called on every rank for each quantized layer, in order; error: tr((W-Q) H (W-Q)') / tr(W H W'). */
typedef void sq_verify_fn(void *context, const char *layer, int64_t out_features, int64_t in_features, double error);

/* H is that of the tokens' activations in the quantized model, as in quantize. config: model, checkpoint, tokens,
 * compute, threads, shards. Collective. */
enum sq_status sq_verify(const struct sq_config *config, const struct sq_comm *world, sq_verify_fn *show,
                         void *context) SQ_MUST_CHECK;

#endif
