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

#define STEP_SECONDS 0.1   /* between two looks */
#define MOST_PER_STEP 1.0  /* seconds that count for one: what is above, this process did not run */
#define SPEAK_SECONDS 2.0  /* by which a rank lets the one before it speak first: the end of one ends all */
#define MOST_SPEAKERS 5    /* that wait for each other so */
#define LISTEN_SECONDS 2.0 /* without a sign, after which a rank counts as silent */
#define DEFER_SECONDS 6.0  /* by which a node where nobody is silent lets one speak first that knows who is */

/* What the main thread waits in, for the thread that watches; each wait has a number. */
static struct {
    atomic_uintptr_t what; /* 0: it does not wait */
    atomic_uint_fast64_t number;
    double limit_seconds;
    _Atomic(const struct sq_peers *) peers; /* NULL: it knows nothing of the others */
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

void sq_watch_set_peers(const struct sq_peers *peers)
{
    atomic_store_explicit(&watch.peers, peers, memory_order_release);
}

/* Nothing of what else this process has open can be completed without the other ranks. One of a node says why: mpirun
 * takes up to two seconds to end the others. */
static _Noreturn void end_process(const char *what, const struct sq_peers *peers, const char *silent)
{
    if (!peers || sq_peers_may_speak(peers))
        sq_error("waited %.0f s for other ranks in vain: %s%s", watch.limit_seconds, what, silent);
    _exit(SQ_EXIT_LOST);
}

/* A wait, as the thread that watches sees it. */
struct wait {
    const char *what; /* NULL: there is none */
    uint_fast64_t number;
    double seconds, last; /* how long it lasts; when that was looked at */
    bool listens;         /* sq_peers_listen() was called in it */
};

static void look(struct wait *wait)
{
    double now = sq_seconds(), passed = now - wait->last;
    uint_fast64_t before = wait->number;
    wait->what = (const char *)atomic_load_explicit(&watch.what, memory_order_acquire);
    wait->number = atomic_load_explicit(&watch.number, memory_order_relaxed);
    wait->last = now;
    if (wait->what && wait->number == before) {
        wait->seconds += passed < MOST_PER_STEP ? passed : MOST_PER_STEP;
    } else {
        wait->seconds = 0;
        wait->listens = false;
    }
}

/* By which the ranks of a list speak one after another. */
static double turn(int place)
{
    return SPEAK_SECONDS * (place < MOST_SPEAKERS ? place : MOST_SPEAKERS);
}

/* Without knowledge of others each rank speaks in its turn; with it those first that know who is silent. */
static void judge(struct wait *wait, const struct sq_peers *peers)
{
    char silent[320] = "";
    double limit = watch.limit_seconds, by_rank = turn(sq_log_rank()), by_place = peers ? turn(peers->own) : by_rank;
    if (peers && !wait->listens && wait->seconds > limit + by_place - LISTEN_SECONDS) {
        sq_peers_listen(peers);
        wait->listens = true;
    }
    if (wait->seconds <= limit + by_place) return;
    bool knows = !peers || sq_peers_find_silent(peers, silent, sizeof silent);
    if (knows || wait->seconds > limit + by_place + by_rank + DEFER_SECONDS) end_process(wait->what, peers, silent);
}

static void *keep_watch(void *unused)
{
    const struct timespec step = {.tv_nsec = (long)(STEP_SECONDS * 1e9)};
    struct wait wait = {.last = sq_seconds()};
    (void)unused;
    for (;;) {
        nanosleep(&step, NULL);
        look(&wait);
        const struct sq_peers *peers = atomic_load_explicit(&watch.peers, memory_order_acquire);
        if (peers) sq_peers_beat(peers, wait.what != NULL);
        if (wait.what) judge(&wait, peers);
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
