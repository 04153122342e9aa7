#define _POSIX_C_SOURCE 200809L
#include "io/map_guard.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"

#define MOST_MAPS 1024

struct guarded {
    atomic_uintptr_t data; /* 0: free. Set last: a handler may look at any moment */
    size_t bytes;
    const char *path;
};

/* A signal handler can reach nothing but what is of static storage. */
static struct guarded maps[MOST_MAPS];
static atomic_flag is_spoken = ATOMIC_FLAG_INIT;
static struct sigaction before; /* what somebody else, such as MPI, had set for the signal */

static const char *path_of(uintptr_t address)
{
    for (int i = 0; i < MOST_MAPS; i++) {
        uintptr_t data = atomic_load(&maps[i].data);
        if (data && address >= data && address - data < maps[i].bytes) return maps[i].path;
    }
    return NULL;
}

static void end_process(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)context;
    const char *path = path_of((uintptr_t)info->si_addr);
    if (!path) { /* not ours: the access is tried again, for whoever else waits for it */
        sigaction(SIGBUS, &before, NULL);
        return;
    }
    while (atomic_flag_test_and_set(&is_spoken)) /* by another thread, which ends this one */
        pause();
    sq_log_last_words("cannot read %s: its data are gone (bus error): it was cut short, or its file system went away",
                      path);
    _exit(sq_status_exit_code(SQ_ERR_IO));
}

static void catch_signal(void)
{
    struct sigaction action, now;
    if (sigaction(SIGBUS, NULL, &now) != 0 || (now.sa_flags & SA_SIGINFO && now.sa_sigaction == end_process)) return;
    before = now;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = end_process;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGBUS, &action, NULL);
}

void sq_map_guard(const void *data, size_t bytes, const char *path)
{
    int i = 0;
    catch_signal();
    while (i < MOST_MAPS && atomic_load(&maps[i].data))
        i++;
    if (i == MOST_MAPS) return;
    maps[i].bytes = bytes;
    maps[i].path = path;
    atomic_store(&maps[i].data, (uintptr_t)data);
}

void sq_map_unguard(const void *data)
{
    for (int i = 0; i < MOST_MAPS; i++)
        if (atomic_load(&maps[i].data) == (uintptr_t)data) atomic_store(&maps[i].data, 0);
}
