/* Small text helpers: paths, sizes, lists. */
#ifndef SQ_BASE_TEXT_H
#define SQ_BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* folder + "/" + name as a new string, released with sq_free(). */
enum sq_status sq_path_join(const char *folder, const char *name, char **path_p) SQ_MUST_CHECK;

/* The same path from the root: a relative one behind the working folder. Links are not resolved. A new string, released
 * with sq_free(). SQ_ERR_IO when there is no working folder. */
enum sq_status sq_path_absolute(const char *path, char **absolute_p) SQ_MUST_CHECK;

/* "800M", "1.5G", "4096" -> bytes (K, M, G, T are powers of 1024). Returns 0 on success;
 * -1 when the text is no size (then *bytes_p is left alone). Prints nothing: the caller knows the option's name. */
int sq_size_parse(const char *text, int64_t *bytes_p);

/* 1536 -> "1.5 KiB", into text[16]. Returns text. */
char *sq_size_format(double bytes, char text[16]);

/* The same of two sizes that are not equal, such as what is needed and what there is: with as many digits as it takes
 * to see which is larger, and in bytes where three are not enough. */
void sq_size_format_apart(double a, double b, char text_a[24], char text_b[24]);

/* 3725 s -> "1 h 02 min", 65 -> "1 min 05 s", 3.2 -> "3.2 s", into text[48]. Returns text. */
char *sq_duration_format(double seconds, char text[48]);

bool sq_text_ends_in(const char *text, const char *ending);

/* Adds to the end of a text in size bytes, as much as there is room for. */
void sq_text_append(char *text, size_t size, const char *format, ...) SQ_PRINTF(3, 4);

#endif
