/* What is wrong with a finished layer, by its figures: what a run warns of, what --strict looks at, what a report puts
 * first. */
#ifndef SQ_GPTQ_FLAGS_H
#define SQ_GPTQ_FLAGS_H

#include "config/config.h"
#include "io/store.h"

enum {
    SQ_FLAG_RAISED = 1,     /* damping was raised */
    SQ_FLAG_DIAGONAL = 2,   /* only the Hessian's diagonal was used */
    SQ_FLAG_DEAD = 4,       /* inputs that were zero in every token */
    SQ_FLAG_LIMITED = 8,    /* scales at the limits of their type */
    SQ_FLAG_NO_BETTER = 16, /* the error is no better than plain rounding's, though more than rounding was done */
    SQ_FLAG_STARVED = 32,   /* a layer of an expert that too few tokens came to */
    SQ_FLAG_FEW_TOKENS = 64 /* any other with fewer tokens than inputs: its Hessian has not full rank */
};
#define SQ_N_FLAGS 7
#define SQ_FLAG_ANY ((1u << SQ_N_FLAGS) - 1)

/* What flag 1 << bit is called. */
const char *sq_flag_name(int bit);

/* Bits SQ_FLAG_*. expert_tokens: for a layer of an expert, below how many it is starved; for any other 0. Local. */
unsigned sq_layer_flags(const struct sq_layer_report *report, enum sq_solver solver, int64_t in_features,
                        int64_t expert_tokens);

/* Whether a layer of no expert has too few; plain rounding looks at no Hessian. Local. */
bool sq_layer_has_few_tokens(int64_t n_tokens, enum sq_solver solver, int64_t in_features);

#endif
