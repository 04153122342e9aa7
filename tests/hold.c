/* To be preloaded: rank 0 stops itself, as by SIGSTOP, when it flushes a file of HDF5 for the HOLD_FLUSH-th time, if
 * there is a file HOLD_FILE then, which it removes: the job is held at a point that does not depend on speed, once. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <hdf5.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int is_first_rank(void)
{
    const char *rank = getenv("OMPI_COMM_WORLD_RANK");
    if (!rank) rank = getenv("PMIX_RANK");
    return rank && strcmp(rank, "0") == 0;
}

herr_t H5Fflush(hid_t object, H5F_scope_t scope)
{
    static int n_flushes;
    herr_t (*next)(hid_t, H5F_scope_t) = (herr_t(*)(hid_t, H5F_scope_t))dlsym(RTLD_NEXT, "H5Fflush");
    const char *file = getenv("HOLD_FILE"), *wanted = getenv("HOLD_FLUSH");
    if (++n_flushes == (wanted ? atoi(wanted) : 0) && is_first_rank() && file && unlink(file) == 0) raise(SIGSTOP);
    return next(object, scope);
}
