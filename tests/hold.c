/* To be preloaded: rank 0 stops itself, as by SIGSTOP, at a point that does not depend on speed, once: if there is a
 * file HOLD_FILE then, which it removes. HOLD_AT says where: when it flushes a file of HDF5 for that time, if it is a
 * number; before MPI starts, if it is MPI_Init_thread; else when it reserves room for a file whose name ends so. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <hdf5.h>
#include <mpi.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int is_first_rank(void)
{
    const char *rank = getenv("OMPI_COMM_WORLD_RANK");
    if (!rank) rank = getenv("PMIX_RANK");
    return rank && strcmp(rank, "0") == 0;
}

static const char *place(void)
{
    const char *at = getenv("HOLD_AT");
    return at ? at : "";
}

static void hold(void)
{
    const char *file = getenv("HOLD_FILE");
    if (is_first_rank() && file && unlink(file) == 0) raise(SIGSTOP);
}

int MPI_Init_thread(int *argc, char ***argv, int required, int *provided)
{
    int (*next)(int *, char ***, int, int *) =
        (int (*)(int *, char ***, int, int *))dlsym(RTLD_NEXT, "MPI_Init_thread");
    if (strcmp(place(), "MPI_Init_thread") == 0) hold();
    return next(argc, argv, required, provided);
}

herr_t H5Fflush(hid_t object, H5F_scope_t scope)
{
    static int n_flushes;
    herr_t (*next)(hid_t, H5F_scope_t) = (herr_t(*)(hid_t, H5F_scope_t))dlsym(RTLD_NEXT, "H5Fflush");
    if (++n_flushes == atoi(place())) hold();
    return next(object, scope);
}

static int is_there(int fd)
{
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path);
    size_t end = strlen(place());
    return end > 0 && length >= (ssize_t)end && memcmp(path + (size_t)length - end, place(), end) == 0;
}

int posix_fallocate(int fd, off_t offset, off_t bytes)
{
    int (*next)(int, off_t, off_t) = (int (*)(int, off_t, off_t))dlsym(RTLD_NEXT, "posix_fallocate");
    if (atoi(place()) == 0 && is_there(fd)) hold();
    return next(fd, offset, bytes);
}
