/* The stand-in for CUDA on machines without a GPU: what it adds to the calls of the NVIDIA headers beside this one.
 *
 * Checks. A mistake that a GPU would answer with wrong numbers, a hang or a dead context ends the process with one line
 * "cudasim: ..." and SIGABRT: the host touches device memory; a kernel touches host, freed or foreign memory; threads
 * of a block diverge at a barrier, lanes of a warp at a shuffle, race for memory or read what nothing has written
 * (access.hpp); work is queued behind a copy of memory that is not pinned, beside which a device does nothing;
 * something is not freed at exit. Calls that CUDA refuses return CUDA's code, and the line says why. New device memory
 * is filled with 0xFF (NaN).
 *
 * What runs on it (preset cudasim): the contract tests of the backend, with every access of its kernels checked; sums
 * over ranks, forward passes of one model for each mechanism, evaluation, on 1 to 4 ranks; the program from quantize to
 * eval (tests/whole/cuda*.sh): the same bytes from 1 to 4 ranks, codes beside the CPU's, a kill in every stage, three
 * blocks of a real model. Under the address sanitizer (preset asan) the contract tests, those of ranks, and one small
 * job of the program (tests/whole/cuda_small.sh): it sees what leaves an allocation; races between threads and reads of
 * memory that was never written are seen without it only. Longer jobs do not run there, for time. Speed, and what a
 * real device rounds in its own way, are not tested by it at all.
 *
 * Sums. Products and solves are added up in an order that depends on sizes, leading dimensions and alignment, as that of
 * cuBLAS may: the same call gives the same bits, another one need not.
 *
 * Errors. Each thread has a last error, which calls that go well leave as it is; a launch returns it, whoever left it
 * there. "Not ready" is kept, too: NVIDIA's guide says that it is not, but others who ask find it, and clear it.
 *
 * Time. Streams are lazy. CUDASIM_ORDER=late (default): nothing runs before somebody waits for it, and then only what
 * was waited for. early: all that can run does so at every call. A number: pieces of random streams run at every call.
 *
 * Settings, from the environment at the first call:
 *   CUDASIM_DEVICES        number of devices; 0: cudaErrorNoDevice (default 1)
 *   CUDASIM_KINDS          CAPABILITYxMULTIPROCESSORS,...: what the first devices are, and the last of these is what
 *                          all others are (default 90x4)
 *   CUDASIM_FIRST_DEVICE   the first of them is this one of the node, so that processes see others, as by
 *                          CUDA_VISIBLE_DEVICES (default 0)
 *   CUDASIM_MEMORY         bytes of each device (default 2 GiB)
 *   CUDASIM_ORDER          late, early, or the seed of a random order
 *   CUDASIM_CHECK          off: kernels' reads and writes are not checked one by one, which is some times faster
 *   CUDASIM_FAIL           KIND:N,...: the N-th call of a kind fails with CUDA's code; kinds below
 *   CUDASIM_KILL           NAME:N: the process ends as by kill -9 when it queues its N-th operation whose name so
 *                          begins, such as "kernel quantize", "cusolverDnSpotrf" or "ncclAllReduce"
 *   CUDASIM_FREEZE         NAME:N: the process stops there for good, as by kill -STOP
 *   CUDASIM_HOLD           NAME:N: it stops there until somebody lets it go on, by kill -CONT
 *   CUDASIM_LOST           seen: NCCL tells a rank when another has left or died, as across a network. Without it the
 *                          rank waits on, as beside others of its node
 *   CUDASIM_NCCL_TIMEOUT   seconds that a collective waits for its peers before the process ends (default 60) */
#ifndef CUDASIM_H
#define CUDASIM_H

#ifdef __cplusplus
extern "C" {
#endif

/* Kinds: "malloc" (device and pinned memory), "create" (streams, events, handles), "launch", "copy" (and memset),
 * "sync" (waiting for a stream or event), "blas", "solver", "nccl". Any other text ends the process. */

/* The nth call of this kind from now fails, once; 0: none does. */
void cudasim_fail(const char *kind, long nth);

/* Calls of this kind since the start. */
long cudasim_calls(const char *kind);

#ifdef __cplusplus
}
#endif

#endif
