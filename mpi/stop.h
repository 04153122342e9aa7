/* Stopping on request: SIGTERM and SIGUSR1 (Slurm's --signal) end the run at the next safe point. */
#ifndef SQ_MPI_STOP_H
#define SQ_MPI_STOP_H

#include <stdbool.h>

#include "base/status.h"
#include "mpi/comm.h"

/* From now on the two signals only raise a flag, which is down at first. Local. */
void sq_stop_catch_signals(void);

/* Whether this rank has got a signal. Local. */
bool sq_stop_requested(void);

/* SQ_STOPPED on every rank as soon as one has got a signal, else SQ_OK. Collective: this is a safe point. */
enum sq_status sq_stop_check(const struct sq_comm *comm) SQ_MUST_CHECK;

#endif
