#include "io/store_private.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "io/codes.h"

hid_t sq_store_report_type(bool in_file)
{
    static const struct {
        const char *name;
        size_t offset;
        bool real;
    } fields[] = {
        {"error", offsetof(struct sq_layer_report, error), true},
        {"error_rtn", offsetof(struct sq_layer_report, error_rtn), true},
        {"damping", offsetof(struct sq_layer_report, damping), true},
        {"n_rungs", offsetof(struct sq_layer_report, n_rungs), false},
        {"n_dead", offsetof(struct sq_layer_report, n_dead), false},
        {"n_limited", offsetof(struct sq_layer_report, n_limited), false},
        {"n_tokens", offsetof(struct sq_layer_report, n_tokens), false},
        {"n_routed", offsetof(struct sq_layer_report, n_routed), false},
        {"rounds", offsetof(struct sq_layer_report, rounds), true},
    };
    hid_t real = in_file ? H5T_IEEE_F64LE : H5T_NATIVE_DOUBLE, integer = in_file ? H5T_STD_I64LE : H5T_NATIVE_INT64;
    hid_t type = H5Tcreate(H5T_COMPOUND, sizeof(struct sq_layer_report));
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        H5Tinsert(type, fields[i].name, fields[i].offset, fields[i].real ? real : integer);
    return type;
}

uint64_t sq_store_report_hash(const struct sq_layer_report *report)
{
    return XXH3_64bits(report, sizeof *report); /* eight bytes each: there is no padding */
}

static void hash_text(XXH3_state_t *state, const char *text)
{
    XXH3_64bits_update(state, text, strlen(text) + 1);
}

uint64_t sq_store_index_hash(const struct sq_store_index *index)
{
    XXH3_state_t state;
    XXH3_64bits_reset(&state);
    hash_text(&state, index->config);
    hash_text(&state, index->fingerprint);
    hash_text(&state, index->versions);
    for (int l = 0; l < index->n_layers; l++) {
        const struct sq_store_layer *layer = &index->layers[l];
        const int64_t values[] = {layer->out_features,    layer->in_features,    layer->is_transposed,
                                  layer->grid.bits,       layer->grid.symmetric, layer->grid.group_size,
                                  layer->grid.scale_dtype};
        hash_text(&state, layer->name);
        XXH3_64bits_update(&state, values, sizeof values);
    }
    return XXH3_64bits_digest(&state);
}

/* --- reading ---------------------------------------------------------------------------------------------------------
 */

/* Points each layer's name into names; SQ_ERR_INPUT unless there are exactly n_layers of them. */
static enum sq_status set_names(const char *path, struct sq_store_index *index)
{
    char *name = index->names, *end = index->names + index->names_bytes;
    int found = 0;
    if (end == name || end[-1] != '\0') goto fail;
    for (; name < end && found < index->n_layers; name += strlen(name) + 1)
        index->layers[found++].name = name;
    if (name == end && found == index->n_layers) return SQ_OK;
fail:
    sq_error("%s: dataset /names does not hold %d names", path, index->n_layers);
    return SQ_ERR_INPUT;
}

static enum sq_status read_names(hid_t file, const char *path, struct sq_store_index *index)
{
    hid_t dataset;
    SQ_TRY(sq_h5_dataset_open_checked(file, "names", H5T_STD_U8LE, 1, &index->names_bytes, &dataset));
    enum sq_status status = sq_alloc("the names of the layers", index->names_bytes, 1, (void **)&index->names);
    if (status == SQ_OK) status = sq_h5_read_rows(dataset, H5T_NATIVE_UINT8, 0, index->names_bytes, index->names);
    H5Dclose(dataset);
    return status == SQ_OK ? set_names(path, index) : status;
}

