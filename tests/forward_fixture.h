/* One model of tests/golden, opened, with a forward pass. */
#ifndef SQ_TESTS_FORWARD_FIXTURE_H
#define SQ_TESTS_FORWARD_FIXTURE_H

#include <stdlib.h>

#include "backends.h"
#include "model/forward.h"
#include "model_fixture.h"
#include "ranks.h"

/* A forward pass over all samples on every rank, which are counted on from rank to rank. */
struct pass {
    struct opened opened;
    struct sq_backend *backend;
    struct sq_forward *forward;
};

static inline void open_forward(const char *name, struct pass *p)
{
    open_model(name, &p->opened);
    const struct golden *golden = &p->opened.golden;
    struct sq_forward_options options = {.compute = SQ_F32,
                                         .n_samples = golden->n_samples,
                                         .length = golden->length,
                                         .first_sample = ranks.comm.rank * golden->n_samples};
    if (backend_create(1, &p->backend) != SQ_OK) abort();
    if (sq_forward_create(p->backend, p->opened.model, &options, &p->forward) != SQ_OK) abort();
    if (sq_forward_embed(p->forward, &ranks.comm, golden->ids) != SQ_OK) abort();
    if (sq_forward_load_block(p->forward, &ranks.comm, 0) != SQ_OK) abort();
}

static inline void close_forward(struct pass *p)
{
    sq_forward_destroy(p->forward);
    p->backend->ops->destroy(p->backend);
    close_model(&p->opened);
}

/* Entry `index` of a sample's residual stream becomes `value`. */
static inline void set_hidden(const struct pass *p, int64_t sample, int64_t index, float value)
{
    int64_t count = p->opened.golden.length * sq_model_hidden_size(p->opened.model);
    float *values = calloc((size_t)count, sizeof *values);
    CHECK(sq_forward_get_hidden(p->forward, sample, values) == SQ_OK);
    values[index] = value;
    CHECK(sq_forward_set_hidden(p->forward, sample, values) == SQ_OK);
    free(values);
}

#endif
