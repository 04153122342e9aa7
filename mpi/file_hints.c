#define _POSIX_C_SOURCE 200809L
#include "mpi/file_hints.h"

#include <mpi.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/memory.h"

static enum sq_status refuse(const char *text)
{
    sq_error("--file-hints: '%s' is no hint of the form key=value", text);
    return SQ_ERR_USAGE;
}

static enum sq_status set(MPI_Info info, const char *text)
{
    char key[MPI_MAX_INFO_KEY + 1] = "";
    const char *equals = strchr(text, '=');
    size_t length = equals ? (size_t)(equals - text) : 0;
    if (length == 0 || length >= MPI_MAX_INFO_KEY) return refuse(text);
    memcpy(key, text, length);
    const char *value = equals + 1;
    if (*value == '\0' || strlen(value) >= MPI_MAX_INFO_VAL) return refuse(text);
    if (MPI_Info_set(info, key, value) == MPI_SUCCESS) return SQ_OK;
    sq_error("--file-hints: MPI does not take '%s'", text);
    return SQ_ERR_USAGE;
}

enum sq_status sq_file_hints_set(char *const *texts, int count, struct sq_comm *comm)
{
    MPI_Info info;
    if (count == 0) return SQ_OK;
    if (MPI_Info_create(&info) != MPI_SUCCESS) {
        sq_error("MPI_Info_create failed");
        return SQ_ERR_LIBRARY;
    }
    comm->hints = MPI_Info_c2f(info);
    for (int i = 0; i < count; i++)
        SQ_TRY(set(info, texts[i]));
    return SQ_OK;
}

void sq_file_hints_release(struct sq_comm *comm)
{
    if (!comm->hints) return;
    MPI_Info info = MPI_Info_f2c((MPI_Fint)comm->hints);
    MPI_Info_free(&info);
    comm->hints = 0;
}

enum sq_status sq_file_hints_make(const struct sq_comm *comm, const char *path)
{
    char words[MPI_MAX_ERROR_STRING] = "";
    int length = 0;
    MPI_File file;
    if (!comm->hints) return SQ_OK;
    unlink(path); /* a file keeps the stripes it was made with */
    int code =
        MPI_File_open(MPI_COMM_SELF, path, MPI_MODE_CREATE | MPI_MODE_RDWR, MPI_Info_f2c((MPI_Fint)comm->hints), &file);
    if (code == MPI_SUCCESS) code = MPI_File_close(&file);
    if (code == MPI_SUCCESS) return SQ_OK;
    MPI_Error_string(code, words, &length);
    sq_error("cannot make %s through MPI-IO: %s", path, words);
    return SQ_ERR_IO;
}