static enum sq_status check_shape(hid_t group, const char *name, hid_t type, int64_t rows, int64_t columns)
{
    int64_t dims[2];
    hid_t dataset;
    SQ_TRY(sq_h5_dataset_open_checked(group, name, type, 2, dims, &dataset));
    H5Dclose(dataset);
    if (dims[0] == rows && dims[1] == columns) return SQ_OK;
    char path[512] = "?";
    H5Iget_name(group, path, sizeof path);
    sq_error("store: %s/%s is [%lld, %lld] where its attributes ask for [%lld, %lld]", path, name, (long long)dims[0],
             (long long)dims[1], (long long)rows, (long long)columns);
    return SQ_ERR_INPUT;
}

static enum sq_status read_grid(hid_t group, struct sq_store_layer *layer)
{
    int64_t bits, symmetric, transposed;
    char *dtype;
    SQ_TRY(sq_h5_get_integer(group, "bits", &bits));
    SQ_TRY(sq_h5_get_integer(group, "group_size", &layer->grid.group_size));
    SQ_TRY(sq_h5_get_integer(group, "symmetric", &symmetric));
    SQ_TRY(sq_h5_get_integer(group, "in_features", &layer->in_features));
    SQ_TRY(sq_h5_get_integer(group, "transposed", &transposed));
    SQ_TRY(sq_h5_get_text(group, "scale_dtype", &dtype));
    int scale_dtype = sq_dtype_parse(dtype);
    sq_free(dtype);
    if (bits < 1 || bits > 8 || layer->grid.group_size < 1 || layer->grid.group_size > INT32_MAX ||
        layer->in_features < 1 || layer->in_features > INT32_MAX || (scale_dtype != SQ_F16 && scale_dtype != SQ_BF16)) {
        sq_error("store: the attributes of layer %s are out of range", layer->name);
        return SQ_ERR_INPUT;
    }
    layer->is_transposed = transposed != 0;
    layer->grid.bits = (int)bits;
    layer->grid.symmetric = symmetric != 0;
    layer->grid.scale_dtype = (enum sq_dtype)scale_dtype;
    return SQ_OK;
}

static enum sq_status read_shapes(hid_t group, struct sq_store_layer *layer)
{
    int64_t dims[2];
    hid_t dataset;
    SQ_TRY(sq_h5_dataset_open_checked(group, "codes", H5T_STD_U8LE, 2, dims, &dataset));
    H5Dclose(dataset);
    layer->out_features = dims[0];
    int64_t row_bytes = sq_codes_row_bytes(layer->in_features, layer->grid.bits), groups = sq_store_layer_groups(layer);
    SQ_TRY(check_shape(group, "codes", H5T_STD_U8LE, layer->out_features, row_bytes));
    SQ_TRY(check_shape(group, "scales", H5T_STD_U16LE, layer->out_features, groups));
    return check_shape(group, "zeros", H5T_STD_U8LE, layer->out_features, groups);
}

static enum sq_status read_layer(hid_t parent, struct sq_store_layer *layer)
{
    hid_t group = H5Gopen2(parent, layer->name, H5P_DEFAULT);
    if (group < 0) {
        sq_h5_error(parent, "open layer", layer->name);
        return SQ_ERR_INPUT;
    }
    enum sq_status status = read_grid(group, layer);
    if (status == SQ_OK) status = read_shapes(group, layer);
    H5Gclose(group);
    return status;
}

static enum sq_status read_layers(hid_t file, struct sq_store_index *index)
{
    hid_t parent = H5Gopen2(file, "layers", H5P_DEFAULT);
    if (parent < 0) {
        sq_h5_error(file, "open group", "layers");
        return SQ_ERR_INPUT;
    }
    enum sq_status status = SQ_OK;
    for (int l = 0; l < index->n_layers && status == SQ_OK; l++)
        status = read_layer(parent, &index->layers[l]);
    H5Gclose(parent);
    return status;
}

