/* Collectives on buffers in a backend's memory. Where that is the host's they are those of comm.h; a device's go over
 * the communicator's own collectives for device memory (NCCL: cuda/nccl.h) where it has them, else in pieces through
 * the host. Every function is Collective, unless it says otherwise. */
#ifndef SQ_MPI_COMM_MEMORY_H
#define SQ_MPI_COMM_MEMORY_H

#include "mpi/comm.h"
#include "tensor/backend.h"

#define SQ_COMM_GATHERS 2 /* gathers beside the work that may be on their way at once */
#define SQ_COMM_SUMS 2    /* likewise sums */

/* Collectives of one communicator on the memory of one device per rank; counts and offsets as in comm.h. A rank on
 * which one fails ends the job where the others cannot be told of it. */
struct sq_comm_device {
    enum sq_status (*start_sum_i64)(struct sq_comm_device *device, int lane, int root, int64_t *values, int64_t count);
    enum sq_status (*finish_sum)(struct sq_comm_device *device, int lane);
    enum sq_status (*broadcast)(struct sq_comm_device *device, int root, void *buffer, size_t bytes);
    enum sq_status (*start_broadcast)(struct sq_comm_device *device, int root, void *buffer, size_t bytes);
    enum sq_status (*finish_broadcast)(struct sq_comm_device *device);
    enum sq_status (*all_gather)(struct sq_comm_device *device, void *buffer, const size_t *offsets,
                                 const size_t *bytes);
    enum sq_status (*start_gather)(struct sq_comm_device *device, int lane, void *buffer, const size_t *offsets,
                                   const size_t *bytes);
    enum sq_status (*finish_gather)(struct sq_comm_device *device, int lane);
    /* what goes to other ranks; this rank's own share stays where it is */
    enum sq_status (*exchange)(struct sq_comm_device *device, const void *send, const size_t *send_bytes, void *receive,
                               const size_t *receive_bytes);
    /* Makes part->device for some of the ranks, each of which calls this. */
    enum sq_status (*join)(struct sq_comm_device *device, struct sq_comm *part);
    void (*destroy)(struct sq_comm_device *device);
};

/* Gives a part of comm's ranks (from sq_comm_split) collectives on device memory where comm has them, until leave.
 * Collective on part; counted nowhere, as the split is not. */
enum sq_status sq_comm_memory_join(const struct sq_comm *comm, struct sq_comm *part) SQ_MUST_CHECK;
void sq_comm_memory_leave(struct sq_comm *part);

enum sq_status sq_comm_memory_broadcast(const struct sq_comm *comm, struct sq_backend *backend, int root, void *buffer,
                                        size_t bytes) SQ_MUST_CHECK;
enum sq_status sq_comm_memory_all_gather(const struct sq_comm *comm, struct sq_backend *backend, void *buffer,
                                         const size_t *offsets, const size_t *bytes) SQ_MUST_CHECK;

/* A sum on all ranks (root -1), or on root alone (elsewhere values are left undefined), that goes on beside the work
 * where is_beside says so (Local); elsewhere start does all of it. Nobody touches values until finish of the same lane,
 * in [0, SQ_COMM_SUMS), which waits for what was started there, if anything was. Between the two there may be other
 * collectives. finish is Local, but ends when all ranks have started. */
bool sq_comm_memory_sum_is_beside(const struct sq_comm *comm, const struct sq_backend *backend);
enum sq_status sq_comm_memory_start_sum_i64(const struct sq_comm *comm, struct sq_backend *backend, int lane, int root,
                                            int64_t *values, int64_t count) SQ_MUST_CHECK;
enum sq_status sq_comm_memory_finish_sum(const struct sq_comm *comm, int lane) SQ_MUST_CHECK;

/* One on all ranks that is waited for; takes lane 0. */
enum sq_status sq_comm_memory_sum_i64(const struct sq_comm *comm, struct sq_backend *backend, int64_t *values,
                                      int64_t count) SQ_MUST_CHECK;

/* A gather that goes on beside the work; nobody touches the buffer until finish of the same lane, in [0,
 * SQ_COMM_GATHERS), which waits for all that was started there. Between the two there may be other collectives. Where
 * the communicator has none for device memory, start does all of it. finish is Local, but ends when all ranks have
 * started. */
enum sq_status sq_comm_memory_start_gather(const struct sq_comm *comm, struct sq_backend *backend, int lane,
                                           void *buffer, const size_t *offsets, const size_t *bytes) SQ_MUST_CHECK;
enum sq_status sq_comm_memory_finish_gather(const struct sq_comm *comm, int lane) SQ_MUST_CHECK;

/* A broadcast that goes on beside the work, as sq_comm_start_broadcast() has it; one at a time. Where the communicator
 * has none for device memory, start does all of it. */
enum sq_status sq_comm_memory_start_broadcast(const struct sq_comm *comm, struct sq_backend *backend, int root,
                                              void *buffer, size_t bytes,
                                              struct sq_comm_started *started_p) SQ_MUST_CHECK;
enum sq_status sq_comm_memory_finish_broadcast(const struct sq_comm *comm,
                                               struct sq_comm_started *started) SQ_MUST_CHECK;

/* Every rank sends bytes of its own to every rank: to rank r the next send_bytes[r] bytes at `send`, and gets the next
 * receive_bytes[r] bytes at `receive` from rank r. What stays on a rank is copied. */
enum sq_status sq_comm_memory_exchange(const struct sq_comm *comm, struct sq_backend *backend, const void *send,
                                       const size_t *send_bytes, void *receive,
                                       const size_t *receive_bytes) SQ_MUST_CHECK;

#endif
