/* What `shardq plan` prints. */
#ifndef SQ_PLAN_SHOW_H
#define SQ_PLAN_SHOW_H

#include "gptq/plan.h"

#define SQ_PLAN_COLUMNS 6 /* plans beside each other; more go into another table */

/* What the plans are for. */
struct sq_plan_head {
    const struct sq_memory_request *request;
    const struct sq_machine *machine;
    const char *model; /* its path */
    int useful_ranks;  /* 0: none fits */
};

/* As text: what is planned, one table, notes. Plans of several numbers of ranks. */
void sq_plan_show(const struct sq_plan_head *head, const struct sq_plan *plans, int count);

/* As one JSON object a line, one for each plan. */
void sq_plan_show_json(const struct sq_plan_head *head, const struct sq_plan *plans, int count);

#endif
