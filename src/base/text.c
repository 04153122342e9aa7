#define _POSIX_C_SOURCE 200809L
#include "base/text.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/memory.h"

enum sq_status sq_path_join(const char *folder, const char *name, char **path_p)
{
    return sq_string_format(path_p, "%s/%s", folder, name);
}

enum sq_status sq_path_absolute(const char *path, char **absolute_p)
{
    char folder[4096];
    if (*path == '/') return sq_string_copy(path, absolute_p);
    if (getcwd(folder, sizeof folder)) return sq_path_join(folder, path, absolute_p);
    sq_error("cannot tell where %s is: %s", path, strerror(errno));
    return SQ_ERR_IO;
}

int sq_size_parse(const char *text, int64_t *bytes_p)
{
    static const char units[] = "KMGT";
    char *end = NULL;
    double value = strtod(text, &end);
    if (end == text || !isfinite(value) || value < 0) return -1;
    const char *unit = *end ? strchr(units, toupper((unsigned char)*end)) : NULL;
    if (unit) {
        value = ldexp(value, 10 * (int)(unit - units + 1));
        end++;
        if (*end == 'i') end++;
        if (*end == 'B' || *end == 'b') end++;
    }
    if (*end || value > 9e18) return -1;
    *bytes_p = (int64_t)value;
    return 0;
}

static char *format_size(double bytes, int digits, char *text, size_t size)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    int unit = 0;
    while (bytes >= 1024 && unit < 5) {
        bytes /= 1024;
        unit++;
    }
    snprintf(text, size, "%.*f %s", unit ? digits : 0, bytes, units[unit]);
    return text;
}

char *sq_size_format(double bytes, char text[16])
{
    return format_size(bytes, 1, text, 16);
}

void sq_size_format_apart(double a, double b, char text_a[24], char text_b[24])
{
    for (int digits = 1; digits <= 3; digits++)
        if (strcmp(format_size(a, digits, text_a, 24), format_size(b, digits, text_b, 24)) != 0) return;
    snprintf(text_a, 24, "%.0f B", a);
    snprintf(text_b, 24, "%.0f B", b);
}

char *sq_duration_format(double seconds, char text[48])
{
    if (seconds < 60) {
        snprintf(text, 48, "%.1f s", seconds);
    } else if (seconds < 3600) {
        int total = (int)(seconds + 0.5);
        snprintf(text, 48, "%d min %02d s", total / 60, total % 60);
    } else {
        long minutes = (long)(seconds / 60 + 0.5);
        snprintf(text, 48, "%ld h %02ld min", minutes / 60, minutes % 60);
    }
    return text;
}

bool sq_text_ends_in(const char *text, const char *ending)
{
    size_t n = strlen(text), e = strlen(ending);
    return n >= e && !strcmp(text + n - e, ending);
}

void sq_text_append(char *text, size_t size, const char *format, ...)
{
    size_t used = strlen(text);
    va_list args;
    va_start(args, format);
    vsnprintf(text + used, size - used, format, args);
    va_end(args);
}
