#include "gptq/flags.h"

unsigned sq_layer_flags(const struct sq_layer_report *report, enum sq_solver solver, int64_t least_tokens)
{
    unsigned flags = 0;
    if (report->n_rungs > 0) flags |= SQ_FLAG_RAISED;
    if (report->n_rungs < 0) flags |= SQ_FLAG_DIAGONAL;
    if (report->n_dead > 0) flags |= SQ_FLAG_DEAD;
    if (report->n_limited > 0) flags |= SQ_FLAG_LIMITED;
    if (solver != SQ_SOLVER_RTN && report->error >= report->error_rtn && report->error_rtn > 0 && report->n_tokens > 0)
        flags |= SQ_FLAG_NO_BETTER;
    if (report->n_tokens < least_tokens) flags |= SQ_FLAG_STARVED;
    return flags;
}
