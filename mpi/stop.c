#define _POSIX_C_SOURCE 200809L
#include "mpi/stop.h"

#include <signal.h>
#include <string.h>

/* A signal handler can reach nothing but a variable of static storage. */
static volatile sig_atomic_t stop_requested;

static void request_stop(int signal_number)
{
    (void)signal_number;
    stop_requested = 1;
}

void sq_stop_catch_signals(void)
{
    struct sigaction action;
    stop_requested = 0;
    memset(&action, 0, sizeof action);
    action.sa_handler = request_stop;
    action.sa_flags = SA_RESTART;
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGUSR1, &action, NULL);
}

bool sq_stop_requested(void)
{
    return stop_requested;
}

enum sq_status sq_stop_check(const struct sq_comm *comm)
{
    return sq_comm_agree(comm, stop_requested ? SQ_STOPPED : SQ_OK);
}
