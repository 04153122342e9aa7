#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "io/assemble_private.h"

struct checker {
    const struct sq_assembly *assembly;
    struct sq_checkpoint *written;
};

static enum sq_status compare_rows(const struct checker *checker, const struct sq_store_layer *layer, int64_t row,
                                   int64_t rows, const float *wanted, const float *found)
{
    for (int64_t i = 0; i < rows * layer->in_features; i++) {
        if (!memcmp(&wanted[i], &found[i], sizeof *wanted)) continue;
        sq_error("%s: %s: weight [%lld, %lld] reads as %.9g, where the store has %.9g", checker->assembly->tmp,
                 layer->name, (long long)(row + i / layer->in_features), (long long)(i % layer->in_features),
                 (double)found[i], (double)wanted[i]);
        return SQ_ERR_IO;
    }
    return SQ_OK;
}

/* What a reader of the rounded checkpoint sees. rounded: room for one row of the widest type. */
static void round_rows(enum sq_dtype dtype, int64_t rows, int64_t in_features, float *weights, void *rounded)
{
    for (int64_t r = 0; r < rows; r++) {
        sq_dtype_from_f32(weights + r * in_features, in_features, dtype, rounded);
        sq_dtype_to_f32(dtype, rounded, in_features, weights + r * in_features);
    }
}

/* found: [SQ_STORE_TILE_ROWS, in_features]; before it is filled it serves for rounding. */
static enum sq_status check_tile(const struct checker *checker, int l, int64_t t, struct sq_assemble_tile *tile,
                                 float *found)
{
    int n_layers;
    const struct sq_assembly *assembly = checker->assembly;
    const struct sq_store_layer *layer = &sq_store_layers(assembly->store, &n_layers)[l];
    int64_t row = t * SQ_STORE_TILE_ROWS, rows = sq_assemble_tile_rows(layer, t);
    int64_t first_part = assembly->plan.layer_outputs[l * SQ_FORMAT_MAX_PARTS];
    SQ_TRY(sq_store_read_tile(assembly->store, l, t, &tile->rows));
    sq_grid_dequantize(&layer->grid, rows, layer->in_features, tile->rows.codes, tile->rows.scales, tile->rows.zeros,
                       tile->weights);
    if (assembly->options->dequantized)
        round_rows(assembly->plan.outputs[first_part].entry.dtype, rows, layer->in_features, tile->weights, found);
    struct sq_checkpoint_linear in_folder = {layer->name, layer->out_features, layer->in_features,
                                             layer->is_transposed};
    enum sq_status status = sq_checkpoint_read_linear(checker->written, &in_folder, row, rows, found);
    if (status == SQ_ERR_NUMERIC) (void)sq_checkpoint_report_linear(checker->written, layer->name);
    SQ_TRY(status);
    return compare_rows(checker, layer, row, rows, tile->weights, found);
}

static enum sq_status check_layer(const struct checker *checker, int l)
{
    int n_layers;
    const struct sq_store_layer *layer = &sq_store_layers(checker->assembly->store, &n_layers)[l];
    struct sq_assemble_tile tile;
    void *found = NULL;
    SQ_TRY(sq_assemble_tile_alloc(layer, &tile));
    enum sq_status status = sq_alloc("weights read back", SQ_STORE_TILE_ROWS * layer->in_features, 4, &found);
    for (int64_t t = 0; t < sq_assemble_n_tiles(layer) && status == SQ_OK; t++)
        status = check_tile(checker, l, t, &tile, found);
    sq_free(found);
    sq_assemble_tile_release(&tile);
    return status;
}

/* The bytes [offset, offset + bytes) of what was written, which is of the output's type and shape. */
static enum sq_status compare_copy(const struct sq_output *output, const struct sq_tensor *found, int64_t offset,
                                   int64_t bytes, bool *is_same_p)
{
    const struct sq_tensor *source = output->source;
    if (source->dtype == found->dtype) {
        *is_same_p = !memcmp((const char *)found->data + offset, (const char *)source->data + offset, (size_t)bytes);
        return SQ_OK;
    }
    struct sq_assemble_piece piece;
    int64_t size = (int64_t)sq_dtype_size(found->dtype), end = (offset + bytes) / size;
    *is_same_p = true;
    for (int64_t first = offset / size, count; first < end && *is_same_p; first += count) {
        count = end - first < SQ_ASSEMBLE_PIECE ? end - first : SQ_ASSEMBLE_PIECE;
        SQ_TRY(sq_assemble_convert(output, first, count, &piece));
        *is_same_p = !memcmp((const char *)found->data + first * size, piece.converted, (size_t)(count * size));
    }
    return SQ_OK;
}

static enum sq_status check_copy(const struct checker *checker, const struct sq_output_job *job)
{
    const struct sq_output *output = &checker->assembly->plan.outputs[job->output];
    const struct sq_tensor *source = output->source, *found = sq_checkpoint_find(checker->written, source->name);
    bool is_same = found && found->dtype == output->entry.dtype && found->n_dims == source->n_dims &&
                   !memcmp(found->shape, source->shape, (size_t)source->n_dims * sizeof *source->shape);
    if (is_same) SQ_TRY(compare_copy(output, found, job->offset, job->bytes, &is_same));
    if (!is_same) {
        sq_error("%s: tensor %s does not read as it was in %s", checker->assembly->tmp, source->name, source->file);
        return SQ_ERR_IO;
    }
    sq_tensor_give_back(source);
    sq_tensor_give_back(found);
    return SQ_OK;
}

static enum sq_status check_job(void *context, const struct sq_output_job *job)
{
    const struct checker *checker = context;
    return job->layer < 0 ? check_copy(checker, job) : check_layer(checker, job->layer);
}

static enum sq_status open_written(struct checker *checker)
{
    const struct sq_assembly *assembly = checker->assembly;
    SQ_TRY(sq_checkpoint_open(assembly->tmp, &checker->written));
    if (sq_checkpoint_n_tensors(checker->written) == assembly->plan.n_outputs) return SQ_OK;
    sq_error("%s: %lld tensors where %lld were written", assembly->tmp,
             (long long)sq_checkpoint_n_tensors(checker->written), (long long)assembly->plan.n_outputs);
    return SQ_ERR_IO;
}

enum sq_status sq_assembly_check(const struct sq_assembly *assembly)
{
    struct checker checker = {.assembly = assembly};
    const struct sq_comm *comm = assembly->comm;
    enum sq_status status = sq_comm_agree(comm, open_written(&checker));
    int neighbour = (comm->rank + 1) % comm->size;
    if (status == SQ_OK)
        status = sq_assembly_each_job(assembly, neighbour, "checking the checkpoint", check_job, &checker);
    sq_checkpoint_close(checker.written);
    return status;
}
