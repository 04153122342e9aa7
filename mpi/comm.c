#define _POSIX_C_SOURCE 200809L
#include "mpi/comm.h"

#include <assert.h>
#include <limits.h>
#include <mpi.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "base/trace.h"
#include "base/watch.h"

#define PIECE_BYTES ((size_t)1 << 28) /* MPI counts are int: larger buffers go in pieces */

static MPI_Comm comm_handle(const struct sq_comm *comm)
{
    return MPI_Comm_f2c((MPI_Fint)comm->handle);
}

/* Turns an MPI code into a status; the message carries MPI's own words. */
static enum sq_status checked(int code, const char *what)
{
    if (code == MPI_SUCCESS) return SQ_OK;
    char words[MPI_MAX_ERROR_STRING] = "";
    int length = 0;
    MPI_Error_string(code, words, &length);
    sq_error("%s: %s", what, words);
    return SQ_ERR_LIBRARY;
}

/* The end of a collective that began at `since`. */
static enum sq_status traced(const char *name, double since, size_t bytes, enum sq_status status)
{
    sq_trace_add(SQ_TRACE_COLLECTIVE, name, since, (int64_t)bytes);
    return status;
}

/* A call that ends when other ranks take part. One that fails leaves nothing by which ranks could agree on a status, so
 * the whole job ends with it. */
#define COLLECTIVE(call, what) ended((sq_watch_begin(what), (call)), (what))

static enum sq_status ended(int code, const char *what)
{
    sq_watch_end();
    if (checked(code, what) != SQ_OK) sq_comm_abort(SQ_EXIT_LOST);
    return SQ_OK;
}

bool sq_comm_count(const struct sq_comm *comm, enum sq_traffic_kind kind, size_t bytes)
{
    if (!comm->traffic) return false;
    comm->traffic->calls[kind]++;
    comm->traffic->bytes[kind] += (int64_t)bytes;
    return comm->traffic->is_dry;
}

