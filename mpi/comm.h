/* The second seam: the collectives the program uses. Host buffers go over MPI, a device's as comm_memory.h says. Every
 * function is Collective on the communicator unless it says Local. An MPI error is printed and ends the job: nothing
 * can be agreed on then. A wait for other ranks ends with the limit of base/watch.h. */
#ifndef SQ_MPI_COMM_H
#define SQ_MPI_COMM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "tensor/dtype.h"

struct sq_comm_device; /* comm_memory.h */

/* --- what is sent --------------------------------------------------------------------------------------------------
 */

/* Collectives by what they cost. Bytes: of the whole buffer that is summed or broadcast; of all ranks' parts together
 * of a gather. */
enum sq_traffic_kind {
    SQ_TRAFFIC_AGREE, /* statuses, and other collectives of a few bytes */
    SQ_TRAFFIC_SUM,
    SQ_TRAFFIC_REDUCE, /* sum on one rank */
    SQ_TRAFFIC_BROADCAST,
    SQ_TRAFFIC_GATHER,
    SQ_TRAFFIC_SHIFT,    /* from each rank to one other; bytes that this rank sends */
    SQ_TRAFFIC_MEMORY,   /* broadcast between the backends' memories: comm_memory.h */
    SQ_TRAFFIC_WEIGHTS,  /* gather between them */
    SQ_TRAFFIC_EXCHANGE, /* from each rank to all others, between devices; bytes that this rank sends to them */
    SQ_N_TRAFFIC
};

/* The links of a machine that a dry communicator stands for: seconds that a collective takes there. */
struct sq_dry_links {
    double (*seconds)(const struct sq_dry_links *links, enum sq_traffic_kind kind, double bytes);
};

/* Collectives that a communicator, and all made from it, has taken part in; none with one rank. */
struct sq_traffic {
    int64_t calls[SQ_N_TRAFFIC], bytes[SQ_N_TRAFFIC];
    /* nothing is sent: there is no MPI behind the communicator, and buffers stay as they are. Sums and maxima are then
     * this rank's own */
    bool is_dry;
    const struct sq_dry_links *links; /* of a dry one; NULL: they take no time */
    double seconds_beside;            /* of a dry one: so much of what these take there goes by beside the work */
};

struct sq_comm {
    int rank, size;
    intptr_t handle;               /* the MPI communicator as MPI_Comm_c2f gives it: no MPI type above this folder */
    struct sq_comm_device *device; /* owned by whoever made it (cuda/nccl.h); NULL: none */
    intptr_t hints;                /* for files opened through it (file_hints.h), as MPI_Info_c2f gives them; 0: none */
    struct sq_traffic *traffic;    /* counted here; the caller's, NULL: nowhere */
};

/* Counts a collective of this communicator; returns whether it is dry. Local. */
bool sq_comm_count(const struct sq_comm *comm, enum sq_traffic_kind kind, size_t bytes);

/* Whether nothing is sent. Local. */
static inline bool sq_comm_is_dry(const struct sq_comm *comm)
{
    return comm->traffic && comm->traffic->is_dry;
}

/* Starts MPI and gives the world; a program started without mpirun is one rank. Also sets the rank of the log. */
enum sq_status sq_comm_init(int *argc, char ***argv, struct sq_comm *world_p) SQ_MUST_CHECK;

/* Ends MPI; Collective when every rank is healthy. */
void sq_comm_finalize(void);

/* Ends the whole job at once with this exit code (an error that other ranks cannot be told of). Local. */
_Noreturn void sq_comm_abort(int exit_code);

/* Ranks with the same color form a communicator each, in the order of their rank. Freed with sq_comm_free(). */
enum sq_status sq_comm_split(const struct sq_comm *comm, int color, struct sq_comm *part_p) SQ_MUST_CHECK;
void sq_comm_free(struct sq_comm *comm);

/* The ranks of comm that run on this node, in the order of their rank; and how many they are. Freed with
 * sq_comm_free(). */
enum sq_status sq_comm_split_node(const struct sq_comm *comm, struct sq_comm *node_p) SQ_MUST_CHECK;
enum sq_status sq_comm_ranks_on_node(const struct sq_comm *comm, int *count_p) SQ_MUST_CHECK;

