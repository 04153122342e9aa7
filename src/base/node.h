/* The node that this process runs on, and what it takes of it. */
#ifndef SQ_BASE_NODE_H
#define SQ_BASE_NODE_H

#include <stdint.h>

/* Bytes of memory that the processes on this node may take together: what is installed, or less where a control group
 * limits them (a container, a batch job; version 1 or 2, on any level). root: "", or in tests a folder that stands for
 * the root of the file system. What cannot be read does not limit. Local. */
int64_t sq_node_memory(const char *root);

/* Processors that this process may run on (srun and mpirun bind ranks to a part of the node). Local. */
int sq_node_processors(void);

/* Bytes that this process holds now, and has held at most; 0 where the system does not say. Local. */
int64_t sq_process_memory(void);
int64_t sq_process_peak_memory(void);

#endif
