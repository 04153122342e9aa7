#include "config/format.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"

#define BITS(n) (1u << (n))

/* gptq stores zero points less one and is read as symmetric. compressed-tensors lays 3 bits out in two ways, by the
 * version of its library (before and since 0.18), and no key says which. */
static const struct {
    const char *name;
    unsigned bits; /* a set of BITS() */
    bool asymmetric, ragged;
    const char *instead;
} formats[] = {
    [SQ_FORMAT_AUTO] = {"auto", BITS(2) | BITS(3) | BITS(4) | BITS(8), true, true, ""},
    [SQ_FORMAT_GPTQ] = {"gptq", BITS(4) | BITS(8), false, true, "gptq_v2 (or auto)"},
    [SQ_FORMAT_GPTQ_V2] = {"gptq_v2", BITS(2) | BITS(3) | BITS(4) | BITS(8), true, true, ""},
    [SQ_FORMAT_COMPRESSED_TENSORS] = {"compressed-tensors", BITS(2) | BITS(4) | BITS(8), true, false,
                                      "gptq_v2 (or auto)"},
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

enum sq_status sq_format_check_ragged(enum sq_format format, const char *layer)
{
    if (formats[format].ragged) return SQ_OK;
    sq_error("%s%sformat %s holds whole groups only; a short last group (--ragged) needs %s", layer ? layer : "",
             layer ? ": " : "", formats[format].name, formats[format].instead);
    return SQ_ERR_USAGE;
}
