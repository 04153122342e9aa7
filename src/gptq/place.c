#include "gptq/place.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "base/node.h"
#include "mpi/comm_memory.h"
#ifdef SQ_HAS_CUDA
#include "cuda/cuda_kind.h"
#endif

/* What the program was built with, best first. */
static const struct sq_device_kind *const kinds[] = {
#ifdef SQ_HAS_CUDA
    &sq_cuda_kind,
#endif
    NULL};

static const char *const kind_names[] = {
    [SQ_BACKEND_AUTO] = "auto", [SQ_BACKEND_CPU] = "cpu", [SQ_BACKEND_CUDA] = "cuda"};

/* Whether every rank sees a device of the kind; why [SQ_DEVICES_TEXT]: this rank's reason where one has none.
 * Collective. */
static enum sq_status find_devices(const struct sq_comm *comm, const struct sq_device_kind *kind, char *why,
                                   bool *found_p)
{
    int64_t lacks = kind->count(why, SQ_DEVICES_TEXT) == 0;
    if (!lacks && *why) sq_info("not used: %s", why);
    if (!lacks) snprintf(why, SQ_DEVICES_TEXT, "another rank has none");
    SQ_TRY(sq_comm_max_i64(comm, &lacks, 1));
    *found_p = !lacks;
    return SQ_OK;
}

/* The first kind that was asked for, or NULL: the CPU. Collective. */
static enum sq_status choose_kind(const struct sq_comm *comm, enum sq_backend_choice wanted,
                                  const struct sq_device_kind **kind_p)
{
    bool found = false, must = wanted != SQ_BACKEND_AUTO && wanted != SQ_BACKEND_CPU;
    char why[SQ_DEVICES_TEXT] = "this program was built without it";
    *kind_p = NULL;
    if (wanted == SQ_BACKEND_CPU) return SQ_OK;
    for (int i = 0; kinds[i] && !found; i++) {
        if (must && strcmp(kinds[i]->name, kind_names[wanted]) != 0) continue;
        SQ_TRY(find_devices(comm, kinds[i], why, &found));
        if (found) *kind_p = kinds[i];
    }
    if (found || (!must && !kinds[0])) return SQ_OK;
    if (comm->rank == 0 && must) sq_error("--backend %s: %s", kind_names[wanted], why);
    if (comm->rank == 0 && !must) sq_info("no device, using cpu (%s)", why);
    return must ? SQ_ERR_USAGE : SQ_OK;
}

static enum sq_status open_best(const struct sq_config *config, struct sq_place *place)
{
    SQ_TRY(choose_kind(&place->comm, config->backend, &place->kind));
    if (!place->kind)
        return sq_comm_agree(&place->comm, sq_backend_create_cpu(config->threads, config->isa, &place->backend));
    SQ_TRY(place->kind->open(&place->comm, config->threads, config->share_device, &place->backend, &place->n_sharing));
    if (place->n_sharing > 1 || place->comm.size == 1) return SQ_OK;
    return place->kind->join(&place->comm, place->backend);
}

/* The same bytes from any number of ranks: only where each computes the same bits. Collective. */
static enum sq_status check_alike(const struct sq_comm *comm, const struct sq_backend *backend)
{
    char mine[160], *first;
    snprintf(mine, sizeof mine, "%s %s, %s", backend->ops->name, backend->isa, backend->libraries);
    enum sq_status status = sq_comm_compare(comm, mine, &first);
    if (first)
        sq_error(
            "rank 0 computes with %s; rank %d with %s: their bits would differ (--isa, and OPENBLAS_CORETYPE in the "
            "environment, hold all ranks to the same instructions)",
            first, comm->rank, mine);
    sq_free(first);
    return status;
}

enum sq_status sq_place_open(const struct sq_config *config, const struct sq_comm *world, struct sq_place *place_p)
{
    struct sq_place place = {.comm = *world, .n_sharing = 1};
    place.comm.device = NULL;
    enum sq_status status = open_best(config, &place);
    if (status == SQ_OK) status = check_alike(&place.comm, place.backend);
    if (status != SQ_OK) {
        sq_place_close(&place);
        return status;
    }
    *place_p = place;
    return SQ_OK;
}

enum sq_backend_choice sq_place_choice(const struct sq_place *place)
{
    int choice = SQ_BACKEND_CPU;
    while (place->kind && strcmp(kind_names[choice], place->kind->name) != 0)
        choice++;
    return (enum sq_backend_choice)choice;
}

void sq_place_close(struct sq_place *place)
{
    sq_comm_memory_leave(&place->comm);
    if (place->backend) place->backend->ops->destroy(place->backend);
    place->backend = NULL;
}

enum sq_status sq_place_memory(const struct sq_place *place, int64_t *bytes_p, int64_t *host_bytes_p)
{
    int n_on_node = 1;
    int64_t free_bytes = 0;
    SQ_TRY(sq_comm_ranks_on_node(&place->comm, &n_on_node));
    int64_t host_bytes = sq_node_memory("") / 4 * 3 / n_on_node;
    if (place->kind) SQ_TRY(place->kind->free_bytes(place->backend, &free_bytes));
    *bytes_p = place->kind ? free_bytes / 10 * 9 / place->n_sharing : host_bytes;
    *host_bytes_p = place->kind ? host_bytes : 0;
    return SQ_OK;
}

const char *sq_place_folder(void)
{
    const char *folder = getenv("TMPDIR");
    return folder && *folder ? folder : "/tmp";
}

enum sq_status sq_place_write_backends(FILE *file)
{
    struct sq_backend *cpu = NULL;
    char text[64];
    SQ_TRY(sq_backend_create_cpu(1, SQ_ISA_BEST, &cpu));
    fprintf(file, "  cpu     %s; kernels for %s\n", cpu->libraries, cpu->isa);
    cpu->ops->destroy(cpu);
    for (int i = 0; kinds[i]; i++) {
        kinds[i]->name_libraries(text, sizeof text);
        fprintf(file, "  %-6s  %s\n", kinds[i]->name, text);
    }
    return SQ_OK;
}
