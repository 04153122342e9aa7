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

/* n_ranks ranks as n_teams <= n_ranks teams of ranks that follow each other: the team of a rank, and the first rank of
 * a team; that of the team after the last is n_ranks. Local. */
static inline int sq_team_of(int rank, int n_teams, int n_ranks)
{
    return (int)((int64_t)rank * n_teams / n_ranks);
}

static inline int sq_team_begin(int64_t team, int n_teams, int n_ranks)
{
    return (int)((team * n_ranks + n_teams - 1) / n_teams);
}

#endif
