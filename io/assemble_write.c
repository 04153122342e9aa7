#include <unistd.h>

#include "base/memory.h"
#include "base/text.h"
#include "io/assemble_private.h"

/* The output files of this rank; each is opened when it is first needed. */
struct writer {
    const struct sq_assembly *assembly;
    const struct sq_format_writer *format;
    char **paths; /* [n_files] */
    int *fds;     /* [n_files]; -1: not open */
};

static enum sq_status make_writer(const struct sq_assembly *assembly, struct writer *writer)
{
    int n_files = assembly->plan.n_files;
    *writer = (struct writer){
        .assembly = assembly,
        .format = sq_format_writer_find(assembly->options->format, assembly->options->dequantized),
    };
    SQ_TRY(sq_alloc("file names", n_files, sizeof *writer->paths, (void **)&writer->paths));
    SQ_TRY(sq_alloc("open files", n_files, sizeof *writer->fds, (void **)&writer->fds));
    for (int f = 0; f < n_files; f++)
        writer->fds[f] = -1;
    return SQ_OK;
}

/* Closes all files; `status` is what happened before, and stays when it is an error: then the files are given up, and
 * need not reach the disk. */
static enum sq_status close_writer(struct writer *writer, enum sq_status status)
{
    for (int f = 0; f < writer->assembly->plan.n_files && writer->fds; f++) {
        int fd = writer->fds[f];
        if (fd >= 0 && status == SQ_OK)
            status = sq_file_close_synced(fd, writer->paths[f]);
        else if (fd >= 0)
            close(fd);
        sq_free(writer->paths[f]);
    }
    sq_free(writer->paths);
    sq_free(writer->fds);
    return status;
}

/* Before the first part of an output is written. */
static enum sq_status open_output(struct writer *writer, int64_t output)
{
    int f = writer->assembly->plan.outputs[output].file;
    if (!writer->paths[f])
        SQ_TRY(sq_path_join(writer->assembly->tmp, writer->assembly->plan.files[f].name, &writer->paths[f]));
    return writer->fds[f] < 0 ? sq_file_open_write(writer->paths[f], &writer->fds[f]) : SQ_OK;
}

/* Several threads may write parts. */
static enum sq_status write_part(const struct writer *writer, int64_t output, int64_t offset, const void *data,
                                 int64_t bytes)
{
    const struct sq_output *target = &writer->assembly->plan.outputs[output];
    int f = target->file;
    return sq_file_write_at(writer->fds[f], writer->paths[f], target->entry.offset + offset, data, (size_t)bytes);
}

/* --- layers ------------------------------------------------------------------------------------------------------- */

static void release_packed(struct sq_packed_layer *packed)
{
    for (int part = 0; part < packed->n_parts; part++)
        sq_free(packed->data[part]);
    sq_free(packed->zeros);
}

/* As sq_assemble_plan_make() listed the layer's parts, now with their data. */
static enum sq_status alloc_packed(const struct writer *writer, int l, struct sq_packed_layer *packed)
{
    int n_layers;
    const struct sq_assemble_plan *plan = &writer->assembly->plan;
    const struct sq_store_layer *layer = &sq_store_layers(writer->assembly->store, &n_layers)[l];
    packed->layer = layer;
    for (int part = 0; part < SQ_FORMAT_MAX_PARTS; part++) {
        int64_t output = plan->layer_outputs[l * SQ_FORMAT_MAX_PARTS + part];
        if (output < 0) break;
        packed->parts[part] = plan->outputs[output].entry;
        int64_t bytes = sq_safetensors_entry_bytes(&packed->parts[part]);
        SQ_TRY(sq_alloc(packed->parts[part].name, bytes, 1, &packed->data[part]));
        packed->n_parts++;
    }
    int64_t groups = sq_grid_n_groups(&layer->grid, layer->in_features);
    return sq_alloc("zeros", groups * layer->out_features, 1, (void **)&packed->zeros);
}

struct packing {
    const struct sq_format_writer *format;
    const struct sq_packed_layer *packed;
};

static enum sq_status pack_tile(void *context, int l, int64_t t, struct sq_assemble_tile *tile)
{
    const struct packing *packing = context;
    (void)l;
    packing->format->pack_rows(packing->packed, t * SQ_STORE_TILE_ROWS,
                               sq_assemble_tile_rows(packing->packed->layer, t), &tile->rows, tile->weights);
    return SQ_OK;
}

static enum sq_status pack_layer(const struct writer *writer, int l, const struct sq_packed_layer *packed)
{
    struct packing packing = {writer->format, packed};
    SQ_TRY(sq_assembly_each_tile(writer->assembly, l, pack_tile, &packing));
    writer->format->finish(packed);
    return SQ_OK;
}

