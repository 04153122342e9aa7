/* Which rank has which device. */
#include "cuda/cuda_kind.h"

#include <nccl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "cuda/cuda_private.h"
#include "cuda/nccl.h"

/* A device's place on the node: what tells one from another where each rank sees only its own. */
struct bus {
    char id[24];
};

#define MOST_ON_NODE 256

static int largest_sharing(const struct bus *buses, int count)
{
    int most = 0;
    for (int i = 0; i < count; i++) {
        int same = 0;
        for (int j = 0; j < count; j++)
            same += strcmp(buses[i].id, buses[j].id) == 0;
        if (same > most) most = same;
    }
    return most;
}

/* How many ranks of the node have one device together, at most. Collective on node. */
static enum sq_status count_sharing(const struct sq_comm *node, int device, int *most_p)
{
    static const char what[] = "asking for a device's place on the bus";
    struct bus buses[MOST_ON_NODE];
    size_t offsets[MOST_ON_NODE], bytes[MOST_ON_NODE];
    if (node->size > MOST_ON_NODE) {
        sq_error("%d ranks on a node; devices are shared out to at most %d", node->size, MOST_ON_NODE);
        return SQ_ERR_USAGE;
    }
    memset(buses, 0, sizeof buses);
    char *mine = buses[node->rank].id;
    SQ_TRY(sq_comm_agree(node, sq_cuda_checked(cudaDeviceGetPCIBusId(mine, sizeof buses->id, device), what)));
    for (int r = 0; r < node->size; r++) {
        offsets[r] = (size_t)r * sizeof *buses;
        bytes[r] = sizeof *buses;
    }
    SQ_TRY(sq_comm_all_gather(node, buses, offsets, bytes));
    *most_p = largest_sharing(buses, node->size);
    return SQ_OK;
}

/* This rank's device: ranks of a node take the devices they see in turn. */
static enum sq_status choose_device(const struct sq_comm *comm, int *device_p, int *n_sharing_p)
{
    char others[SQ_DEVICES_TEXT];
    int n_devices = sq_cuda_device_count(others, sizeof others);
    struct sq_comm node = {.size = 1};
    if (comm->size > 1) SQ_TRY(sq_comm_split_node(comm, &node));
    *device_p = sq_cuda_device_number(node.rank % n_devices);
    enum sq_status status = comm->size > 1 ? count_sharing(&node, *device_p, n_sharing_p) : SQ_OK;
    if (comm->size > 1) sq_comm_free(&node);
    return status;
}

/* The first variable of the environment that makes cuBLAS compute otherwise than it is asked to, or NULL. */
static const char *find_override(void)
{
    static const char *const names[] = {"NVIDIA_TF32_OVERRIDE", "CUBLAS_EMULATE_SINGLE_PRECISION",
                                        "CUBLAS_EMULATE_DOUBLE_PRECISION"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *value = getenv(names[i]);
        if (value && *value && strcmp(value, "0") != 0) return names[i];
    }
    return NULL;
}

/* The bytes would depend on the environment. Collective. */
static enum sq_status refuse_override(const struct sq_comm *comm)
{
    const char *name = find_override();
    bool any, is_lowest;
    SQ_TRY(sq_comm_lowest(comm, name != NULL, &any, &is_lowest));
    if (is_lowest)
        sq_error("%s=%s in the environment changes the arithmetic of cuBLAS: unset it, or give it 0", name,
                 getenv(name));
    return any ? SQ_ERR_USAGE : SQ_OK;
}

static enum sq_status open_device(const struct sq_comm *comm, int n_workers, bool may_share,
                                  struct sq_backend **backend_p, int *n_sharing_p)
{
    int device = 0, n_sharing = 1;
    SQ_TRY(refuse_override(comm));
    SQ_TRY(sq_comm_agree(comm, choose_device(comm, &device, &n_sharing)));
    int64_t most = n_sharing;
    SQ_TRY(sq_comm_max_i64(comm, &most, 1));
    if (most > 1 && !may_share) {
        if (comm->rank == 0)
            sq_error("%lld ranks of a node have one device together: start one rank per device, or allow it with "
                     "--share-device",
                     (long long)most);
        return SQ_ERR_USAGE;
    }
    *n_sharing_p = (int)most;
    return sq_comm_agree(comm, sq_backend_create_cuda(device, n_workers, backend_p));
}

static void name_libraries(char *text, size_t bytes)
{
    int runtime = 0, nccl = 0;
    bool known = cudaRuntimeGetVersion(&runtime) == cudaSuccess && ncclGetVersion(&nccl) == ncclSuccess;
    if (known)
        snprintf(text, bytes, "CUDA %d.%d, NCCL %d.%d.%d", runtime / 1000, runtime % 1000 / 10, nccl / 10000,
                 nccl / 100 % 100, nccl % 100);
    else
        snprintf(text, bytes, "CUDA, of a version that it does not tell");
}

const struct sq_device_kind sq_cuda_kind = {
    .name = "cuda",
    .count = sq_cuda_device_count,
    .open = open_device,
    .join = sq_nccl_attach,
    .name_libraries = name_libraries,
    .free_bytes = sq_cuda_free_bytes,
};
