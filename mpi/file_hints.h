/* Hints for MPI-IO, such as how a parallel file system is to stripe a new file. */
#ifndef SQ_MPI_FILE_HINTS_H
#define SQ_MPI_FILE_HINTS_H

#include "mpi/comm.h"

/* Sets comm->hints from "key=value" texts: how files are made and opened through this communicator and its copies.
 * SQ_ERR_USAGE names one that is no hint. To be released, also after a failure. Local. */
enum sq_status sq_file_hints_set(char *const *texts, int count, struct sq_comm *comm) SQ_MUST_CHECK;
void sq_file_hints_release(struct sq_comm *comm);

/* Makes an empty file by MPI-IO, with the hints that count when a file is made; HDF5 then finds it there. An old one is
 * removed before. SQ_ERR_IO. Local. */
enum sq_status sq_file_hints_make(const struct sq_comm *comm, const char *path) SQ_MUST_CHECK;

#endif
