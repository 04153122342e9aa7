/* A machine as a plan sees it: rates, memory, links and disks, in a YAML file of one `key: value` a line. A rate that
 * depends on the size of the pieces is a list of two, [rate, half]: see tensor/dry.h. */
#ifndef SQ_CONFIG_MACHINE_H
#define SQ_CONFIG_MACHINE_H

#include <stdio.h>

#include "base/status.h"
#include "config/config.h"
#include "tensor/dry.h"

/* So many bytes a second, after so many seconds. */
struct sq_link {
    double bytes_per_second, seconds;
};

struct sq_machine {
    char name[128];
    enum sq_backend_choice backend; /* cpu or cuda */
    int ranks_per_node, threads;    /* of a rank: workers */
    double node_memory, device_memory;
    struct sq_rates rates;
    struct sq_link link, network;           /* of a rank: to ranks of its node; to other nodes */
    struct sq_link host_link, host_network; /* the same between host memories; a machine without devices has one kind */
    double node_read, node_write;           /* files, bytes a second of one node */
    double all_read, all_write;             /* of all nodes together */
};

/* SQ_ERR_USAGE naming file, line and key: unknown, missing or impossible. Local. */
enum sq_status sq_machine_read(const char *path, struct sq_machine *machine_p) SQ_MUST_CHECK;

/* The same of one for this backend (auto: for either), else SQ_ERR_USAGE. Local. */
enum sq_status sq_machine_read_for(enum sq_backend_choice backend, const char *path,
                                   struct sq_machine *machine_p) SQ_MUST_CHECK;

/* Writes it as sq_machine_read() takes it. Local. */
void sq_machine_write(const struct sq_machine *machine, FILE *file);

#endif
