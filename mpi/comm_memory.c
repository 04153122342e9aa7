#include "mpi/comm_memory.h"

#define PIECE_BYTES ((size_t)32 << 20) /* that stand in host memory at a time */

/* --- through the host --------------------------------------------------------------------------------------------- */

/* One collective on a piece in host memory; root -1: all ranks alike. */
typedef enum sq_status piece_fn(const struct sq_comm *comm, int root, void *piece, size_t bytes);

static enum sq_status sum_piece(const struct sq_comm *comm, int root, void *piece, size_t bytes)
{
    int64_t count = (int64_t)(bytes / sizeof(int64_t));
    return root < 0 ? sq_comm_sum_i64(comm, piece, count) : sq_comm_reduce_sum_i64(comm, root, piece, count);
}

static enum sq_status broadcast_piece(const struct sq_comm *comm, int root, void *piece, size_t bytes)
{
    return sq_comm_broadcast(comm, root, piece, bytes);
}

/* Which ranks a collective reads from, and writes to. */
struct route {
    piece_fn *run;
    int root;
    bool reads, writes; /* this rank's buffer */
};

/* A rank whose copies fail takes part to the end: the others wait for it in every piece. */
static enum sq_status send_pieces(const struct sq_comm *comm, struct sq_backend *backend, const struct route *route,
                                  char *memory, size_t bytes, void *host)
{
    enum sq_status copied = SQ_OK;
    for (size_t done = 0; done < bytes; done += PIECE_BYTES) {
        size_t piece = bytes - done < PIECE_BYTES ? bytes - done : PIECE_BYTES;
        if (route->reads && copied == SQ_OK) copied = backend->ops->download(backend, memory + done, piece, host);
        SQ_TRY(route->run(comm, route->root, host, piece));
        if (route->writes && copied == SQ_OK) copied = backend->ops->upload(backend, host, piece, memory + done);
    }
    return copied;
}

static enum sq_status through_host(const struct sq_comm *comm, struct sq_backend *backend, const struct route *route,
                                   void *memory, size_t bytes)
{
    void *host = NULL;
    size_t room = bytes < PIECE_BYTES ? bytes : PIECE_BYTES;
    enum sq_status status = backend->ops->alloc_host(backend, "a piece on its way to other ranks", room, &host);
    status = sq_comm_agree(comm, status);
    if (status == SQ_OK) status = sq_comm_agree(comm, send_pieces(comm, backend, route, memory, bytes, host));
    backend->ops->free_host(backend, host);
    return status;
}

/* Whether there are links of the devices' own; those of a dry communicator are. */
static bool has_links(const struct sq_comm *comm)
{
    return comm->device || sq_comm_is_dry(comm);
}

/* Counts what goes over these; what goes through the host counts there. */
static bool is_counted_dry(const struct sq_comm *comm, enum sq_traffic_kind kind, size_t bytes)
{
    return has_links(comm) && sq_comm_count(comm, kind, bytes);
}

/* --- parts -------------------------------------------------------------------------------------------------------- */

enum sq_status sq_comm_memory_join(const struct sq_comm *comm, struct sq_comm *part)
{
    if (!comm->device || part->size == 1) return SQ_OK;
    struct sq_comm uncounted = *part;
    uncounted.traffic = NULL;
    SQ_TRY(comm->device->join(comm->device, &uncounted));
    part->device = uncounted.device;
    return SQ_OK;
}

void sq_comm_memory_leave(struct sq_comm *part)
{
    if (part->device) part->device->destroy(part->device);
    part->device = NULL;
}

/* --- by kind of memory -------------------------------------------------------------------------------------------- */

bool sq_comm_memory_sum_is_beside(const struct sq_comm *comm, const struct sq_backend *backend)
{
    return comm->size > 1 && has_links(comm) && !backend->is_host;
}

enum sq_status sq_comm_memory_start_sum_i64(const struct sq_comm *comm, struct sq_backend *backend, int lane, int root,
                                            int64_t *values, int64_t count)
{
    const size_t bytes = (size_t)count * sizeof *values;
    if (comm->size == 1) return SQ_OK;
    if (backend->is_host) return sum_piece(comm, root, values, bytes);
    if (is_counted_dry(comm, root < 0 ? SQ_TRAFFIC_SUM : SQ_TRAFFIC_REDUCE, bytes)) return SQ_OK;
    if (comm->device) return comm->device->start_sum_i64(comm->device, lane, root, values, count);
    const struct route route = {
        .run = sum_piece, .root = root, .reads = true, .writes = root < 0 || comm->rank == root};
    return through_host(comm, backend, &route, values, bytes);
}

enum sq_status sq_comm_memory_finish_sum(const struct sq_comm *comm, int lane)
{
    return comm->device ? comm->device->finish_sum(comm->device, lane) : SQ_OK;
}

