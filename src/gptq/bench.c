#define _GNU_SOURCE /* posix_fadvise, pread */
#include "gptq/bench_private.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/node.h"
#include "mpi/comm_memory.h"

/* --- links -------------------------------------------------------------------------------------------------------- */

#define FEW_VALUES ((int64_t)1 << 3)
#define MANY_VALUES ((int64_t)1 << 20)

/* Sums in the memory of this backend; NULL: in the host's. */
static enum sq_status sum(const struct sq_comm *comm, struct sq_backend *backend, int64_t *values, int64_t count)
{
    return backend ? sq_comm_memory_sum_i64(comm, backend, values, count) : sq_comm_sum_i64(comm, values, count);
}

static enum sq_status take_values(struct sq_backend *backend, void **values_p)
{
    static const char what[] = "values to send";
    const size_t bytes = MANY_VALUES * sizeof(int64_t);
    if (!backend) return sq_alloc(what, MANY_VALUES, sizeof(int64_t), values_p);
    SQ_TRY(backend->ops->alloc(backend, what, bytes, values_p));
    return backend->ops->clear(backend, *values_p, bytes);
}

/* Seconds of one sum, on the slowest rank. Collective. */
static enum sq_status time_sums(const struct sq_comm *comm, struct sq_backend *backend, int64_t *values, int64_t count,
                                int repeat, double *seconds_p)
{
    SQ_TRY(sum(comm, backend, values, count));
    double started = sq_seconds();
    for (int i = 0; i < repeat; i++)
        SQ_TRY(sum(comm, backend, values, count));
    *seconds_p = (sq_seconds() - started) / repeat;
    return sq_comm_max_f64(comm, seconds_p, 1);
}

/* As the plan reckons a sum: 2 log2(ranks) latencies, and 2 (ranks - 1) / ranks of the bytes. Collective. */
static enum sq_status measure_link(const struct sq_comm *comm, struct sq_backend *backend, struct sq_link *link_p)
{
    void *values = NULL;
    double few = 0, many = 0, share = 2.0 * (comm->size - 1) / comm->size, steps = 2 * ceil(log2(comm->size));
    if (comm->size == 1) return SQ_OK;
    enum sq_status status = sq_comm_agree(comm, take_values(backend, &values));
    if (status == SQ_OK) status = time_sums(comm, backend, values, FEW_VALUES, 100, &few);
    if (status == SQ_OK) status = time_sums(comm, backend, values, MANY_VALUES, 10, &many);
    if (backend)
        backend->ops->free(backend, values);
    else
        sq_free(values);
    if (status != SQ_OK) return status;
    double moving = many > few ? many - few : many;
    *link_p = (struct sq_link){share * 8 * (double)(MANY_VALUES - FEW_VALUES) / moving, few / steps};
    return SQ_OK;
}

/* Between the backend's memories, and where those are a device's between the hosts'. Collective. */
static enum sq_status measure_both(const struct sq_comm *comm, struct sq_backend *backend, struct sq_link *link_p,
                                   struct sq_link *host_link_p)
{
    SQ_TRY(measure_link(comm, backend, link_p));
    *host_link_p = *link_p;
    return backend->is_host ? SQ_OK : measure_link(comm, NULL, host_link_p);
}

static enum sq_status measure_links(const struct sq_place *place, struct sq_machine *machine)
{
    struct sq_comm node = {.size = 1};
    const struct sq_comm *comm = &place->comm;
    if (comm->size == 1) return SQ_OK;
    SQ_TRY(sq_comm_split_node(comm, &node));
    machine->ranks_per_node = node.size;
    enum sq_status status = sq_comm_memory_join(comm, &node);
    if (status == SQ_OK) status = measure_both(&node, place->backend, &machine->link, &machine->host_link);
    sq_comm_memory_leave(&node);
    sq_comm_free(&node);
    status = sq_comm_agree(comm, status);
    if (status == SQ_OK && node.size < comm->size)
        status = measure_both(comm, place->backend, &machine->network, &machine->host_network);
    return status;
}

/* --- files -------------------------------------------------------------------------------------------------------- */

#define FILE_BYTES ((size_t)64 << 20)

static enum sq_status refuse_file(const char *what, const char *path)
{
    sq_error("cannot %s %s: %s", what, path, strerror(errno));
    return SQ_ERR_IO;
}

