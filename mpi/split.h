/* Who gets what: contiguous shares that are even to within one item. */
#ifndef SQ_MPI_SPLIT_H
#define SQ_MPI_SPLIT_H

#include <stdint.h>

struct sq_range {
    int64_t first, count;
};

/* Share `part` of `parts` of n items: [n * part / parts, n * (part + 1) / parts). Local. */
static inline struct sq_range sq_split(int64_t n, int64_t part, int64_t parts)
{
    int64_t first = n * part / parts;
    return (struct sq_range){first, n * (part + 1) / parts - first};
}

#endif