enum sq_status sq_comm_memory_sum_i64(const struct sq_comm *comm, struct sq_backend *backend, int64_t *values,
                                      int64_t count)
{
    SQ_TRY(sq_comm_memory_start_sum_i64(comm, backend, 0, -1, values, count));
    return sq_comm_memory_finish_sum(comm, 0);
}

/* What was counted already. */
static enum sq_status broadcast(const struct sq_comm *comm, struct sq_backend *backend, int root, void *buffer,
                                size_t bytes)
{
    bool is_root = comm->rank == root;
    const struct route route = {.run = broadcast_piece, .root = root, .reads = is_root, .writes = !is_root};
    struct sq_comm host = *comm;
    host.traffic = NULL;
    if (backend->is_host) return sq_comm_broadcast(&host, root, buffer, bytes);
    return through_host(&host, backend, &route, buffer, bytes);
}

enum sq_status sq_comm_memory_broadcast(const struct sq_comm *comm, struct sq_backend *backend, int root, void *buffer,
                                        size_t bytes)
{
    if (comm->size == 1 || sq_comm_count(comm, SQ_TRAFFIC_MEMORY, bytes)) return SQ_OK;
    if (comm->device) return comm->device->broadcast(comm->device, root, buffer, bytes);
    return broadcast(comm, backend, root, buffer, bytes);
}

enum sq_status sq_comm_memory_start_broadcast(const struct sq_comm *comm, struct sq_backend *backend, int root,
                                              void *buffer, size_t bytes, struct sq_comm_started *started_p)
{
    struct sq_comm host = *comm;
    host.traffic = NULL;
    *started_p = (struct sq_comm_started){.bytes = bytes};
    if (comm->size == 1 || sq_comm_count(comm, SQ_TRAFFIC_MEMORY, bytes)) return SQ_OK;
    if (comm->device) {
        SQ_TRY(comm->device->start_broadcast(comm->device, root, buffer, bytes));
        started_p->is_open = true;
        return SQ_OK;
    }
    if (backend->is_host) return sq_comm_start_broadcast(&host, root, buffer, bytes, started_p);
    return broadcast(comm, backend, root, buffer, bytes);
}

enum sq_status sq_comm_memory_finish_broadcast(const struct sq_comm *comm, struct sq_comm_started *started)
{
    if (!comm->device) return sq_comm_finish_broadcast(started);
    if (!started->is_open) return SQ_OK;
    started->is_open = false;
    return comm->device->finish_broadcast(comm->device);
}

/* lane -1: one that is waited for. */
static enum sq_status gather(const struct sq_comm *comm, struct sq_backend *backend, int lane, void *buffer,
                             const size_t *offsets, const size_t *bytes)
{
    struct sq_comm_device *device = comm->device;
    size_t all = 0;
    if (comm->size == 1) return SQ_OK;
    if (backend->is_host) return sq_comm_all_gather(comm, buffer, offsets, bytes);
    for (int rank = 0; comm->traffic && rank < comm->size; rank++)
        all += bytes[rank];
    if (is_counted_dry(comm, SQ_TRAFFIC_WEIGHTS, all)) return SQ_OK;
    if (device && lane >= 0) return device->start_gather(device, lane, buffer, offsets, bytes);
    if (device) return device->all_gather(device, buffer, offsets, bytes);
    for (int rank = 0; rank < comm->size; rank++)
        SQ_TRY(sq_comm_memory_broadcast(comm, backend, rank, (char *)buffer + offsets[rank], bytes[rank]));
    return SQ_OK;
}

enum sq_status sq_comm_memory_all_gather(const struct sq_comm *comm, struct sq_backend *backend, void *buffer,
                                         const size_t *offsets, const size_t *bytes)
{
    return gather(comm, backend, -1, buffer, offsets, bytes);
}

enum sq_status sq_comm_memory_start_gather(const struct sq_comm *comm, struct sq_backend *backend, int lane,
                                           void *buffer, const size_t *offsets, const size_t *bytes)
{
    return gather(comm, backend, lane, buffer, offsets, bytes);
}

enum sq_status sq_comm_memory_finish_gather(const struct sq_comm *comm, int lane)
{
    return comm->device ? comm->device->finish_gather(comm->device, lane) : SQ_OK;
}

/* --- exchange ----------------------------------------------------------------------------------------------------- */

static size_t sum_before(const size_t *bytes, int rank)
{
    size_t sum = 0;
    for (int r = 0; r < rank; r++)
        sum += bytes[r];
    return sum;
}

static size_t piece_at(size_t done, size_t bytes)
{
    size_t left = bytes > done ? bytes - done : 0;
    return left < PIECE_BYTES ? left : PIECE_BYTES;
}

/* Host memory for a piece that leaves and one that arrives. */
struct host_pieces {
    char *out, *in;
};

