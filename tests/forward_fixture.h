/* One model of tests/golden, opened, with a forward pass. */
#ifndef SQ_TESTS_FORWARD_FIXTURE_H
#define SQ_TESTS_FORWARD_FIXTURE_H

#include <stdlib.h>

#include "backends.h"
#include "golden.h"
#include "model/forward.h"
#include "ranks.h"

/* One model, opened, and a forward pass over all samples on every rank, which are counted on from rank to rank. */
struct opened {
    struct golden golden;
    struct sq_backend *backend;
    struct sq_checkpoint *checkpoint;
    struct sq_model *model;
    struct sq_forward *forward;
};

static inline void open_forward(const char *name, struct opened *o)
{
    o->golden = golden_find(name);
    struct sq_forward_options options = {.compute = SQ_F32,
                                         .n_samples = o->golden.n_samples,
                                         .length = o->golden.length,
                                         .first_sample = ranks.comm.rank * o->golden.n_samples};
    if (backend_create(1, &o->backend) != SQ_OK) abort();
    if (sq_checkpoint_open(o->golden.folder, &o->checkpoint) != SQ_OK) abort();
    if (sq_model_open(o->checkpoint, &o->model) != SQ_OK) abort();
    if (sq_forward_create(o->backend, o->model, &options, &o->forward) != SQ_OK) abort();
    if (sq_forward_embed(o->forward, &ranks.comm, o->golden.ids) != SQ_OK) abort();
    if (sq_forward_load_block(o->forward, &ranks.comm, 0) != SQ_OK) abort();
}

static inline void close_forward(struct opened *o)
{
    sq_forward_destroy(o->forward);
    sq_model_close(o->model);
    sq_checkpoint_close(o->checkpoint);
    o->backend->ops->destroy(o->backend);
    golden_release(&o->golden);
}

/* Entry `index` of a sample's residual stream becomes `value`. */
static inline void set_hidden(const struct opened *o, int64_t sample, int64_t index, float value)
{
    float *values = calloc((size_t)(o->golden.length * sq_model_hidden_size(o->model)), sizeof *values);
    CHECK(sq_forward_get_hidden(o->forward, sample, values) == SQ_OK);
    values[index] = value;
    CHECK(sq_forward_set_hidden(o->forward, sample, values) == SQ_OK);
    free(values);
}

#endif