static enum sq_status write_packed(struct writer *writer, int l, const struct sq_packed_layer *packed)
{
    for (int part = 0; part < packed->n_parts; part++) {
        int64_t output = writer->assembly->plan.layer_outputs[l * SQ_FORMAT_MAX_PARTS + part];
        int64_t bytes = sq_safetensors_entry_bytes(&packed->parts[part]);
        SQ_TRY(open_output(writer, output));
        SQ_TRY(write_part(writer, output, 0, packed->data[part], bytes));
    }
    return SQ_OK;
}

static enum sq_status write_layer(struct writer *writer, int l)
{
    struct sq_packed_layer packed = {0};
    enum sq_status status = alloc_packed(writer, l, &packed);
    if (status == SQ_OK) status = pack_layer(writer, l, &packed);
    if (status == SQ_OK) status = write_packed(writer, l, &packed);
    release_packed(&packed);
    return status;
}

/* --- the whole ---------------------------------------------------------------------------------------------------- */

enum sq_status sq_assemble_convert(const struct sq_output *output, int64_t first, int64_t count,
                                   struct sq_assemble_piece *piece)
{
    SQ_TRY(sq_tensor_read_elements_f32(output->source, first, count, piece->values));
    sq_dtype_from_f32(piece->values, count, output->entry.dtype, piece->converted);
    return SQ_OK;
}

/* A piece of a tensor that is kept in another type than the source's, or in another order. */
static enum sq_status write_converted(const struct writer *writer, int64_t index, const struct sq_assemble_part *part)
{
    struct sq_assemble_piece piece;
    const struct sq_output *output = &writer->assembly->plan.outputs[index];
    int64_t size = (int64_t)sq_dtype_size(output->entry.dtype), end = (part->offset + part->bytes) / size;
    for (int64_t first = part->offset / size, count; first < end; first += count) {
        count = end - first < SQ_ASSEMBLE_PIECE ? end - first : SQ_ASSEMBLE_PIECE;
        SQ_TRY(sq_assemble_convert(output, first, count, &piece));
        SQ_TRY(write_part(writer, index, first * size, piece.converted, count * size));
    }
    return SQ_OK;
}

struct copying {
    const struct writer *writer;
    const struct sq_output_job *job;
};

static enum sq_status copy_piece(void *context, int64_t index, int thread)
{
    const struct copying *copying = context;
    const struct sq_output *output = &copying->writer->assembly->plan.outputs[copying->job->output];
    const struct sq_tensor *source = output->source;
    struct sq_assemble_part part = sq_assemble_part(copying->job, index);
    int64_t size = (int64_t)sq_dtype_size(output->entry.dtype);
    (void)thread;
    if (output->entry.dtype != source->dtype || !sq_tensor_is_plain(source))
        return write_converted(copying->writer, copying->job->output, &part);
    if (!sq_tensor_is_finite(source, part.offset / size, part.bytes / size)) return SQ_ERR_NUMERIC;
    return write_part(copying->writer, copying->job->output, part.offset, (const char *)source->data + part.offset,
                      part.bytes);
}

static enum sq_status write_copy(struct writer *writer, const struct sq_output_job *job)
{
    struct copying copying = {writer, job};
    SQ_TRY(open_output(writer, job->output));
    SQ_TRY(sq_assembly_parallel(writer->assembly, sq_assemble_n_parts(job), copy_piece, &copying));
    sq_tensor_give_back(writer->assembly->plan.outputs[job->output].source);
    return SQ_OK;
}

static enum sq_status write_job(void *context, const struct sq_output_job *job)
{
    struct writer *writer = context;
    return job->layer < 0 ? write_copy(writer, job) : write_layer(writer, job->layer);
}

enum sq_status sq_assembly_write(const struct sq_assembly *assembly)
{
    struct writer writer;
    const struct sq_comm *comm = assembly->comm;
    enum sq_status status = sq_comm_agree(comm, make_writer(assembly, &writer));
    if (status == SQ_OK)
        status = sq_assembly_each_job(assembly, comm->rank, "writing the checkpoint", write_job, &writer);
    return sq_comm_agree(comm, close_writer(&writer, status));
}

void sq_assembly_report_not_finite(const struct sq_assembly *assembly)
{
    for (int64_t i = 0; i < assembly->plan.n_outputs; i++) {
        const struct sq_tensor *source = assembly->plan.outputs[i].source;
        if (source && sq_tensor_report_not_finite(source)) return;
    }
}
