/* Measures the machine that the program runs on, as a machine description. */
#ifndef SQ_GPTQ_BENCH_H
#define SQ_GPTQ_BENCH_H

#include "config/machine.h"
#include "gptq/place.h"

/* Rates of the place's backend while all workers of all ranks are busy, the links between the ranks of comm, and the
 * files of `folder`. seconds: for each figure. Collective on comm. */
enum sq_status sq_bench_measure(const struct sq_place *place, const char *folder, double seconds,
                                struct sq_machine *machine_p) SQ_MUST_CHECK;

/* bench_rates.c: the rates alone. Local, but other ranks of the node should do the same. */
enum sq_status sq_bench_rates(struct sq_backend *backend, double seconds, struct sq_rates *rates_p) SQ_MUST_CHECK;

#endif
