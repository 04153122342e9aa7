/* Stopping on request: SIGTERM and SIGUSR1 (Slurm's --signal) end the run at the next safe point. */
#ifndef SQ_GPTQ_STOP_H
#define SQ_GPTQ_STOP_H

#include <stdbool.h>

#include "base/status.h"
#include "mpi/comm.h"

/* From now on the two signals only raise a flag. Local. */
void sq_stop_catch_signals(void);

/* SQ_STOPPED on every rank as soon as one has got a signal, else SQ_OK. Collective: this is a safe point. */
enum sq_status sq_stop_check(const struct sq_comm *comm) SQ_MUST_CHECK;

#endif