static enum sq_status describe(MPI_Comm handle, struct sq_traffic *traffic, struct sq_comm *comm_p)
{
    struct sq_comm comm = {.handle = MPI_Comm_c2f(handle), .traffic = traffic};
    SQ_TRY(checked(MPI_Comm_rank(handle, &comm.rank), "MPI_Comm_rank"));
    SQ_TRY(checked(MPI_Comm_size(handle, &comm.size), "MPI_Comm_size"));
    SQ_TRY(checked(MPI_Comm_set_errhandler(handle, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler"));
    *comm_p = comm;
    return SQ_OK;
}

/* Whether a launcher (mpirun, srun with PMIx or PMI) started this process as one of its ranks. */
static bool is_launched(void)
{
    static const char *const marks[] = {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "PMI_FD"};
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++)
        if (getenv(marks[i])) return true;
    return false;
}

/* What this program wants of Open MPI; what the user has set stays. */
static void set_defaults(void)
{
    /* Open MPI's own MPI-IO keeps files for shared pointers, which nobody uses, beside the store, and a killed job
     * leaves them there; ROMIO has none */
    setenv("OMPI_MCA_io", "^ompio", 0);
    if (is_launched()) return;
    /* a rank alone needs neither a daemon nor a network; looking for them takes 0.3 s */
    setenv("OMPI_MCA_ess_singleton_isolated", "1", 0);
    /* all ranks alone on a host have one folder, and one that ends removes it from under one that starts */
    setenv("OMPI_MCA_orte_create_session_dirs", "0", 0);
    setenv("OMPI_MCA_pml", "ob1", 0);
    setenv("OMPI_MCA_btl", "self", 0);
}

enum sq_status sq_comm_init(int *argc, char ***argv, struct sq_comm *world_p)
{
    int provided = 0;
    set_defaults();
    SQ_TRY(checked(MPI_Init_thread(argc, argv, MPI_THREAD_FUNNELED, &provided), "MPI_Init_thread"));
    SQ_TRY(describe(MPI_COMM_WORLD, NULL, world_p));
    sq_log_set_rank(world_p->rank, world_p->size);
    return SQ_OK;
}

void sq_comm_finalize(void)
{
    sq_watch_begin("MPI_Finalize");
    MPI_Finalize();
    sq_watch_end();
}

void sq_comm_abort(int exit_code)
{
    MPI_Abort(MPI_COMM_WORLD, exit_code);
    abort(); /* MPI_Abort does not return */
}

enum sq_status sq_comm_split(const struct sq_comm *comm, int color, struct sq_comm *part_p)
{
    MPI_Comm part;
    SQ_TRY(COLLECTIVE(MPI_Comm_split(comm_handle(comm), color, comm->rank, &part), "MPI_Comm_split"));
    return describe(part, comm->traffic, part_p);
}

void sq_comm_free(struct sq_comm *comm)
{
    MPI_Comm handle = comm_handle(comm);
    MPI_Comm_free(&handle);
}

enum sq_status sq_comm_split_node(const struct sq_comm *comm, struct sq_comm *node_p)
{
    MPI_Comm node;
    SQ_TRY(COLLECTIVE(MPI_Comm_split_type(comm_handle(comm), MPI_COMM_TYPE_SHARED, comm->rank, MPI_INFO_NULL, &node),
                      "MPI_Comm_split_type"));
    return describe(node, comm->traffic, node_p);
}

enum sq_status sq_comm_ranks_on_node(const struct sq_comm *comm, int *count_p)
{
    struct sq_comm node;
    *count_p = 1;
    if (comm->size == 1) return SQ_OK;
    SQ_TRY(sq_comm_split_node(comm, &node));
    *count_p = node.size;
    sq_comm_free(&node);
    return SQ_OK;
}

enum sq_status sq_comm_agree(const struct sq_comm *comm, enum sq_status mine)
{
    int worst = (int)mine;
    if (comm->size == 1 || sq_comm_count(comm, SQ_TRAFFIC_AGREE, sizeof worst)) return mine;
    double since = sq_trace_now();
    enum sq_status status = COLLECTIVE(MPI_Allreduce(MPI_IN_PLACE, &worst, 1, MPI_INT, MPI_MAX, comm_handle(comm)),
                                       "agreement of the ranks on a status");
    status = traced("agree", since, sizeof worst, status);
    return status == SQ_OK ? (enum sq_status)worst : status;
}

enum sq_status sq_comm_first_rank_first(const struct sq_comm *comm, sq_rank_fn *fn, void *context)
{
    bool is_first = comm->rank == 0;
    if (comm->size == 1) return fn(context);
    SQ_TRY(sq_comm_agree(comm, is_first ? fn(context) : SQ_OK));
    return sq_comm_agree(comm, is_first ? SQ_OK : fn(context));
}

enum sq_status sq_comm_barrier(const struct sq_comm *comm)
{
    double since = sq_trace_now();
    return traced("barrier", since, 0, COLLECTIVE(MPI_Barrier(comm_handle(comm)), "MPI_Barrier"));
}

/* Text of rank 0, on every rank. */
static enum sq_status text_of_first(const struct sq_comm *comm, const char *mine, char **first_p)
{
    int64_t bytes = comm->rank == 0 ? (int64_t)strlen(mine) + 1 : 0;
    void *memory = NULL;
    SQ_TRY(sq_comm_max_i64(comm, &bytes, 1));
    enum sq_status status = sq_comm_agree(comm, sq_alloc("a text of rank 0", bytes, 1, &memory));
    if (status == SQ_OK && comm->rank == 0) memcpy(memory, mine, (size_t)bytes);
    if (status == SQ_OK) status = sq_comm_broadcast(comm, 0, memory, (size_t)bytes);
    *first_p = memory;
    return status;
}

enum sq_status sq_comm_lowest(const struct sq_comm *comm, bool mine, bool *any_p, bool *is_lowest_p)
{
    int64_t place = mine ? comm->size - comm->rank : 0, largest = place; /* that of the lowest rank */
    SQ_TRY(sq_comm_max_i64(comm, &largest, 1));
    *any_p = largest > 0;
    *is_lowest_p = mine && place == largest;
    return SQ_OK;
}

enum sq_status sq_comm_compare(const struct sq_comm *comm, const char *mine, char **first_p)
{
    char *first = NULL;
    bool any = false, is_lowest = false;
    *first_p = NULL;
    if (comm->size == 1) return SQ_OK;
    enum sq_status status = text_of_first(comm, mine, &first);
    if (status == SQ_OK) status = sq_comm_lowest(comm, strcmp(mine, first) != 0, &any, &is_lowest);
    if (is_lowest)
        *first_p = first;
    else
        sq_free(first);
    return status == SQ_OK && any ? SQ_ERR_USAGE : status;
}

static enum sq_status broadcast(const struct sq_comm *comm, int root, void *buffer, size_t bytes)
{
    for (size_t done = 0; done < bytes; done += PIECE_BYTES) {
        size_t piece = bytes - done < PIECE_BYTES ? bytes - done : PIECE_BYTES;
        SQ_TRY(
            COLLECTIVE(MPI_Bcast((char *)buffer + done, (int)piece, MPI_BYTE, root, comm_handle(comm)), "MPI_Bcast"));
    }
    return SQ_OK;
}

enum sq_status sq_comm_broadcast(const struct sq_comm *comm, int root, void *buffer, size_t bytes)
{
    if (comm->size == 1 || sq_comm_count(comm, SQ_TRAFFIC_BROADCAST, bytes)) return SQ_OK;
    double since = sq_trace_now();
    return traced("broadcast", since, bytes, broadcast(comm, root, buffer, bytes));
}

enum sq_status sq_comm_start_broadcast(const struct sq_comm *comm, int root, void *buffer, size_t bytes,
                                       struct sq_comm_started *started_p)
{
    MPI_Request request;
    *started_p = (struct sq_comm_started){.bytes = bytes};
    if (comm->size == 1 || sq_comm_count(comm, SQ_TRAFFIC_BROADCAST, bytes)) return SQ_OK;
    assert(bytes <= INT_MAX);
    SQ_TRY(COLLECTIVE(MPI_Ibcast(buffer, (int)bytes, MPI_BYTE, root, comm_handle(comm), &request), "MPI_Ibcast"));
    started_p->request = MPI_Request_c2f(request);
    started_p->is_open = true;
    return SQ_OK;
}

enum sq_status sq_comm_finish_broadcast(struct sq_comm_started *started)
{
    if (!started->is_open) return SQ_OK; /* there need be no MPI */
    MPI_Request request = MPI_Request_f2c((MPI_Fint)started->request);
    double since = sq_trace_now();
    started->is_open = false;
    return traced("broadcast", since, started->bytes,
                  COLLECTIVE(MPI_Wait(&request, MPI_STATUS_IGNORE), "MPI_Wait for a broadcast"));
}

static size_t sum_of_shares(const struct sq_comm *comm, const size_t *bytes)
{
    size_t sum = 0;
    for (int r = 0; r < comm->size; r++)
        sum += bytes[r];
    return sum;
}

static size_t largest_share(const struct sq_comm *comm, const size_t *bytes)
{
    size_t largest = 0;
    for (int r = 0; r < comm->size; r++)
        if (bytes[r] > largest) largest = bytes[r];
    return largest;
}

/* counts: room for [2 ranks]. */
static enum sq_status all_gather(const struct sq_comm *comm, void *buffer, const size_t *offsets, const size_t *bytes,
                                 int *counts)
{
    size_t largest = largest_share(comm, bytes);
    int *displacements = counts + comm->size;
    size_t piece = (PIECE_BYTES << 1) / (size_t)comm->size; /* one call moves at most 2^29 bytes in all */
    enum sq_status status = SQ_OK;
    for (size_t done = 0; done < largest && status == SQ_OK; done += piece) {
        /* each rank's piece lies somewhere in the buffer; displacements are int, so far ones are sent one by one */
        size_t end = 0;
        for (int r = 0; r < comm->size; r++) {
            size_t left = bytes[r] > done ? bytes[r] - done : 0;
            counts[r] = (int)(left < piece ? left : piece);
            if (counts[r] && offsets[r] + done + (size_t)counts[r] > end) end = offsets[r] + done + (size_t)counts[r];
        }
        if (end <= (size_t)1 << 30) {
            for (int r = 0; r < comm->size; r++)
                displacements[r] = counts[r] ? (int)(offsets[r] + done) : 0;
            status = COLLECTIVE(MPI_Allgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, buffer, counts, displacements,
                                               MPI_BYTE, comm_handle(comm)),
                                "MPI_Allgatherv");
            continue;
        }
        for (int r = 0; r < comm->size && status == SQ_OK; r++)
            if (counts[r]) status = broadcast(comm, r, (char *)buffer + offsets[r] + done, (size_t)counts[r]);
    }
    return status;
}

enum sq_status sq_comm_all_gather(const struct sq_comm *comm, void *buffer, const size_t *offsets, const size_t *bytes)
{
    void *counts = NULL;
    if (comm->size == 1) return SQ_OK;
    enum sq_status status = sq_alloc("gather counts", 2 * (int64_t)comm->size, sizeof(int), &counts);
    status = sq_comm_agree(comm, status);
    if (status == SQ_OK && !sq_comm_count(comm, SQ_TRAFFIC_GATHER, sum_of_shares(comm, bytes))) {
        double since = sq_trace_now();
        status = traced("all_gather", since, bytes[comm->rank], all_gather(comm, buffer, offsets, bytes, counts));
    }
    sq_free(counts);
    return status;
}

static int piece_at(size_t done, size_t bytes)
{
    size_t left = bytes > done ? bytes - done : 0;
    return (int)(left < PIECE_BYTES ? left : PIECE_BYTES);
}

static enum sq_status shift(const struct sq_comm *comm, int distance, const void *send, size_t send_bytes,
                            void *receive, size_t receive_bytes)
{
    int to = (comm->rank + distance) % comm->size, from = (comm->rank + comm->size - distance) % comm->size;
    size_t longest = send_bytes > receive_bytes ? send_bytes : receive_bytes;
    for (size_t done = 0; done < longest; done += PIECE_BYTES) {
        int n_send = piece_at(done, send_bytes), n_receive = piece_at(done, receive_bytes);
        SQ_TRY(COLLECTIVE(MPI_Sendrecv((const char *)send + (n_send ? done : 0), n_send, MPI_BYTE,
                                       n_send ? to : MPI_PROC_NULL, 0, (char *)receive + (n_receive ? done : 0),
                                       n_receive, MPI_BYTE, n_receive ? from : MPI_PROC_NULL, 0, comm_handle(comm),
                                       MPI_STATUS_IGNORE),
                          "MPI_Sendrecv"));
    }
    return SQ_OK;
}

enum sq_status sq_comm_shift(const struct sq_comm *comm, int distance, const void *send, size_t send_bytes,
                             void *receive, size_t receive_bytes)
{
    if (sq_comm_count(comm, SQ_TRAFFIC_SHIFT, send_bytes)) return SQ_OK;
    double since = sq_trace_now();
    return traced("shift", since, send_bytes, shift(comm, distance, send, send_bytes, receive, receive_bytes));
}

static enum sq_status reduce_pieces(const struct sq_comm *comm, void *values, int64_t count, MPI_Datatype type,
                                    MPI_Op op)
{
    const int64_t piece = (int64_t)(PIECE_BYTES / 8);
    for (int64_t done = 0; done < count; done += piece) {
        int n = (int)(count - done < piece ? count - done : piece);
        SQ_TRY(COLLECTIVE(MPI_Allreduce(MPI_IN_PLACE, (char *)values + 8 * done, n, type, op, comm_handle(comm)),
                          "MPI_Allreduce"));
    }
    return SQ_OK;
}

/* Longer ones count as sums, whatever is done to them. */
#define FEW_VALUES 16

static enum sq_status all_reduce(const struct sq_comm *comm, void *values, int64_t count, MPI_Datatype type, MPI_Op op)
{
    enum sq_traffic_kind kind = count > FEW_VALUES ? SQ_TRAFFIC_SUM : SQ_TRAFFIC_AGREE;
    if (comm->size == 1 || sq_comm_count(comm, kind, 8 * (size_t)count)) return SQ_OK;
    double since = sq_trace_now();
    return traced("all_reduce", since, (size_t)count * 8, reduce_pieces(comm, values, count, type, op));
}

enum sq_status sq_comm_sum_i64(const struct sq_comm *comm, int64_t *values, int64_t count)
{
    return all_reduce(comm, values, count, MPI_INT64_T, MPI_SUM);
}

enum sq_status sq_comm_max_i64(const struct sq_comm *comm, int64_t *values, int64_t count)
{
    return all_reduce(comm, values, count, MPI_INT64_T, MPI_MAX);
}

enum sq_status sq_comm_max_f64(const struct sq_comm *comm, double *values, int64_t count)
{
    return all_reduce(comm, values, count, MPI_DOUBLE, MPI_MAX);
}

static enum sq_status reduce_to(const struct sq_comm *comm, int root, int64_t *values, int64_t count)
{
    const int64_t piece = (int64_t)(PIECE_BYTES / 8);
    for (int64_t done = 0; done < count; done += piece) {
        int n = (int)(count - done < piece ? count - done : piece);
        const void *source = comm->rank == root ? MPI_IN_PLACE : (void *)(values + done);
        SQ_TRY(COLLECTIVE(MPI_Reduce(source, values + done, n, MPI_INT64_T, MPI_SUM, root, comm_handle(comm)),
                          "MPI_Reduce"));
    }
    return SQ_OK;
}

enum sq_status sq_comm_reduce_sum_i64(const struct sq_comm *comm, int root, int64_t *values, int64_t count)
{
    if (comm->size == 1 || sq_comm_count(comm, SQ_TRAFFIC_REDUCE, 8 * (size_t)count)) return SQ_OK;
    double since = sq_trace_now();
    return traced("reduce", since, (size_t)count * 8, reduce_to(comm, root, values, count));
}
