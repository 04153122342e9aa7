/* Which linear layers are quantized, and on which grid each: the job's settings, its rules, and the group size that
 * fits. */
#ifndef SQ_GPTQ_LAYERS_H
#define SQ_GPTQ_LAYERS_H

#include "base/status.h"
#include "config/config.h"
#include "io/store.h"
#include "model/model.h"

struct sq_layers {
    struct sq_store_layer *layers; /* in the order of computation; names borrowed from the model */
    int n_layers;
    int *of_linear;     /* [linears of the model] index in layers, or -1 where the linear stays as it is */
    int *linears;       /* [n_layers] the other way round */
    int64_t group_size; /* of the job, resolved: never SQ_GROUP_AUTO */
};

/* A rule that matches no linear, or none that an earlier rule does not match, is warned of, by rank 0. A group size
 * that does not divide in_features is SQ_ERR_USAGE naming layers and sizes that fit, unless config->ragged. Local. */
enum sq_status sq_layers_resolve(const struct sq_model *model, const struct sq_config *config,
                                 struct sq_layers *layers_p) SQ_MUST_CHECK;
void sq_layers_release(struct sq_layers *layers);

/* One warning for all layers that n_tokens are too few for (flags.h), before the work begins: every layer that is not
 * an expert's sees all tokens. source: where they are from. Local. */
void sq_layers_warn_of_tokens(const struct sq_layers *layers, const struct sq_model *model, enum sq_solver solver,
                              const char *source, int64_t n_tokens);

#endif
