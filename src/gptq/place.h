/* Where a job computes: the backend of its choice, and its ranks with collectives on that backend's memory. */
#ifndef SQ_GPTQ_PLACE_H
#define SQ_GPTQ_PLACE_H

#include <stdio.h>

#include "base/status.h"
#include "config/config.h"
#include "mpi/device_kind.h"

struct sq_place {
    struct sq_backend *backend;
    struct sq_comm comm;               /* the ranks of the world it was opened with */
    const struct sq_device_kind *kind; /* NULL: the CPU */
    int n_sharing; /* most ranks that have one device together; more than one: their collectives go through the host */
};

/* The backend that config->backend asks for. auto: the devices where every rank sees one, else the CPU, and rank 0 says
 * so. Device by the rank's number on its node; too few devices are SQ_ERR_USAGE unless config->share_device. So are
 * ranks whose instruction sets or libraries differ: they would not compute the same bits. Collective; a world of one
 * rank needs no MPI. */
enum sq_status sq_place_open(const struct sq_config *config, const struct sq_comm *world,
                             struct sq_place *place_p) SQ_MUST_CHECK;
void sq_place_close(struct sq_place *place);

/* The --backend that gives this place. Local. */
enum sq_backend_choice sq_place_choice(const struct sq_place *place);

/* Bytes that one rank may take of the backend's memory by default: of the host's, three quarters shared among the ranks
 * of the node; of a device's, nine tenths of what is free, and then beside it of the host's as before (0: the two are
 * the same). Collective. */
enum sq_status sq_place_memory(const struct sq_place *place, int64_t *bytes_p, int64_t *host_bytes_p) SQ_MUST_CHECK;

/* Where activations go for which no memory has room, unless there is a store beside which they can be: the
 * environment's TMPDIR, else /tmp. Local. */
const char *sq_place_folder(void);

/* Writes a line for each backend that the program was built with: its name, and the libraries it computes with.
 * SQ_ERR_... when there is no memory. Local. */
enum sq_status sq_place_write_backends(FILE *file) SQ_MUST_CHECK;

#endif
