/* A kind of device that a program can be built with, as the one table entry that the rest of it needs to know. */
#ifndef SQ_MPI_DEVICE_KIND_H
#define SQ_MPI_DEVICE_KIND_H

#include "mpi/comm.h"
#include "tensor/backend.h"

#define SQ_DEVICES_TEXT 512 /* bytes for the names of a node's devices */

struct sq_device_kind {
    const char *name; /* of the backend: "cuda" */
    /* Devices that this process can use. others [bytes]: which it cannot use and why, empty where there are none; where
     * it can use no device, why. Local. */
    int (*count)(char *others, size_t bytes);
    /* The backend on this rank's device: by its number among the ranks of its node. *n_sharing_p: most ranks of comm
     * that have one device together; more than one is SQ_ERR_USAGE unless may_share. n_workers 0: the default.
     * Collective. */
    enum sq_status (*open)(const struct sq_comm *comm, int n_workers, bool may_share, struct sq_backend **backend_p,
                           int *n_sharing_p);
    /* Makes comm->device: collectives between the devices of these ranks, each with its own. Collective on comm. */
    enum sq_status (*join)(struct sq_comm *comm, struct sq_backend *backend);
    /* "CUDA 12.4, NCCL 2.21.5", into text, without a device. Local. */
    void (*name_libraries)(char *text, size_t bytes);
    /* Bytes of the device's memory that are free now. Local. */
    enum sq_status (*free_bytes)(struct sq_backend *backend, int64_t *bytes_p);
};

#endif
