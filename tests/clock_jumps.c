/* To be preloaded: a time of day that goes a year back at every look at it. Nothing that shardq does may depend on it.
 */
#define _GNU_SOURCE
#include <stdatomic.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define START ((time_t)4000000000)
#define YEAR ((time_t)31536000)

static time_t jump(void)
{
    static atomic_int looks;
    return START - YEAR * (atomic_fetch_add(&looks, 1) % 100);
}

time_t time(time_t *result)
{
    time_t now = jump();
    if (result) *result = now;
    return now;
}

int gettimeofday(struct timeval *restrict result, void *restrict zone)
{
    (void)zone;
    *result = (struct timeval){.tv_sec = jump()};
    return 0;
}

int clock_gettime(clockid_t clock, struct timespec *result)
{
    if (clock != CLOCK_REALTIME) return (int)syscall(SYS_clock_gettime, clock, result);
    *result = (struct timespec){.tv_sec = jump()};
    return 0;
}
