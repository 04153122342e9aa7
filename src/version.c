#include "version.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <hdf5.h>
#include <jansson.h>
#include <mpi.h>
#include <pcre2.h>
#include <string.h>
#include <xxhash.h>
#include <yaml.h>

#include "gptq/place.h"

void sq_version_write(FILE *file)
{
    unsigned major, minor, release, hash = XXH_versionNumber();
    char mpi[MPI_MAX_LIBRARY_VERSION_STRING], pcre2[64];
    int length;
    H5get_libversion(&major, &minor, &release);
    MPI_Get_library_version(mpi, &length); /* may be asked before MPI is started */
    pcre2_config(PCRE2_CONFIG_VERSION, pcre2);
    fprintf(file, "shardq " SHARDQ_VERSION "\n");
    if (sq_place_write_backends(file) != SQ_OK) return;
    fprintf(file, "  MPI     %.*s\n", (int)strcspn(mpi, "\n,"), mpi);
    fprintf(file, "  HDF5    %u.%u.%u\n", major, minor, release);
    fprintf(file, "  others  xxHash %u.%u.%u, jansson %s, libyaml %s, PCRE2 %.*s\n", hash / 10000, hash / 100 % 100,
            hash % 100, JANSSON_VERSION, yaml_get_version_string(), (int)strcspn(pcre2, " "), pcre2);
}