/* The largest part that leaves or arrives here, or a piece of it. */
static size_t most_at_once(const struct sq_comm *comm, const size_t *send_bytes, const size_t *receive_bytes)
{
    size_t most = 0;
    for (int rank = 0; rank < comm->size; rank++) {
        if (rank == comm->rank) continue;
        if (send_bytes[rank] > most) most = send_bytes[rank];
        if (receive_bytes[rank] > most) most = receive_bytes[rank];
    }
    return piece_at(0, most);
}

static enum sq_status take_pieces(struct sq_backend *backend, size_t room, struct host_pieces *host_p)
{
    void *memory = NULL;
    if (room == 0) return SQ_OK;
    SQ_TRY(backend->ops->alloc_host(backend, "rows on their way to other ranks", 2 * room, &memory));
    *host_p = (struct host_pieces){memory, (char *)memory + room};
    return SQ_OK;
}

/* sq_comm_shift() of device memory. A rank whose copies fail takes part to the end. */
static enum sq_status shift_by_host(const struct sq_comm *comm, struct sq_backend *backend, int distance,
                                    const char *send, size_t send_bytes, char *receive, size_t receive_bytes,
                                    const struct host_pieces *host)
{
    enum sq_status copied = SQ_OK;
    for (size_t done = 0; done < send_bytes || done < receive_bytes; done += PIECE_BYTES) {
        size_t n_send = piece_at(done, send_bytes), n_receive = piece_at(done, receive_bytes);
        if (n_send && copied == SQ_OK) copied = backend->ops->download(backend, send + done, n_send, host->out);
        SQ_TRY(sq_comm_shift(comm, distance, host->out, n_send, host->in, n_receive));
        if (n_receive && copied == SQ_OK) copied = backend->ops->upload(backend, host->in, n_receive, receive + done);
    }
    return copied;
}

static enum sq_status shift_all(const struct sq_comm *comm, struct sq_backend *backend, const char *send,
                                const size_t *send_bytes, char *receive, const size_t *receive_bytes,
                                const struct host_pieces *host)
{
    enum sq_status worst = SQ_OK;
    int to = comm->rank, from = comm->rank;
    size_t to_offset = sum_before(send_bytes, to), from_offset = sum_before(receive_bytes, from);
    size_t end = sum_before(receive_bytes, comm->size);
    for (int distance = 1; distance < comm->size; distance++) {
        /* around the ranks, forth and back: to add all shares up for each of them would be ranks^2 steps */
        to_offset = to + 1 < comm->size ? to_offset + send_bytes[to] : 0;
        to = (to + 1) % comm->size;
        from_offset = from > 0 ? from_offset : end;
        from = (from + comm->size - 1) % comm->size;
        from_offset -= receive_bytes[from];
        const char *source = send + to_offset;
        char *target = receive + from_offset;
        enum sq_status status =
            backend->is_host
                ? sq_comm_shift(comm, distance, source, send_bytes[to], target, receive_bytes[from])
                : shift_by_host(comm, backend, distance, source, send_bytes[to], target, receive_bytes[from], host);
        if (status > worst) worst = status;
    }
    return worst;
}

static enum sq_status copy_own(const struct sq_comm *comm, struct sq_backend *backend, const char *send,
                               const size_t *send_bytes, char *receive, const size_t *receive_bytes)
{
    int own = comm->rank;
    if (send_bytes[own] == 0) return SQ_OK;
    return backend->ops->copy(backend, send + sum_before(send_bytes, own), send_bytes[own],
                              receive + sum_before(receive_bytes, own));
}

static enum sq_status exchange_devices(const struct sq_comm *comm, const void *send, const size_t *send_bytes,
                                       void *receive, const size_t *receive_bytes)
{
    size_t bytes = sum_before(send_bytes, comm->size) - send_bytes[comm->rank];
    (void)sq_comm_count(comm, SQ_TRAFFIC_EXCHANGE, bytes); /* never dry: that has no devices */
    return comm->device->exchange(comm->device, send, send_bytes, receive, receive_bytes);
}

enum sq_status sq_comm_memory_exchange(const struct sq_comm *comm, struct sq_backend *backend, const void *send,
                                       const size_t *send_bytes, void *receive, const size_t *receive_bytes)
{
    struct host_pieces host = {NULL, NULL};
    enum sq_status status = copy_own(comm, backend, send, send_bytes, receive, receive_bytes);
    if (comm->size == 1) return status;
    if (status == SQ_OK && !backend->is_host && !comm->device)
        status = take_pieces(backend, most_at_once(comm, send_bytes, receive_bytes), &host);
    status = sq_comm_agree(comm, status);
    if (status == SQ_OK && comm->device)
        status = exchange_devices(comm, send, send_bytes, receive, receive_bytes);
    else if (status == SQ_OK)
        status = sq_comm_agree(comm, shift_all(comm, backend, send, send_bytes, receive, receive_bytes, &host));
    backend->ops->free_host(backend, host.out);
    return status;
}
