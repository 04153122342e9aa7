#include "gptq/flags.h"

const char *sq_flag_name(int bit)
{
    static const char *const names[SQ_N_FLAGS] = {
        "raised damping",        "only the diagonal used",  "dead inputs", "scales at a limit", "no gain over rounding",
        "experts of few tokens", "fewer tokens than inputs"};
    return names[bit];
}

bool sq_layer_has_few_tokens(int64_t n_tokens, enum sq_solver solver, int64_t in_features)
{
    return solver != SQ_SOLVER_RTN && n_tokens < in_features;
}

unsigned sq_layer_flags(const struct sq_layer_report *report, enum sq_solver solver, int64_t in_features,
                        int64_t expert_tokens)
{
    unsigned flags = 0;
    if (report->n_rungs > 0) flags |= SQ_FLAG_RAISED;
    if (report->n_rungs < 0) flags |= SQ_FLAG_DIAGONAL;
    if (report->n_dead > 0) flags |= SQ_FLAG_DEAD;
    if (report->n_limited > 0) flags |= SQ_FLAG_LIMITED;
    if (solver != SQ_SOLVER_RTN && report->error >= report->error_rtn && report->error_rtn > 0 && report->n_tokens > 0)
        flags |= SQ_FLAG_NO_BETTER;
    if (report->n_tokens < expert_tokens) flags |= SQ_FLAG_STARVED;
    if (expert_tokens == 0 && sq_layer_has_few_tokens(report->n_tokens, solver, in_features))
        flags |= SQ_FLAG_FEW_TOKENS;
    return flags;
}
