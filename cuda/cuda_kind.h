/* CUDA devices, for a program that was built with them. */
#ifndef SQ_CUDA_KIND_H
#define SQ_CUDA_KIND_H

#include "mpi/device_kind.h"

extern const struct sq_device_kind sq_cuda_kind;

#endif