static enum sq_status check_checksums(hid_t file, const char *path, const struct sq_store_index *index)
{
    int64_t tiles = 0, found;
    hid_t dataset;
    for (int l = 0; l < index->n_layers; l++)
        tiles += sq_store_layer_tiles(&index->layers[l]);
    SQ_TRY(sq_h5_dataset_open_checked(file, "checksums", H5T_STD_U64LE, 1, &found, &dataset));
    H5Dclose(dataset);
    if (found == tiles) return SQ_OK;
    sq_error("%s: dataset checksums has %lld rows where the layers ask for %lld", path, (long long)found,
             (long long)tiles);
    return SQ_ERR_INPUT;
}

/* A layer counts as complete only with the report that it was marked with. */
static enum sq_status check_reports(hid_t file, const struct sq_store_index *index)
{
    uint64_t *hashes = NULL;
    SQ_TRY(sq_alloc("checksums of reports", index->n_layers, sizeof *hashes, (void **)&hashes));
    enum sq_status status =
        sq_h5_dataset_read(file, "report_checksums", H5T_STD_U64LE, H5T_NATIVE_UINT64, index->n_layers, hashes);
    for (int l = 0; l < index->n_layers && status == SQ_OK; l++)
        if (index->progress[l] == 1 && hashes[l] != sq_store_report_hash(&index->reports[l]))
            index->progress[l] = SQ_STORE_BAD_REPORT;
    sq_free(hashes);
    return status;
}

/* Progress and reports. */
static enum sq_status read_tables(hid_t file, struct sq_store_index *index)
{
    hid_t in_file = sq_store_report_type(true), in_memory = sq_store_report_type(false);
    enum sq_status status =
        sq_h5_dataset_read(file, "progress", H5T_STD_U8LE, H5T_NATIVE_UINT8, index->n_layers, index->progress);
    if (status == SQ_OK)
        status = sq_h5_dataset_read(file, "reports", in_file, in_memory, index->n_layers, index->reports);
    H5Tclose(in_memory);
    H5Tclose(in_file);
    return status == SQ_OK ? check_reports(file, index) : status;
}

static enum sq_status check_format(hid_t file, const char *path)
{
    char *format;
    SQ_TRY(sq_h5_get_text(file, "format", &format));
    enum sq_status status = SQ_OK;
    if (strcmp(format, SQ_STORE_FORMAT) != 0) {
        sq_error("%s is of format '%s'; this program reads '%s'", path, format, SQ_STORE_FORMAT);
        status = SQ_ERR_INPUT;
    }
    sq_free(format);
    return status;
}

static enum sq_status allocate_tables(struct sq_store_index *index)
{
    int64_t n = index->n_layers;
    SQ_TRY(sq_alloc("the layers of a store", n, sizeof *index->layers, (void **)&index->layers));
    SQ_TRY(sq_alloc("the progress of a store", n, 1, (void **)&index->progress));
    return sq_alloc("the reports of a store", n, sizeof *index->reports, (void **)&index->reports);
}

/* The number of layers, from the table that has one byte for each: its size is checked against the file. */
static enum sq_status read_count(hid_t file, const char *path, int *n_layers_p)
{
    int64_t n_layers, rows;
    hid_t progress;
    SQ_TRY(sq_h5_get_integer(file, "n_layers", &n_layers));
    SQ_TRY(sq_h5_dataset_open_checked(file, "progress", H5T_STD_U8LE, 1, &rows, &progress));
    H5Dclose(progress);
    if (n_layers != rows || n_layers < 1 || n_layers > INT32_MAX) {
        sq_error("%s: attribute n_layers is %lld, but the progress of %lld layers is kept", path, (long long)n_layers,
                 (long long)rows);
        return SQ_ERR_INPUT;
    }
    *n_layers_p = (int)n_layers;
    return SQ_OK;
}

static enum sq_status check_hash(hid_t file, const char *path, const struct sq_store_index *index)
{
    int64_t stored;
    uint64_t computed = sq_store_index_hash(index);
    SQ_TRY(sq_h5_get_integer(file, "checksum", &stored));
    if ((uint64_t)stored == computed) return SQ_OK;
    sq_error("%s: the checksum of its settings and layers is %016llx, the stored one %016llx", path,
             (unsigned long long)computed, (unsigned long long)stored);
    return SQ_ERR_INPUT;
}

