/* A golden model, opened: for tests that run it. */
#ifndef SQ_TESTS_MODEL_FIXTURE_H
#define SQ_TESTS_MODEL_FIXTURE_H

#include "golden.h"
#include "model/model.h"

struct opened {
    struct golden golden;
    struct sq_checkpoint *checkpoint;
    struct sq_model *model;
};

static inline void open_model(const char *name, struct opened *o)
{
    o->golden = golden_find(name);
    if (sq_checkpoint_open(o->golden.folder, &o->checkpoint) != SQ_OK) abort();
    if (sq_model_open(o->checkpoint, &o->model) != SQ_OK) abort();
}

static inline void close_model(struct opened *o)
{
    sq_model_close(o->model);
    sq_checkpoint_close(o->checkpoint);
    golden_release(&o->golden);
}

#endif
