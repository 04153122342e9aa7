#define _POSIX_C_SOURCE 200809L
#include "io/tokens.h"

#include <stdbool.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/log.h"
#include "base/memory.h"
#include "io/h5.h"

/* What rank 0 needs while it reads. */
struct source {
    const char *path;
    hid_t dataset;
    int64_t vocab_size, max_length;
    int64_t n_samples, length;
};

static enum sq_status check_type(const struct source *source)
{
    hid_t type = H5Dget_type(source->dataset);
    bool integer = type >= 0 && H5Tget_class(type) == H5T_INTEGER;
    if (type >= 0) H5Tclose(type);
    if (integer) return SQ_OK;
    sq_error("%s: dataset /tokens holds no integers (int32 is expected)", source->path);
    return SQ_ERR_INPUT;
}

/* A damaged shape may not ask for endless memory: deflate, the strongest of the usual filters, packs 1032 : 1 at best.
 */
static enum sq_status check_stored(const struct source *source)
{
    hsize_t stored = H5Dget_storage_size(source->dataset), file_bytes = 0;
    hid_t creation = H5Dget_create_plist(source->dataset), type = H5Dget_type(source->dataset);
    hid_t file = H5Iget_file_id(source->dataset);
    hsize_t ratio = H5Pget_layout(creation) == H5D_CHUNKED ? 1032 : 1;
    hsize_t bytes = (hsize_t)(source->n_samples * source->length) * H5Tget_size(type);
    bool good = H5Fget_filesize(file, &file_bytes) >= 0 && stored <= file_bytes && bytes / ratio <= stored;
    H5Fclose(file);
    H5Tclose(type);
    H5Pclose(creation);
    if (good) return SQ_OK;
    sq_error("%s: dataset /tokens is [%lld, %lld], but only %llu bytes of it are stored", source->path,
             (long long)source->n_samples, (long long)source->length, (unsigned long long)stored);
    return SQ_ERR_INPUT;
}

static enum sq_status check_shape(struct source *source)
{
    hsize_t dims[2] = {0, 0};
    hid_t space = H5Dget_space(source->dataset);
    int n_dims = H5Sget_simple_extent_ndims(space);
    if (n_dims == 2) H5Sget_simple_extent_dims(space, dims, NULL);
    H5Sclose(space);
    if (n_dims != 2) {
        sq_error("%s: dataset /tokens has %d dimensions where 2 are expected, [samples, length]", source->path, n_dims);
        return SQ_ERR_INPUT;
    }
    if (dims[0] == 0 || dims[1] == 0 || dims[0] > INT32_MAX || dims[1] > INT32_MAX) {
        sq_error("%s: dataset /tokens is %s: [%llu samples, %llu tokens]", source->path,
                 dims[0] && dims[1] ? "too large" : "empty", (unsigned long long)dims[0], (unsigned long long)dims[1]);
        return SQ_ERR_INPUT;
    }
    source->n_samples = (int64_t)dims[0];
    source->length = (int64_t)dims[1];
    SQ_TRY(check_stored(source));
    if (source->max_length && source->length > source->max_length) {
        sq_error("%s: samples of %lld tokens are longer than the model's %lld positions", source->path,
                 (long long)source->length, (long long)source->max_length);
        return SQ_ERR_INPUT;
    }
    return SQ_OK;
}

static enum sq_status refuse_id(const struct source *source, int64_t sample, int64_t position, int64_t id, int64_t end)
{
    if (id < 0)
        sq_error("%s: sample %lld, position %lld: id %lld is negative, which no id is", source->path, (long long)sample,
                 (long long)position, (long long)id);
    else if (source->vocab_size)
        sq_error("%s: sample %lld, position %lld: id %lld is not in the vocabulary of %lld ids (0 ... %lld)",
                 source->path, (long long)sample, (long long)position, (long long)id, (long long)end,
                 (long long)end - 1);
    else
        sq_error("%s: sample %lld, position %lld: id %lld is larger than %lld, the largest there can be", source->path,
                 (long long)sample, (long long)position, (long long)id, (long long)end - 1);
    return SQ_ERR_INPUT;
}

/* row int64 [length] -> ids int32 [length], each checked */
static enum sq_status convert_sample(const struct source *source, int64_t sample, const int64_t *row, int32_t *ids)
{
    int64_t end = source->vocab_size ? source->vocab_size : INT32_MAX;
    for (int64_t i = 0; i < source->length; i++) {
        if (row[i] < 0 || row[i] >= end) return refuse_id(source, sample, i, row[i], end);
        ids[i] = (int32_t)row[i];
    }
    return SQ_OK;
}

