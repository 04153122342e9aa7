/* A new store, written whole by one process: the bytes cannot depend on the number of ranks. */
#define _POSIX_C_SOURCE 200809L
#include "io/store_private.h"

#include <mpi.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/log.h"
#include "base/memory.h"
#include "io/codes.h"
#include "io/store_file.h"

/* Room for what HDF5 keeps about one layer (measured: 2.3 KiB) and about the file with its texts. */
#define LAYER_BYTES 3072
#define FILE_BYTES 16384

static int64_t metadata_bytes(int n_layers)
{
    return FILE_BYTES + (int64_t)n_layers * LAYER_BYTES;
}

static int64_t total_tiles(const struct sq_store_layer *layers, int n_layers)
{
    int64_t tiles = 0;
    for (int l = 0; l < n_layers; l++)
        tiles += sq_store_layer_tiles(&layers[l]);
    return tiles;
}

int64_t sq_store_predict_bytes(const struct sq_store_layer *layers, int n_layers)
{
    int64_t bytes = metadata_bytes(n_layers) + total_tiles(layers, n_layers) * (int64_t)sizeof(uint64_t);
    for (int l = 0; l < n_layers; l++) {
        const struct sq_store_layer *layer = &layers[l];
        int64_t row = sq_codes_row_bytes(layer->in_features, layer->grid.bits) + 3 * sq_store_layer_groups(layer);
        bytes += layer->out_features * row + (int64_t)strlen(layer->name) + 1;
        bytes += (int64_t)(sizeof(struct sq_layer_report) + sizeof(uint64_t)) + 1;
    }
    return bytes;
}

static enum sq_status write_layer_attributes(hid_t group, const struct sq_store_layer *layer)
{
    SQ_TRY(sq_h5_set_integer(group, "bits", layer->grid.bits));
    SQ_TRY(sq_h5_set_integer(group, "group_size", layer->grid.group_size));
    SQ_TRY(sq_h5_set_integer(group, "symmetric", layer->grid.symmetric));
    SQ_TRY(sq_h5_set_integer(group, "in_features", layer->in_features));
    SQ_TRY(sq_h5_set_integer(group, "transposed", layer->is_transposed));
    return sq_h5_set_text(group, "scale_dtype", sq_dtype_name(layer->grid.scale_dtype));
}

static enum sq_status write_layer(hid_t parent, const struct sq_store_layer *layer)
{
    hid_t group;
    int64_t rows = layer->out_features, n_groups = sq_store_layer_groups(layer);
    int64_t codes[2] = {rows, sq_codes_row_bytes(layer->in_features, layer->grid.bits)}, groups[2] = {rows, n_groups};
    SQ_TRY(sq_h5_group_create(parent, layer->name, &group));
    enum sq_status status = write_layer_attributes(group, layer);
    if (status == SQ_OK) status = sq_h5_dataset_create(group, "codes", H5T_STD_U8LE, 2, codes);
    if (status == SQ_OK) status = sq_h5_dataset_create(group, "scales", H5T_STD_U16LE, 2, groups);
    if (status == SQ_OK) status = sq_h5_dataset_create(group, "zeros", H5T_STD_U8LE, 2, groups);
    H5Gclose(group);
    return status;
}

static enum sq_status describe_versions(char **text_p)
{
    unsigned major, minor, release;
    char mpi[MPI_MAX_LIBRARY_VERSION_STRING];
    int length;
    H5get_libversion(&major, &minor, &release);
    MPI_Get_library_version(mpi, &length);
    return sq_string_format(text_p, "shardq %s\nHDF5 %u.%u.%u\nxxHash %u\nMPI %.*s\n", SHARDQ_VERSION, major, minor,
                            release, XXH_versionNumber(), (int)strcspn(mpi, "\n"), mpi);
}

static enum sq_status write_attributes(hid_t file, const struct sq_store_index *index)
{
    SQ_TRY(sq_h5_set_text(file, "format", SQ_STORE_FORMAT));
    SQ_TRY(sq_h5_set_integer(file, "n_layers", index->n_layers));
    SQ_TRY(sq_h5_set_text(file, "config", index->config));
    SQ_TRY(sq_h5_set_text(file, "fingerprint", index->fingerprint));
    SQ_TRY(sq_h5_set_text(file, "versions", index->versions));
    return sq_h5_set_integer(file, "checksum", (int64_t)sq_store_index_hash(index));
}