static enum sq_status time_file(int file, const char *path, char *bytes, struct sq_machine *machine)
{
    double started = sq_seconds();
    for (size_t done = 0; done < FILE_BYTES;) {
        ssize_t count = write(file, bytes + done, FILE_BYTES - done);
        if (count < 0) return refuse_file("write", path);
        done += (size_t)count;
    }
    if (fsync(file)) return refuse_file("flush", path);
    machine->node_write = (double)FILE_BYTES / (sq_seconds() - started);
    posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED); /* advice: from memory it is read faster */
    started = sq_seconds();
    for (size_t done = 0; done < FILE_BYTES;) {
        ssize_t count = pread(file, bytes + done, FILE_BYTES - done, (off_t)done);
        if (count <= 0) return refuse_file("read", path);
        done += (size_t)count;
    }
    machine->node_read = (double)FILE_BYTES / (sq_seconds() - started);
    return SQ_OK;
}

/* By one rank of all. Local. */
static enum sq_status measure_files(const char *folder, struct sq_machine *machine)
{
    char *path;
    void *bytes = NULL;
    SQ_TRY(sq_string_format(&path, "%s/shardq-bench-XXXXXX", folder));
    enum sq_status status = sq_alloc("bytes of a file", (int64_t)FILE_BYTES, 1, &bytes);
    if (status != SQ_OK) goto out_path;
    memset(bytes, 1, FILE_BYTES);
    int file = mkstemp(path);
    if (file < 0) {
        status = refuse_file("make", path);
        goto out_bytes;
    }
    unlink(path);
    status = time_file(file, path, bytes, machine);
    close(file);
out_bytes:
    sq_free(bytes);
out_path:
    sq_free(path);
    return status;
}

/* --- all of it ---------------------------------------------------------------------------------------------------- */

/* A unit of work takes 1 / per_second + (half / per_second) / size: both terms become those of the slowest rank. */
enum sq_status sq_bench_take_slowest(const struct sq_comm *comm, struct sq_rates *rates)
{
    double worst[2 * SQ_N_WORK + 2] = {0}, *units = worst, *slopes = worst + SQ_N_WORK, *starts = slopes + SQ_N_WORK;
    for (int i = 0; i < SQ_N_WORK; i++) {
        const struct sq_rate *rate = &rates->of[i];
        if (rate->per_second <= 0) continue;
        units[i] = 1 / rate->per_second;
        slopes[i] = rate->half / rate->per_second;
    }
    starts[0] = rates->operation_seconds;
    starts[1] = rates->parallel_seconds;
    SQ_TRY(sq_comm_max_f64(comm, worst, 2 * SQ_N_WORK + 2));
    for (int i = 0; i < SQ_N_WORK; i++)
        if (units[i] > 0) rates->of[i] = (struct sq_rate){1 / units[i], slopes[i] / units[i]};
    rates->operation_seconds = starts[0];
    rates->parallel_seconds = starts[1];
    return SQ_OK;
}

enum sq_status sq_bench_measure(const struct sq_place *place, const char *folder, double seconds,
                                struct sq_machine *machine_p)
{
    const struct sq_comm *comm = &place->comm;
    struct sq_machine machine = {.backend = place->kind ? SQ_BACKEND_CUDA : SQ_BACKEND_CPU, .ranks_per_node = 1};
    snprintf(machine.name, sizeof machine.name, "measured: %s on %s", place->backend->ops->name, place->backend->isa);
    machine.threads = place->backend->n_workers;
    machine.node_memory = (double)sq_node_memory("");
    if (place->kind) {
        int64_t bytes = 0;
        SQ_TRY(sq_comm_agree(comm, place->kind->free_bytes(place->backend, &bytes)));
        machine.device_memory = (double)bytes + (double)machine.threads * (double)place->backend->traits->worker_bytes;
    }
    SQ_TRY(sq_comm_agree(comm, sq_bench_rates(place->backend, seconds, &machine.rates)));
    SQ_TRY(sq_bench_take_slowest(comm, &machine.rates));
    SQ_TRY(measure_links(place, &machine));
    SQ_TRY(sq_comm_agree(comm, comm->rank == 0 ? measure_files(folder, &machine) : SQ_OK));
    double files[2] = {machine.node_read, machine.node_write};
    SQ_TRY(sq_comm_max_f64(comm, files, 2));
    machine.node_read = files[0];
    machine.node_write = files[1];
    *machine_p = machine;
    return SQ_OK;
}