/* Ids pass through int64, so that one that int32 does not hold is reported as it is. */
static enum sq_status read_ids(const struct source *source, int32_t *ids)
{
    void *row;
    SQ_TRY(sq_alloc("one sample of tokens", source->length, sizeof(int64_t), &row));
    enum sq_status status = SQ_OK;
    for (int64_t s = 0; s < source->n_samples && status == SQ_OK; s++) {
        status = sq_h5_read_rows(source->dataset, H5T_NATIVE_INT64, s, 1, row);
        if (status == SQ_OK)
            status = convert_sample(source, s, row, ids + s * source->length);
        else
            status = SQ_ERR_INPUT;
    }
    sq_free(row);
    return status;
}

/* The same ids cut into other samples are other tokens. */
static uint64_t hash_tokens(const struct sq_tokens *tokens)
{
    const int64_t shape[2] = {tokens->n_samples, tokens->length};
    size_t bytes = (size_t)(tokens->n_samples * tokens->length) * sizeof *tokens->ids;
    return XXH3_64bits_withSeed(tokens->ids, bytes, XXH3_64bits(shape, sizeof shape));
}

static enum sq_status read_dataset(struct source *source, struct sq_tokens *tokens)
{
    SQ_TRY(check_type(source));
    SQ_TRY(check_shape(source));
    tokens->n_samples = source->n_samples;
    tokens->length = source->length;
    SQ_TRY(sq_alloc("tokens", source->n_samples * source->length, sizeof(int32_t), (void **)&tokens->ids));
    SQ_TRY(read_ids(source, tokens->ids));
    SQ_TRY(sq_h5_attributes_text(source->dataset, &tokens->provenance));
    tokens->hash = hash_tokens(tokens);
    return SQ_OK;
}

/* Rank 0; what was allocated before an error stays in tokens for the caller to release. */
static enum sq_status read_file(struct source *source, struct sq_tokens *tokens)
{
    hid_t file;
    SQ_TRY(sq_h5_open(source->path, &file));
    enum sq_status status = SQ_ERR_INPUT;
    source->dataset = H5Dopen2(file, "tokens", H5P_DEFAULT);
    if (source->dataset >= 0) {
        status = read_dataset(source, tokens);
        H5Dclose(source->dataset);
    } else {
        sq_h5_error(file, "open dataset", "tokens");
    }
    H5Fclose(file);
    return status;
}

/* Sends what rank 0 has read. Collective. */
static enum sq_status share(const struct sq_comm *comm, struct sq_tokens *tokens)
{
    int64_t head[3] = {tokens->n_samples, tokens->length, 0};
    if (comm->rank == 0) head[2] = (int64_t)strlen(tokens->provenance) + 1;
    SQ_TRY(sq_comm_broadcast(comm, 0, head, sizeof head));
    enum sq_status status = SQ_OK;
    if (comm->rank != 0) {
        tokens->n_samples = head[0];
        tokens->length = head[1];
        status = sq_alloc("tokens", head[0] * head[1], sizeof(int32_t), (void **)&tokens->ids);
        if (status == SQ_OK) status = sq_alloc("provenance", head[2], 1, (void **)&tokens->provenance);
    }
    SQ_TRY(sq_comm_agree(comm, status));
    SQ_TRY(sq_comm_broadcast(comm, 0, &tokens->hash, sizeof tokens->hash));
    SQ_TRY(sq_comm_broadcast(comm, 0, tokens->provenance, (size_t)head[2]));
    return sq_comm_broadcast(comm, 0, tokens->ids, (size_t)(head[0] * head[1]) * sizeof(int32_t));
}

enum sq_status sq_tokens_read(const struct sq_comm *comm, const char *path, int64_t vocab_size, int64_t max_length,
                              struct sq_tokens *tokens_p)
{
    struct sq_tokens tokens = {0};
    enum sq_status status = SQ_OK;
    if (comm->rank == 0) {
        struct source source = {.path = path, .vocab_size = vocab_size, .max_length = max_length};
        status = read_file(&source, &tokens);
    }
    status = sq_comm_agree(comm, status);
    if (status == SQ_OK) status = share(comm, &tokens);
    if (status != SQ_OK) {
        sq_tokens_release(&tokens);
        return status;
    }
    *tokens_p = tokens;
    return SQ_OK;
}

void sq_tokens_release(struct sq_tokens *tokens)
{
    sq_free(tokens->ids);
    sq_free(tokens->provenance);
    *tokens = (struct sq_tokens){0};
}