static enum sq_status read_all(hid_t file, const char *path, struct sq_store_index *index)
{
    SQ_TRY(check_format(file, path));
    SQ_TRY(read_count(file, path, &index->n_layers));
    SQ_TRY(sq_h5_get_text(file, "config", &index->config));
    SQ_TRY(sq_h5_get_text(file, "fingerprint", &index->fingerprint));
    SQ_TRY(sq_h5_get_text(file, "versions", &index->versions));
    SQ_TRY(allocate_tables(index));
    SQ_TRY(read_names(file, path, index));
    SQ_TRY(read_layers(file, index));
    SQ_TRY(check_hash(file, path, index));
    SQ_TRY(check_checksums(file, path, index));
    return read_tables(file, index);
}

enum sq_status sq_store_index_read(const char *path, struct sq_store_index *index_p)
{
    hid_t file;
    SQ_TRY(sq_h5_open(path, &file));
    enum sq_status status = read_all(file, path, index_p);
    H5Fclose(file);
    return status;
}

/* --- sharing ---------------------------------------------------------------------------------------------------------
 */

/* text_bytes: of configuration, fingerprint and versions. */
static enum sq_status allocate_shared(struct sq_store_index *index, const int64_t text_bytes[3])
{
    SQ_TRY(allocate_tables(index));
    SQ_TRY(sq_alloc("the names of the layers", index->names_bytes, 1, (void **)&index->names));
    SQ_TRY(sq_alloc("a configuration", text_bytes[0], 1, (void **)&index->config));
    SQ_TRY(sq_alloc("a fingerprint", text_bytes[1], 1, (void **)&index->fingerprint));
    return sq_alloc("versions", text_bytes[2], 1, (void **)&index->versions);
}

enum sq_status sq_store_index_share(const struct sq_comm *comm, struct sq_store_index *index)
{
    int64_t head[5] = {0};
    bool root = comm->rank == 0;
    if (root) {
        head[0] = index->n_layers;
        head[1] = index->names_bytes;
        head[2] = (int64_t)strlen(index->config) + 1;
        head[3] = (int64_t)strlen(index->fingerprint) + 1;
        head[4] = (int64_t)strlen(index->versions) + 1;
    }
    SQ_TRY(sq_comm_broadcast(comm, 0, head, sizeof head));
    index->n_layers = (int)head[0];
    index->names_bytes = head[1];
    SQ_TRY(sq_comm_agree(comm, root ? SQ_OK : allocate_shared(index, head + 2)));
    size_t n = (size_t)index->n_layers;
    SQ_TRY(sq_comm_broadcast(comm, 0, index->names, (size_t)index->names_bytes));
    SQ_TRY(sq_comm_broadcast(comm, 0, index->config, (size_t)head[2]));
    SQ_TRY(sq_comm_broadcast(comm, 0, index->fingerprint, (size_t)head[3]));
    SQ_TRY(sq_comm_broadcast(comm, 0, index->versions, (size_t)head[4]));
    SQ_TRY(sq_comm_broadcast(comm, 0, index->progress, n));
    SQ_TRY(sq_comm_broadcast(comm, 0, index->reports, n * sizeof *index->reports));
    SQ_TRY(sq_comm_broadcast(comm, 0, index->layers, n * sizeof *index->layers));
    return set_names("store", index); /* the pointers that came along are rank 0's */
}

void sq_store_index_release(struct sq_store_index *index)
{
    sq_free(index->layers);
    sq_free(index->names);
    sq_free(index->config);
    sq_free(index->fingerprint);
    sq_free(index->versions);
    sq_free(index->progress);
    sq_free(index->reports);
    *index = (struct sq_store_index){0};
}