/* From now on the ranks of each node show each other that they run, in memory that they share, so that base/watch.h can
 * name those that do not. Where there can be no such memory nothing is shown. */
enum sq_status sq_comm_show_signs(const struct sq_comm *comm) SQ_MUST_CHECK;

/* The worst status over ranks. Every stage ends in it, so that one failed rank ends the job with one clear message (the
 * one that it printed) and no hang. Use: status = sq_comm_agree(comm, status). */
enum sq_status sq_comm_agree(const struct sq_comm *comm, enum sq_status mine);

/* A step that every rank takes alike, rank 0 before the others: what is wrong for all of them is said once, as they do
 * not begin when rank 0 has failed. Returns the worst status over ranks. With one rank MPI need not be there. */
typedef enum sq_status sq_rank_fn(void *context);
enum sq_status sq_comm_first_rank_first(const struct sq_comm *comm, sq_rank_fn *fn, void *context) SQ_MUST_CHECK;

/* Whether `mine` is true on any rank, and whether this is the lowest such rank, which speaks for all. */
enum sq_status sq_comm_lowest(const struct sq_comm *comm, bool mine, bool *any_p, bool *is_lowest_p) SQ_MUST_CHECK;

/* Whether every rank has the text of rank 0. Where not: SQ_ERR_USAGE on all ranks, and *first_p is that text on the
 * lowest rank with another one, which is to say what differs; released with sq_free(). NULL otherwise. */
enum sq_status sq_comm_compare(const struct sq_comm *comm, const char *mine, char **first_p) SQ_MUST_CHECK;

enum sq_status sq_comm_barrier(const struct sq_comm *comm) SQ_MUST_CHECK;

/* Copies bytes from root's buffer into every rank's; any size (sent in pieces below 2 GiB). */
enum sq_status sq_comm_broadcast(const struct sq_comm *comm, int root, void *buffer, size_t bytes) SQ_MUST_CHECK;

/* A broadcast that goes on beside the work. */
struct sq_comm_started {
    intptr_t request; /* as MPI_Request_c2f gives it */
    size_t bytes;
    bool is_open; /* to be waited for */
};

/* Starts one of less than 2 GiB; nobody touches the buffer until finish of the same one. Between the two there may be
 * other collectives. finish is Local, but ends when the root has started; nothing happens there for one that was never
 * started ({0}). */
enum sq_status sq_comm_start_broadcast(const struct sq_comm *comm, int root, void *buffer, size_t bytes,
                                       struct sq_comm_started *started_p) SQ_MUST_CHECK;
enum sq_status sq_comm_finish_broadcast(struct sq_comm_started *started) SQ_MUST_CHECK;

/* Rank r contributes bytes[r] bytes at buffer + offsets[r]; afterwards every rank has all of them. In place. */
enum sq_status sq_comm_all_gather(const struct sq_comm *comm, void *buffer, const size_t *offsets,
                                  const size_t *bytes) SQ_MUST_CHECK;

/* Sends to rank + distance and receives from rank - distance (modulo the number of ranks) at once; what one sends is as
 * long as what the other receives. */
enum sq_status sq_comm_shift(const struct sq_comm *comm, int distance, const void *send, size_t send_bytes,
                             void *receive, size_t receive_bytes) SQ_MUST_CHECK;

/* Element-wise sum or maximum over ranks, in place. int64 sums are exact and may not depend on the order. */
enum sq_status sq_comm_sum_i64(const struct sq_comm *comm, int64_t *values, int64_t count) SQ_MUST_CHECK;
enum sq_status sq_comm_max_i64(const struct sq_comm *comm, int64_t *values, int64_t count) SQ_MUST_CHECK;
enum sq_status sq_comm_max_f64(const struct sq_comm *comm, double *values, int64_t count) SQ_MUST_CHECK;

/* As sq_comm_sum_i64, but only root gets the sums; elsewhere values is left undefined. */
enum sq_status sq_comm_reduce_sum_i64(const struct sq_comm *comm, int root, int64_t *values,
                                      int64_t count) SQ_MUST_CHECK;

#endif
