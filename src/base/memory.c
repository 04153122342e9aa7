#define _POSIX_C_SOURCE 200809L
#include "base/memory.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

static int64_t fail_countdown; /* 0: off */

void sq_memory_fail_at(int64_t n)
{
    fail_countdown = n;
}

/* --- who has how much --------------------------------------------------------------------------------------------- */

#define MOST_USERS 256 /* different texts; what comes after them counts together, as the last */
#define NAME_BYTES 48  /* of a text that are kept */

/* What stands before each piece of memory. */
struct head {
    void *start;  /* as the system gave it */
    size_t bytes; /* asked for */
    int user;
};
#define ALIGNMENT ((size_t)64) /* also bytes of the head */

static struct {
    atomic_flag is_busy;
    int count;
    char names[MOST_USERS][NAME_BYTES];
    struct sq_memory_use uses[MOST_USERS], all;
} users = {.is_busy = ATOMIC_FLAG_INIT};

static void enter_users(void)
{
    while (atomic_flag_test_and_set_explicit(&users.is_busy, memory_order_acquire))
        ;
}

static void leave_users(void)
{
    atomic_flag_clear_explicit(&users.is_busy, memory_order_release);
}

static int find_user(const char *name)
{
    int i = 0;
    while (i < users.count && strncmp(users.names[i], name, NAME_BYTES - 1) != 0)
        i++;
    return i;
}

static void change_use(struct sq_memory_use *use, int64_t bytes)
{
    use->bytes += bytes;
    if (use->bytes > use->peak) use->peak = use->bytes;
}

static int count_taken(const char *name, int64_t bytes)
{
    enter_users();
    int user = find_user(name);
    if (user == users.count && user < MOST_USERS) strncpy(users.names[users.count++], name, NAME_BYTES - 1);
    if (user == MOST_USERS) user--;
    change_use(&users.uses[user], bytes);
    change_use(&users.all, bytes);
    leave_users();
    return user;
}

static void count_given(int user, int64_t bytes)
{
    enter_users();
    change_use(&users.uses[user], -bytes);
    change_use(&users.all, -bytes);
    leave_users();
}

struct sq_memory_use sq_memory_use_of(const char *what)
{
    enter_users();
    int user = what ? find_user(what) : 0;
    struct sq_memory_use use = users.all;
    if (what) use = user < users.count ? users.uses[user] : (struct sq_memory_use){0, 0};
    leave_users();
    return use;
}

void sq_memory_forget_peaks(void)
{
    enter_users();
    for (int i = 0; i < users.count; i++)
        users.uses[i].peak = users.uses[i].bytes;
    users.all.peak = users.all.bytes;
    leave_users();
}

/* --- taking and giving back --------------------------------------------------------------------------------------- */

static struct head *head_of(void *memory)
{
    return (struct head *)(void *)((char *)memory - ALIGNMENT);
}

enum sq_status sq_alloc(const char *what, int64_t count, size_t size, void **memory_p)
{
    size_t bytes = 0;
    if (fail_countdown > 0 && --fail_countdown == 0) goto fail;
    if (count < 0 || __builtin_mul_overflow((size_t)count, size, &bytes) || bytes > SIZE_MAX / 2) goto fail;
    /* pages that the system clears only when they are first used, by the thread that uses them */
    char *start = calloc(bytes / ALIGNMENT + 3, ALIGNMENT);
    if (!start) goto fail;
    char *memory = start + 2 * ALIGNMENT - (uintptr_t)start % ALIGNMENT;
    *head_of(memory) = (struct head){start, bytes, count_taken(what, (int64_t)bytes)};
    *memory_p = memory;
    return SQ_OK;
fail:
    sq_error("cannot allocate %lld x %zu bytes for %s", (long long)count, size, what);
    return SQ_ERR_MEMORY;
}

void sq_free(void *memory)
{
    if (!memory) return;
    struct head *head = head_of(memory);
    count_given(head->user, (int64_t)head->bytes);
    free(head->start);
}

enum sq_status sq_string_copy(const char *text, char **copy_p)
{
    return sq_string_format(copy_p, "%s", text);
}

enum sq_status sq_string_format(char **text_p, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    void *text = NULL;
    enum sq_status status = sq_alloc("a string", length + 1, 1, &text);
    if (status == SQ_OK) {
        vsnprintf(text, (size_t)length + 1, format, again);
        *text_p = text;
    }
    va_end(again);
    return status;
}
