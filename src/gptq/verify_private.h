/* What the two halves of sq_verify() share. */
#ifndef SQ_GPTQ_VERIFY_PRIVATE_H
#define SQ_GPTQ_VERIFY_PRIVATE_H

#include <jansson.h>

#include "gptq/hessian.h"
#include "gptq/place.h"
#include "gptq/shards.h"
#include "gptq/verify.h"
#include "io/checkpoint.h"
#include "io/tokens.h"
#include "model/experts.h"
#include "model/forward.h"

struct sq_verification {
    const struct sq_config *config;
    const struct sq_comm *world;
    const struct sq_comm *team; /* ranks that measure a layer together: the world, or the team of an expert */
    struct sq_place place;
    struct sq_backend *backend; /* the place's */
    struct sq_checkpoint *original, *quantized;
    struct sq_model *original_model, *model;
    json_t *record;                 /* of the job that made the quantized model; NULL: the folder has none */
    struct sq_expert_policy policy; /* with which the quantized model was made */
    struct sq_tokens tokens;
    struct sq_shards shards;
    struct sq_forward *forward;
    struct sq_hessian_workspace workspace;
    struct sq_matrix hessian; /* [n, n] of the present group */
    float *scratch;           /* [workers, room_elements] */
    void *rows;               /* likewise, in backend memory */
    double *figures;          /* [rows of the widest layer, 2]: error and norm of each row */
    int64_t n_max, tile_rows, room_elements;
    const struct sq_linear *linear;
    struct sq_range tiles; /* of tile_rows rows: this rank's, of the present layer */
    const char *too_large; /* a layer of the present expert whose Hessian was not finite; NULL: none */
    sq_verify_fn *show;
    void *context; /* its */
};

/* Whether the quantized folder has the layer in a quantized form. Local. */
bool sq_verify_is_packed(const struct sq_verification *v, const struct sq_linear *linear);

/* The error of v->linear by v->hessian, the same on every rank of v->team. Collective on it. */
enum sq_status sq_verify_measure(struct sq_verification *v, double *error_p) SQ_MUST_CHECK;

/* v->record, of the quantized folder (verify_record.c). Local. */
enum sq_status sq_verify_read_record(struct sq_verification *v) SQ_MUST_CHECK;

/* Says on stderr whether `quantize --config` with the record makes the folder's bytes again from this model, these
 * tokens and on this processor, or what is different; nothing where there is no record (verify_record.c). Local. */
enum sq_status sq_verify_say_whether_same(const struct sq_verification *v) SQ_MUST_CHECK;

/* v->policy, from the record; as the router says where there is none (verify_experts.c). Local. */
enum sq_status sq_verify_read_policy(struct sq_verification *v) SQ_MUST_CHECK;

/* The experts of a block, whose groups begin with `first_group` (verify_experts.c). Collective. */
enum sq_status sq_verify_experts(struct sq_verification *v, int block, int first_group) SQ_MUST_CHECK;

#endif