static enum sq_status write_names(hid_t file, const struct sq_store_layer *layers, int n_layers)
{
    int64_t bytes = 0;
    for (int l = 0; l < n_layers; l++)
        bytes += (int64_t)strlen(layers[l].name) + 1;
    char *names, *end;
    hid_t dataset;
    SQ_TRY(sq_alloc("the names of the layers", bytes, 1, (void **)&names));
    end = names;
    for (int l = 0; l < n_layers; l++)
        end = stpcpy(end, layers[l].name) + 1;
    enum sq_status status = sq_h5_dataset_create(file, "names", H5T_STD_U8LE, 1, &bytes);
    if (status == SQ_OK) status = sq_h5_dataset_open(file, "names", &dataset);
    if (status == SQ_OK) {
        status = sq_h5_write_rows(dataset, H5T_NATIVE_UINT8, 0, bytes, names);
        H5Dclose(dataset);
    }
    sq_free(names);
    return status;
}

static enum sq_status write_tables(hid_t file, const struct sq_store_layer *layers, int n_layers)
{
    int64_t tiles = total_tiles(layers, n_layers), count = n_layers;
    hid_t report_type = sq_store_report_type(true);
    enum sq_status status = sq_h5_dataset_create(file, "checksums", H5T_STD_U64LE, 1, &tiles);
    if (status == SQ_OK) status = sq_h5_dataset_create(file, "reports", report_type, 1, &count);
    if (status == SQ_OK) status = sq_h5_dataset_create(file, "report_checksums", H5T_STD_U64LE, 1, &count);
    if (status == SQ_OK) status = sq_h5_dataset_create(file, "progress", H5T_STD_U8LE, 1, &count);
    H5Tclose(report_type);
    return status;
}

static enum sq_status write_layers(hid_t file, const struct sq_store_layer *layers, int n_layers)
{
    hid_t parent;
    enum sq_status status = SQ_OK;
    SQ_TRY(sq_h5_group_create(file, "layers", &parent));
    for (int l = 0; l < n_layers && status == SQ_OK; l++)
        status = write_layer(parent, &layers[l]);
    H5Gclose(parent);
    return status;
}

/* index: what the new store has to begin with. */
static enum sq_status write_file(const char *path, const struct sq_store_index *index)
{
    hid_t file;
    const struct sq_store_layer *layers = index->layers;
    int n_layers = index->n_layers;
    SQ_TRY(sq_h5_create(path, metadata_bytes(n_layers), &file));
    enum sq_status status = write_attributes(file, index);
    if (status == SQ_OK) status = write_names(file, layers, n_layers);
    if (status == SQ_OK) status = write_tables(file, layers, n_layers);
    if (status == SQ_OK) status = write_layers(file, layers, n_layers);
    enum sq_status closed = sq_h5_close(file, path);
    return status != SQ_OK ? status : closed;
}

enum sq_status sq_store_make(const struct sq_comm *comm, const char *path, const struct sq_store_layer *layers,
                             int n_layers, const char *config_yaml, const char *fingerprint)
{
    struct sq_store_index index = {.n_layers = n_layers,
                                   .layers = (struct sq_store_layer *)layers,
                                   .config = (char *)config_yaml,
                                   .fingerprint = (char *)fingerprint};
    char *temporary = NULL;
    enum sq_status status = describe_versions(&index.versions);
    if (status == SQ_OK) status = sq_string_format(&temporary, "%s.tmp", path);
    /* the probe finds a full disk before HDF5 does, which cannot give up a file that it failed to write */
    if (status == SQ_OK) status = sq_file_probe(comm, temporary, sq_store_predict_bytes(layers, n_layers));
    if (status == SQ_OK) {
        status = write_file(temporary, &index);
        if (status == SQ_OK) status = sq_file_publish(temporary, path);
        if (status != SQ_OK) unlink(temporary);
    }
    sq_free(index.versions);
    sq_free(temporary);
    return status;
}
