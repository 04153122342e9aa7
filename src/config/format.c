#include "config/format.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"

#define BITS(n) (1u << (n))

/* gptq stores zero points less one and is read as symmetric. */
static const struct {
    const char *name;
    unsigned bits; /* a set of BITS() */
    bool asymmetric;
    const char *instead;
} formats[] = {
    [SQ_FORMAT_AUTO] = {"auto", BITS(2) | BITS(3) | BITS(4) | BITS(8), true, ""},
    [SQ_FORMAT_GPTQ] = {"gptq", BITS(4) | BITS(8), false, "gptq_v2 (or auto)"},
    [SQ_FORMAT_GPTQ_V2] = {"gptq_v2", BITS(2) | BITS(3) | BITS(4) | BITS(8), true, ""},
};

/* "4 and 8" */
static const char *list_bits(unsigned set, char text[32])
{
    int last = 0;
    *text = 0;
    for (int n = 1; n <= 8; n++)
        if (set & BITS(n)) last = n;
    for (int n = 1; n <= last; n++)
        if (set & BITS(n))
            snprintf(text + strlen(text), 32 - strlen(text), "%s%d", !*text ? "" : n == last ? " and " : ", ", n);
    return text;
}

bool sq_format_holds(enum sq_format format, int bits, bool symmetric)
{
    return (formats[format].bits & BITS(bits)) && (symmetric || formats[format].asymmetric);
}

enum sq_status sq_format_check(enum sq_format format, int bits, bool symmetric, const char *layer)
{
    char held[32];
    if (sq_format_holds(format, bits, symmetric)) return SQ_OK;
    const char *where = layer ? layer : "", *colon = layer ? ": " : "";
    if (!(formats[format].bits & BITS(bits)))
        sq_error("%s%sformat %s holds %s bits only; %d bits need %s", where, colon, formats[format].name,
                 list_bits(formats[format].bits, held), bits, formats[format].instead);
    else
        sq_error("%s%sformat %s holds symmetric layers only; asymmetric needs %s", where, colon, formats[format].name,
                 formats[format].instead);
    return SQ_ERR_USAGE;
}
