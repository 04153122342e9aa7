#define _POSIX_C_SOURCE 200809L
#include "base/watch.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"

#define STEP_SECONDS 0.1  /* between two looks */
#define MOST_PER_STEP 1.0 /* seconds that count for one: what is above, this process did not run */
#define SPEAK_SECONDS 2.0 /* by which a rank lets the one before it speak first: the end of one ends all */
#define MOST_SPEAKERS 5   /* that wait for each other so */

/* What the main thread waits in, for the thread that watches; each wait has a number. */
static struct {
    atomic_uintptr_t what; /* 0: it does not wait */
    atomic_uint_fast64_t number;
    double limit_seconds;
} watch;

void sq_watch_begin(const char *what)
{
    atomic_fetch_add_explicit(&watch.number, 1, memory_order_relaxed);
    atomic_store_explicit(&watch.what, (uintptr_t)what, memory_order_release);
}

void sq_watch_end(void)
{
    atomic_store_explicit(&watch.what, 0, memory_order_relaxed);
}

/* Nothing of what else this process has open can be completed without the other ranks. */
static _Noreturn void end_process(const char *what)
{
    sq_error("waited %.0f s for other ranks in vain: %s", watch.limit_seconds, what);
    _exit(SQ_EXIT_LOST);
}

static void *keep_watch(void *unused)
{
    const struct timespec step = {.tv_nsec = (long)(STEP_SECONDS * 1e9)};
    int rank = sq_log_rank();
    double patience = watch.limit_seconds + SPEAK_SECONDS * (rank < MOST_SPEAKERS ? rank : MOST_SPEAKERS);
    double waited = 0, last = sq_seconds();
    uint_fast64_t seen = 0;
    (void)unused;
    for (;;) {
        nanosleep(&step, NULL);
        double now = sq_seconds(), passed = now - last;
        last = now;
        const char *what = (const char *)atomic_load_explicit(&watch.what, memory_order_acquire);
        uint_fast64_t number = atomic_load_explicit(&watch.number, memory_order_relaxed);
        waited = what && number == seen ? waited + (passed < MOST_PER_STEP ? passed : MOST_PER_STEP) : 0;
        seen = number;
        if (waited > patience) end_process(what);
    }
    return NULL;
}

enum sq_status sq_watch_start(int limit_seconds)
{
    pthread_t thread;
    sigset_t all, before;
    if (limit_seconds == 0) return SQ_OK;
    watch.limit_seconds = limit_seconds;
    sigfillset(&all); /* signals are for the main thread */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int code = pthread_create(&thread, NULL, keep_watch, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (code != 0) {
        sq_error("cannot start the thread that watches for lost ranks: %s", strerror(code));
        return SQ_ERR_LIBRARY;
    }
    pthread_detach(thread);
    return SQ_OK;
}
