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

static enum sq_status check_tile(void *context, int l, int64_t t, struct sq_assemble_tile *tile)
{
    int n_layers;
    const struct checker *checker = context;
    const struct sq_assembly *assembly = checker->assembly;
    const struct sq_store_layer *layer = &sq_store_layers(assembly->store, &n_layers)[l];
    int64_t row = t * SQ_STORE_TILE_ROWS, rows = sq_assemble_tile_rows(layer, t);
    int64_t first_part = assembly->plan.layer_outputs[l * SQ_FORMAT_MAX_PARTS];
    sq_grid_dequantize(&layer->grid, rows, layer->in_features, tile->rows.codes, tile->rows.scales, tile->rows.zeros,
                       tile->weights);
    if (assembly->options->dequantized)
        round_rows(assembly->plan.outputs[first_part].entry.dtype, rows, layer->in_features, tile->weights,
                   tile->found);
    struct sq_checkpoint_linear in_folder = {layer->name, layer->out_features, layer->in_features,
                                             layer->is_transposed};
    enum sq_status status = sq_checkpoint_read_linear(checker->written, &in_folder, row, rows, tile->found);
    if (status == SQ_ERR_NUMERIC) (void)sq_checkpoint_report_linear(checker->written, layer->name);
    SQ_TRY(status);
    return compare_rows(checker, layer, row, rows, tile->weights, tile->found);
}

/* What was written of a tensor, which is of the output's type and shape, beside the source. */
struct comparing {
    const struct sq_output *output;
    const struct sq_tensor *found;
    const struct sq_output_job *job;
    bool *differs; /* [parts of the job] */
};

static enum sq_status compare_converted(const struct comparing *comparing, const struct sq_assemble_part *part,
                                        bool *differs_p)
{
    struct sq_assemble_piece piece;
    const struct sq_tensor *found = comparing->found;
    int64_t size = (int64_t)sq_dtype_size(found->dtype), end = (part->offset + part->bytes) / size;
    for (int64_t first = part->offset / size, count; first < end && !*differs_p; first += count) {
        count = end - first < SQ_ASSEMBLE_PIECE ? end - first : SQ_ASSEMBLE_PIECE;
        SQ_TRY(sq_assemble_convert(comparing->output, first, count, &piece));
        *differs_p = memcmp((const char *)found->data + first * size, piece.converted, (size_t)(count * size)) != 0;
    }
    return SQ_OK;
}

static enum sq_status compare_part(void *context, int64_t index, int thread)
{
    const struct comparing *comparing = context;
    const struct sq_tensor *source = comparing->output->source, *found = comparing->found;
    struct sq_assemble_part part = sq_assemble_part(comparing->job, index);
    (void)thread;
    if (source->dtype != found->dtype || !sq_tensor_is_plain(source))
        return compare_converted(comparing, &part, &comparing->differs[index]);
    const char *wanted = (const char *)source->data + part.offset;
    comparing->differs[index] = memcmp((const char *)found->data + part.offset, wanted, (size_t)part.bytes) != 0;
    return SQ_OK;
}

static enum sq_status compare_copy(const struct sq_assembly *assembly, const struct sq_output_job *job,
                                   const struct sq_tensor *found, bool *is_same_p)
{
    struct comparing comparing = {&assembly->plan.outputs[job->output], found, job, NULL};
    int64_t n_parts = sq_assemble_n_parts(job);
    SQ_TRY(sq_alloc("what differs", n_parts, sizeof *comparing.differs, (void **)&comparing.differs));
    enum sq_status status = sq_assembly_parallel(assembly, n_parts, compare_part, &comparing);
    *is_same_p = true;
    for (int64_t i = 0; i < n_parts; i++)
        if (comparing.differs[i]) *is_same_p = false;
    sq_free(comparing.differs);
    return status;
}

static enum sq_status check_copy(const struct checker *checker, const struct sq_output_job *job)
{
    const struct sq_output *output = &checker->assembly->plan.outputs[job->output];
    const struct sq_tensor *source = output->source, *found = sq_checkpoint_find(checker->written, source->name);
    bool is_same = found && found->dtype == output->entry.dtype && found->n_dims == source->n_dims &&
                   !memcmp(found->shape, source->shape, (size_t)source->n_dims * sizeof *source->shape);
    if (is_same) SQ_TRY(compare_copy(checker->assembly, job, found, &is_same));
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
    struct checker *checker = context;
    if (job->layer < 0) return check_copy(checker, job);
    return sq_assembly_each_tile(checker->assembly, job->layer, check_tile, checker);
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
