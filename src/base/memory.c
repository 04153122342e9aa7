#define _POSIX_C_SOURCE 200809L
#include "base/memory.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

static int64_t fail_countdown; /* 0: off */

void sq_memory_fail_at(int64_t n)
{
    fail_countdown = n;
}

enum sq_status sq_alloc(const char *what, int64_t count, size_t size, void **memory_p)
{
    size_t bytes = 0;
    void *memory = NULL;
    if (fail_countdown > 0 && --fail_countdown == 0) goto fail;
    if (count < 0 || __builtin_mul_overflow((size_t)count, size, &bytes) || bytes > SIZE_MAX / 2) goto fail;
    if (posix_memalign(&memory, 64, (bytes + 63) / 64 * 64 + (bytes == 0 ? 64 : 0))) goto fail;
    memset(memory, 0, bytes);
    *memory_p = memory;
    return SQ_OK;
fail:
    sq_error("cannot allocate %lld x %zu bytes for %s", (long long)count, size, what);
    return SQ_ERR_MEMORY;
}

void sq_free(void *memory)
{
    free(memory);
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
