/* Host memory: checked sizes, 64-byte alignment, one message when it runs out, and a count of who has how much. */
#ifndef SQ_BASE_MEMORY_H
#define SQ_BASE_MEMORY_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* Allocates count * size zeroed bytes, 64-byte aligned; a zero product gives a valid pointer. Owned by the caller,
 * released with sq_free(). Fails with SQ_ERR_MEMORY naming `what`; the bytes are counted under that text. */
enum sq_status sq_alloc(const char *what, int64_t count, size_t size, void **memory_p) SQ_MUST_CHECK;
void sq_free(void *memory);

/* Copies a string; SQ_ERR_MEMORY when there is no room. Released with sq_free(). */
enum sq_status sq_string_copy(const char *text, char **copy_p) SQ_MUST_CHECK;

/* printf into a new string, released with sq_free(). */
enum sq_status sq_string_format(char **text_p, const char *format, ...) SQ_MUST_CHECK
    __attribute__((format(printf, 2, 3)));

/* Bytes that this process has now, and the most that it had at once, asked for with the text `what`; NULL: in all. */
struct sq_memory_use {
    int64_t bytes, peak;
};
struct sq_memory_use sq_memory_use_of(const char *what);

/* Peaks begin anew, with what is there now. */
void sq_memory_forget_peaks(void);

/* Tests only: the n-th allocation from now fails (1 = the next); 0 switches it off. */
void sq_memory_fail_at(int64_t n);

#endif
